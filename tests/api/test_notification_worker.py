"""The notification worker over a real log, with a fake transport."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from commands.aggregates import NOTIFICATION
from commands.caller import SYSTEM
from commands.handler import CommandHandler
from commands.ports.notifications import Message, NotDelivered
from commands.ports.queue import Job, JobAttempt
from commands.workers.notifications import NotificationWorker
from domain import notifications
from domain.identity import User
from domain.notification_texts import Channel
from domain.notifications import (
    NotificationFailed,
    NotificationRequested,
    NotificationSent,
)
from eventstore.repository import Repository
from eventstore.unit_of_work import UnitOfWork
from runtime.settings import Settings
from runtime.wiring.core import Core, open_core
from tests.support.shops.gateway import projecting

pytestmark = pytest.mark.asyncio(loop_scope="module")

ATTEMPTS = 3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def core(
    module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Core]:
    home: Path = tmp_path_factory.mktemp("home")
    async with (
        open_core(Settings(home=home, database_url=module_database)) as core,
        projecting(module_database),
    ):
        yield core


class FakeTransport:
    """Accepts every notification once its list of errors is used up."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.taken = list[Message]()

    async def send(self, message: Message) -> str:
        if self.errors:
            raise self.errors.pop(0)
        self.taken.append(message)
        return f"ref-{len(self.taken)}"


class Desk:
    """A requested notification, and a worker that tries to send it."""

    def __init__(self, core: Core, transport: FakeTransport, notification_id: UUID) -> None:
        self._core = core
        self.notification_id = notification_id
        self._worker = NotificationWorker(core.handler, {"email": transport, "push": transport})

    async def attempt(self, number: int) -> None:
        job = Job(uuid4(), "mail", {"notice_id": str(self.notification_id)})
        await self._worker.handle(JobAttempt(job, number, last=number == ATTEMPTS))

    async def fail_all(self, error: type[Exception]) -> None:
        for number in range(1, ATTEMPTS + 1):
            with pytest.raises(error):
                await self.attempt(number)

    async def outcome(self) -> list[object]:
        return [
            recorded.event for recorded in await self._core.log.read_stream(self.notification_id)
        ][1:]


async def asked(
    core: Core,
    transport: FakeTransport,
    channel: Channel = "email",
    email: str = "",
    ann: User | None = None,
) -> Desk:
    """Request a notification for Ann."""
    email = email or f"{uuid4().hex}@example.com"
    ann = (
        ann
        or (
            await core.commands.accounts.register(SYSTEM, email=email, password=None, name="Ann")
        ).value
    )
    notification_id, user_id = uuid4(), ann.user_id
    wanted = NotificationRequested(
        user_id=user_id,
        channel=channel,
        template="transfer_sent",
        cause_event_id=uuid4(),
        params={"name": "Ann", "amount": "5.00 USD", "transaction_id": "7"},
    )

    async def decision(unit: UnitOfWork) -> None:
        unit.create(NOTIFICATION, notification_id, [wanted])

    await core.handler.handle(decision, SYSTEM)
    return Desk(core, transport, notification_id)


async def test_a_notice_is_sent_once_under_its_own_id(core: Core) -> None:
    transport = FakeTransport()
    desk = await asked(core, transport)
    await desk.attempt(1)
    await desk.attempt(1)
    assert await desk.outcome() == [NotificationSent(provider_ref="ref-1")]
    (message,) = transport.taken
    assert (message.template, message.name, message.subject) == (
        "transfer_sent",
        "",
        "You sent 5.00 USD",
    )
    assert message.text.startswith("Hello,")


async def sent_by_another_process(core: Core, notification_id: UUID) -> None:
    """Record that it was sent, of which the worker's own cache learns nothing."""

    async def decision(unit: UnitOfWork) -> None:
        current = await unit.get(NOTIFICATION, notification_id)
        unit.emit(notification_id, notifications.mark_sent(current, "theirs"))

    await CommandHandler(Repository(core.log), core.clock).handle(decision, SYSTEM)


@pytest.mark.parametrize("number", [1, 2])
async def test_what_another_process_has_sent_is_not_sent_again(core: Core, number: int) -> None:
    transport = FakeTransport()
    desk = await asked(core, transport)
    await sent_by_another_process(core, desk.notification_id)
    await desk.attempt(number)
    assert transport.taken == []
    assert await desk.outcome() == [NotificationSent(provider_ref="theirs")]


