"""The provider's notices over HTTP: in any order and with any repeats, the outcome is the same."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio

from adapters.webhooks.signature import sign
from commands.orders import OrderAndPayment
from commands.ports.queue import Job, JobAttempt
from domain.ids import notice_id
from domain.notices import NoticeKept
from runtime.wiring.work import payment_worker
from tests.support.servers.provider import SECRET
from tests.support.shops.gateway import CARD, Person, Shop, open_shop

PRICE, NEXT_SECRET = 1999, "whsec_next"
SUCCEEDED, FAILED = "payment_intent.succeeded", "payment_intent.payment_failed"
ACTION, CANCELED, REFUNDED = (
    "payment_intent.requires_action",
    "payment_intent.canceled",
    "charge.refunded",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(
    module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    """A shop whose webhook secret is being rotated."""
    secrets = f"{NEXT_SECRET},{SECRET}"
    async with open_shop(
        module_database, tmp_path_factory.mktemp("shop"), payment_webhook_secrets=secrets
    ) as shop:
        yield shop


# -- an order, and notices about its payment -------------------------------------------------------


@dataclass
class Unpaid:
    """An order whose payment awaits the provider's report."""

    shop: Shop
    order_id: UUID
    payment_id: UUID

    def notice(
        self,
        type: str,
        *,
        id: str = "",
        intent: str = "",
        at: datetime | None = None,
        **fields: Any,
    ) -> bytes:
        about = {
            "id": intent or f"pi_{self.payment_id.hex}",
            "amount": PRICE,
            "currency": "usd",
            "metadata": {"payment_id": str(self.payment_id)},
            **fields,
        }
        created = int((at or datetime.now(UTC)).timestamp())
        event = {
            "id": id or f"evt_{uuid4().hex}",
            "type": type,
            "created": created,
            "data": {"object": about},
        }
        return json.dumps(event).encode()

    async def now(self) -> OrderAndPayment:
        return await self.shop.services.commands.orders.when_ready(self.order_id, 0)

    async def ends_as(self, order_status: str, payment_status: str) -> OrderAndPayment:
        return await self.shop.eventually(
            self.now,
            lambda now: (now.order.status, now.payment.status) == (order_status, payment_status),
        )

    async def events(self) -> list[str]:
        return [
            recorded.env.name for recorded in await self.shop.core.log.read_stream(self.payment_id)
        ]

    async def kept(self, notice: str) -> list[NoticeKept]:
        """The notice with this id as it was kept."""
        stream = await self.shop.core.log.read_stream(notice_id(self.payment_id, notice))
        return [each.event for each in stream if isinstance(each.event, NoticeKept)]

    def log_lines(self) -> list[str]:
        """The webhook's text log about this payment, without times."""
        return [
            line.split(" ", 1)[1] for line in text_log(self.shop) if str(self.payment_id) in line
        ]


def text_log(shop: Shop) -> list[str]:
    path: Path = shop.core.settings.home / "logs" / "payment-webhook.txt"
    return path.read_text().splitlines()


async def send(shop: Shop, body: bytes, *, secret: str = SECRET, late: float = 0) -> httpx.Response:
    """Deliver a body signed this many seconds ago."""
    signature = sign(body, secret, int(datetime.now(UTC).timestamp() - late))
    return await shop.client().post(
        "/api/v1/payments/webhook", content=body, headers={"Stripe-Signature": signature}
    )


async def work_is_done(shop: Shop) -> None:
    """No request to the provider is left, and no job is a dead letter."""
    async with asyncio.timeout(10):
        while await shop.queues["ludoteca.payments"].depth():
            pass  # the poll itself takes a while
    assert await shop.queues["ludoteca.payments"].dead() == 0


async def order(
    shop: Shop, buyer: Person, seller: Person, token: str | None = None, **headers: str
) -> Unpaid:
    game = await shop.game(seller)
    body: dict[str, Any] = {"game_id": game["id"]}
    if token:
        body["payment_method"] = {"type": "card", "token": token}
    answer = await buyer.post("/api/v1/orders", json=body, headers={"Prefer": "wait=10", **headers})
    assert answer.status_code in {201, 202}, answer.text
    return Unpaid(shop, UUID(answer.json()["order_id"]), UUID(answer.json()["payment_id"]))


@pytest_asyncio.fixture(loop_scope="module")
async def unpaid(shop: Shop, buyer: Person, seller: Person) -> Unpaid:
    return await order(shop, buyer, seller)


# -- repeats, orders, delays -----------------------------------------------------------------------


async def test_a_notice_that_comes_twenty_times_ten_of_them_at_once_counts_once(
    shop: Shop, unpaid: Unpaid
) -> None:
    body = unpaid.notice(SUCCEEDED, id=f"evt_{unpaid.payment_id.hex}")

    answers = await asyncio.gather(*(send(shop, body) for _ in range(10)))
    answers += [await send(shop, body) for _ in range(10)]

    assert {answer.status_code for answer in answers} == {200}
    assert all("event-position" in answer.headers for answer in answers)
    await unpaid.ends_as("COMPLETED", "CAPTURED")
    names = await unpaid.events()
    assert (
        names.count("payment.notice_received.v1"),
        names.count("payment.transaction.completed.v1"),
    ) == (1, 1)
    (kept,) = await unpaid.kept(f"evt_{unpaid.payment_id.hex}")
    assert kept.received is not None
    assert kept.received.body.encode() == body
    steps = [line.split(" event=")[0] for line in unpaid.log_lines()]
    assert (steps.count("webhook applied"), steps.count("webhook repeated")) == (1, 19)


@pytest.mark.parametrize(
    ("told", "order_status", "payment_status"),
    [
        ((SUCCEEDED, ACTION, FAILED, CANCELED), "COMPLETED", "CAPTURED"),
        ((ACTION, SUCCEEDED), "COMPLETED", "CAPTURED"),
        ((SUCCEEDED, REFUNDED), "REFUNDED", "REFUNDED"),
        ((REFUNDED, SUCCEEDED), "REFUNDED", "REFUNDED"),
        ((REFUNDED, ACTION, SUCCEEDED, REFUNDED), "REFUNDED", "REFUNDED"),
        # The order is called off at the first of these; money that comes all the same goes back by
        # itself.
        ((FAILED, SUCCEEDED), "CANCELLED", "REFUNDED"),
        ((CANCELED, SUCCEEDED, FAILED), "CANCELLED", "REFUNDED"),
    ],
)
async def test_notices_in_any_order_end_where_the_money_is(
    shop: Shop,
    buyer: Person,
    unpaid: Unpaid,
    told: tuple[str, ...],
    order_status: str,
    payment_status: str,
) -> None:
    for type in told:
        refunded: dict[str, Any] = {"amount_refunded": PRICE} if type == REFUNDED else {}
        assert (await send(shop, unpaid.notice(type, **refunded))).status_code == 200

    end = await unpaid.ends_as(order_status, payment_status)

    back = PRICE if payment_status == "REFUNDED" else 0
    assert end.payment.refunded_cents == back
    own = f"/api/v1/orders/{unpaid.order_id}"
    shown = [await buyer.get(own, headers=await shop.reached()), await buyer.get("/api/v1/orders")]
    exported = (await buyer.get("/api/v1/users/me/export")).json()["orders"]
    orders = [
        shown[0].json(),
        *(
            each
            for each in (*shown[1].json()["items"], *exported)
            if own.endswith(each["order_id"])
        ),
    ]
    assert [each["refunded_cents"] for each in orders] == [back] * 3
    assert (await unpaid.events()).count("payment.transaction.completed.v1") == 1
    assert len(end.payment.notices) == len(told)
    await work_is_done(shop)

    async def owned() -> list[str]:
        library = await buyer.get("/api/v1/library", headers=await shop.reached())
        return [each["order_id"] for each in library.json()["items"]]

    wanted = [str(unpaid.order_id)] if order_status == "COMPLETED" else []
    assert await shop.eventually(owned, lambda found: found == wanted) == wanted


async def test_a_refund_of_who_was_forgotten_counts_and_its_notice_is_kept_without_its_text(
    shop: Shop, buyer: Person, unpaid: Unpaid
) -> None:
    await send(shop, unpaid.notice(SUCCEEDED, id="evt_before"))
    await unpaid.ends_as("COMPLETED", "CAPTURED")
    await work_is_done(shop)
    answer = await buyer.delete("/api/v1/users/me", params={"forget": True})
    assert answer.status_code == 204, answer.text
    refunded = unpaid.notice(REFUNDED, id="evt_after", amount_refunded=PRICE)
    assert (await send(shop, refunded)).status_code == 200
    await unpaid.ends_as("REFUNDED", "REFUNDED")
    [before], [after] = [await unpaid.kept(each) for each in ("evt_before", "evt_after")]
    assert (before.received, before.withheld) == (None, None), "its key is destroyed"
    assert (after.received, after.withheld) == (None, "forgotten")
    assert after.body_bytes == len(refunded)