async def test_a_push_notice_is_no_letter(core: Core) -> None:
    transport = FakeTransport()
    await (await asked(core, transport, "push")).attempt(1)
    assert "Hello" not in transport.taken[0].text


async def test_a_notice_that_a_retry_sends_never_failed(core: Core) -> None:
    transport = FakeTransport(NotDelivered("try_later", "451"), NotDelivered("unreachable", ""))
    desk = await asked(core, transport)
    for number in (1, 2):
        with pytest.raises(NotDelivered):
            await desk.attempt(number)
    await desk.attempt(3)
    assert await desk.outcome() == [NotificationSent(provider_ref="ref-1")]


async def test_after_the_last_attempt_the_failure_is_recorded_and_a_redrive_may_mend_it(
    core: Core,
) -> None:
    refused = [NotDelivered("recipient_refused", "550 unknown")] * (2 * ATTEMPTS)
    desk = await asked(core, FakeTransport(*refused))
    failed = NotificationFailed(code="recipient_refused", attempts=ATTEMPTS)
    for _ in ("the first time", "redriven in vain"):
        await desk.fail_all(NotDelivered)
        assert await desk.outcome() == [failed]
    await desk.attempt(1)
    assert await desk.outcome() == [failed, NotificationSent(provider_ref="ref-1")]


async def test_what_is_wrong_with_the_transport_itself_is_a_failure_too(core: Core) -> None:
    desk = await asked(core, FakeTransport(*[OSError("disk full")] * ATTEMPTS))
    await desk.fail_all(OSError)
    assert await desk.outcome() == [NotificationFailed(code="internal_error", attempts=ATTEMPTS)]


async def test_imported_people_are_written_to_by_nobody(core: Core) -> None:
    transport = FakeTransport()
    desk = await asked(core, transport, email=f"{uuid4().hex}@import.invalid")
    await desk.attempt(1)
    assert await desk.outcome() == [NotificationFailed(code="recipient_unreachable", attempts=1)]
    assert transport.taken == []


async def test_an_address_that_nobody_verified_is_not_written_to_without_end(core: Core) -> None:
    transport, most = FakeTransport(), 20
    ann = (
        await core.commands.accounts.register(
            SYSTEM, email=f"{uuid4().hex}@example.com", password=None, name="Ann"
        )
    ).value
    worker = NotificationWorker(core.handler, {"email": transport})

    async def told() -> list[object]:
        desk = await asked(core, transport, ann=ann)
        await worker.handle(
            JobAttempt(
                Job(uuid4(), "mail", {"notice_id": str(desk.notification_id)}), 1, last=False
            )
        )
        return await desk.outcome()

    for _ in range(most):
        await told()
    assert await told() == [NotificationFailed(code="recipient_unverified", attempts=1)]
    assert len(transport.taken) == most

    token = core.commands.mail_tokens.make("verify-email", ann, core.clock.now())
    await core.commands.mail_proofs.verify_email(SYSTEM, token)
    assert await told() == [NotificationSent(provider_ref=f"ref-{most + 1}")]


async def test_what_one_worker_did_not_try_another_does_not_send_when_the_job_comes_again(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a reactor is stopped before its checkpoint is saved: it publishes the job again."""
    transport = FakeTransport()
    desk = await asked(core, transport)
    job = JobAttempt(Job(uuid4(), "mail", {"notice_id": str(desk.notification_id)}), 1, last=False)
    with monkeypatch.context() as strict:
        strict.setattr("commands.workers.notifications.UNVERIFIED_AN_HOUR", 0)
        await NotificationWorker(core.handler, {"email": transport}).handle(job)
    await NotificationWorker(core.handler, {"email": transport}).handle(job)
    assert await desk.outcome() == [NotificationFailed(code="recipient_unverified", attempts=1)]
    assert transport.taken == []


async def test_a_person_who_was_forgotten_meanwhile_is_not_written_to(core: Core) -> None:
    transport = FakeTransport()
    desk = await asked(core, transport)
    notification = await core.repository.state(NOTIFICATION, desk.notification_id)
    assert isinstance(notification, notifications.Notification)
    await core.commands.account_ends.close(SYSTEM, notification.user_id, forget=True)
    await desk.attempt(1)
    assert await desk.outcome() == [NotificationFailed(code="recipient_unknown", attempts=1)]
    assert transport.taken == []