async def test_a_notice_three_days_late_counts_by_when_it_was_signed(
    shop: Shop, unpaid: Unpaid
) -> None:
    await send(shop, unpaid.notice(SUCCEEDED, at=datetime.now(UTC) - timedelta(days=3)), late=299)
    await unpaid.ends_as("COMPLETED", "CAPTURED")


async def test_money_for_an_order_that_its_buyer_called_off_goes_back_by_itself(
    shop: Shop, buyer: Person, unpaid: Unpaid
) -> None:
    assert (await buyer.post(f"/api/v1/orders/{unpaid.order_id}/cancel")).status_code == 200
    await send(shop, unpaid.notice(SUCCEEDED, intent="pi_that_nobody_made"))
    await unpaid.ends_as("CANCELLED", "REFUNDED")
    await work_is_done(shop)


# -- before our own call returned ------------------------------------------------------------------


@dataclass
class Held:
    """A call to the provider whose answer is held back: `made` is set once the provider has done
    it."""

    made: asyncio.Event
    answer: asyncio.Event


@pytest.fixture
def hold(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Held]:
    """Hold back the provider's answers to calls of this name."""

    def hold_back(name: str) -> Held:
        held = Held(asyncio.Event(), asyncio.Event())
        call: Callable[..., Awaitable[object]] = getattr(shop.core.adapters.payment_provider, name)

        async def slowly(*args: object, **options: Any) -> object:
            result = await call(*args, **options)
            held.made.set()
            await held.answer.wait()
            return result

        monkeypatch.setattr(shop.core.adapters.payment_provider, name, slowly)
        return held

    return hold_back


@pytest.mark.parametrize("noticed_first", [True, False])
async def test_the_notice_of_a_payment_may_come_before_our_own_call_returned(
    shop: Shop, buyer: Person, seller: Person, hold: Callable[[str], Held], noticed_first: bool
) -> None:
    held = hold("create")
    unpaid = await order(shop, buyer, seller, CARD, Prefer="respond-async")
    await held.made.wait()
    if noticed_first:
        await send(shop, unpaid.notice(SUCCEEDED))
        await unpaid.ends_as("COMPLETED", "CAPTURED")
        held.answer.set()
    else:
        held.answer.set()
        await unpaid.ends_as("COMPLETED", "CAPTURED")
        await send(shop, unpaid.notice(SUCCEEDED))
    await work_is_done(shop)
    assert (await unpaid.events()).count("payment.transaction.completed.v1") == 1


@pytest.mark.parametrize("noticed_first", [True, False])
async def test_the_notice_of_our_own_refund_may_come_before_our_call_returned(
    shop: Shop,
    buyer: Person,
    seller: Person,
    admin: Person,
    hold: Callable[[str], Held],
    noticed_first: bool,
) -> None:
    paid = await order(shop, buyer, seller, CARD)
    await paid.ends_as("COMPLETED", "CAPTURED")
    held = hold("refund")
    asked = {"amount_cents": 500, "reason": "sorry"}
    assert (
        await admin.post(f"/api/v1/payments/{paid.payment_id}/refund", json=asked)
    ).status_code == 201
    await held.made.wait()
    notice = paid.notice(REFUNDED, amount_refunded=500)
    if noticed_first:
        await send(shop, notice)
        held.answer.set()
        end = await paid.ends_as("PARTIALLY_REFUNDED", "PARTIALLY_REFUNDED")
    else:
        held.answer.set()
        await paid.ends_as("PARTIALLY_REFUNDED", "PARTIALLY_REFUNDED")
        await send(shop, notice)
        end = await paid.now()
    assert end.payment.refunded_cents == end.order.refunded_cents == 500
    assert (await paid.events()).count("payment.refunded.v1") == 1


async def test_money_sent_back_by_hand_at_the_provider_is_recorded_and_the_order_follows(
    shop: Shop, unpaid: Unpaid
) -> None:
    await send(shop, unpaid.notice(SUCCEEDED))
    await send(shop, unpaid.notice(REFUNDED, amount_refunded=500))
    end = await unpaid.ends_as("PARTIALLY_REFUNDED", "PARTIALLY_REFUNDED")
    assert end.order.refunded_cents == 500
    await send(shop, unpaid.notice(REFUNDED, amount_refunded=PRICE))
    end = await unpaid.ends_as("REFUNDED", "REFUNDED")
    assert (end.order.refunded_cents, end.payment.refunded_cents) == (PRICE, PRICE)
    await work_is_done(shop)


async def test_a_payment_whose_worker_was_lost_for_good_ends_at_once_as_the_provider_has_it(
    shop: Shop, buyer: Person, seller: Person, hold: Callable[[str], Held]
) -> None:
    held = hold("create")
    charged = await order(shop, buyer, seller, CARD, Prefer="respond-async")
    await held.made.wait()
    never = await order(shop, buyer, seller)
    worker = payment_worker(shop.core)
    for unpaid in (charged, never):
        job = Job(uuid4(), "charge", {"payment_id": str(unpaid.payment_id)})
        await worker.lost(JobAttempt(job, number=5, last=True))
    await charged.ends_as("COMPLETED", "CAPTURED")
    end = await never.ends_as("CANCELLED", "FAILED")
    assert end.payment.failure_code == "payment_interrupted"
    held.answer.set()
    await work_is_done(shop)


# -- ignored notices -------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [SECRET, NEXT_SECRET])
async def test_each_of_two_secrets_may_sign(shop: Shop, unpaid: Unpaid, secret: str) -> None:
    assert (await send(shop, unpaid.notice(SUCCEEDED), secret=secret)).status_code == 200
    await unpaid.ends_as("COMPLETED", "CAPTURED")


@pytest.mark.parametrize(
    "how",
    [{"secret": "whsec_another"}, {"late": 302}, {"late": -302}],
    ids=["forged", "stale", "of the future"],
)
async def test_a_notice_that_is_not_signed_by_a_secret_and_now_is_refused(
    shop: Shop, unpaid: Unpaid, how: dict[str, Any]
) -> None:
    before = await unpaid.events()
    answer = await send(shop, unpaid.notice(SUCCEEDED), **how)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_signature")
    assert await unpaid.events() == before
    assert "webhook refused code=invalid_signature" in text_log(shop)[-1]


@pytest.mark.parametrize(
    "body", [b'{"id": 5}', b'{"a":' * 5000], ids=["of another shape", "nested too deeply"]
)
async def test_a_body_that_is_no_notice_is_refused(shop: Shop, body: bytes) -> None:
    answer = await send(shop, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_notice")
    assert "webhook refused code=malformed_notice correlation_id=" in text_log(shop)[-1]


async def test_notices_of_other_kinds_or_of_payments_not_ours_are_taken_and_left_alone(
    shop: Shop, unpaid: Unpaid
) -> None:
    before, elsewhere = await unpaid.events(), Unpaid(shop, uuid4(), uuid4())
    for body, why in (
        (unpaid.notice("customer.created"), "it speaks of no payment of ours"),
        (unpaid.notice(SUCCEEDED, metadata={}), "it speaks of no payment of ours"),
        (elsewhere.notice(SUCCEEDED), "code=unknown_payment"),
    ):
        answer = await send(shop, body)
        assert (answer.status_code, answer.json()) == (200, {"received": True})
        assert "webhook ignored" in text_log(shop)[-1]
        assert why in text_log(shop)[-1]
    assert await unpaid.events() == before
    assert await elsewhere.events() == []


async def test_a_capture_of_another_amount_is_noted_once_and_captures_nothing(
    shop: Shop, unpaid: Unpaid
) -> None:
    wrong = unpaid.notice(SUCCEEDED, amount=1)
    for _ in range(2):
        assert (await send(shop, wrong)).status_code == 200
    now = await unpaid.now()
    assert (now.order.status, now.payment.is_captured) == ("PENDING_PAYMENT", False)
    refused, repeated = unpaid.log_lines()
    assert (refused.split()[1], "code=amount_mismatch" in refused) == ("ignored", True)
    assert repeated.split()[1] == "repeated"
    await send(shop, unpaid.notice(SUCCEEDED))
    await unpaid.ends_as("COMPLETED", "CAPTURED")
