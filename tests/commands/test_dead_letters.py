"""Discarding dead letters: what the log keeps of them, and when."""

from collections.abc import Collection
from uuid import UUID, uuid4

import pytest

from commands import dead_letters
from commands.ports.queue import DeadLetter, Job
from domain.acts import ActBegun, ActEnded
from domain.errors import Invalid
from domain.named_texts import by_name
from tests.support.commands import ADMIN, Shop
from tests.support.shops.manual import KeptJobs

PAYMENT = uuid4()


class Dead(KeptJobs):
    """A queue with these dead letters; it breaks off if told so."""

    def __init__(self, *letters: DeadLetter, breaks: bool = False) -> None:
        super().__init__()
        self.letters = {each.job.id: each for each in letters}
        self._breaks = breaks

    async def discard(self, job_ids: Collection[UUID]) -> Collection[UUID]:
        if self._breaks:
            raise ConnectionError("the broker is away")
        return [each for each in job_ids if self.letters.pop(each, None)]


def letter(error: str = "no answer", **body: str) -> DeadLetter:
    return DeadLetter(Job(uuid4(), "charge", body), KeptJobs.name, error, 3, None)


async def test_the_log_keeps_what_a_job_was_about_without_what_may_be_personal(shop: Shop) -> None:
    dead = letter(
        "550 <ann@example.com> is unknown, card 4242424242424242",
        payment_id=str(PAYMENT),
        phone="0049301234567",
        traceparent="00-1-2-01",
    )
    queue = Dead(dead)
    gone = await dead_letters.discard(shop.acts, ADMIN, "of a test", [queue], [dead])
    assert (gone, queue.letters) == ([dead.job.id], {})
    begun, ended = [each.event for each in await shop.log.read()]
    assert isinstance(begun, ActBegun)
    assert (begun.act, begun.target, begun.reason) == (
        "dead_letter.discard",
        str(dead.job.id),
        "of a test",
    )
    assert by_name(begun.details) == {
        "queue": KeptJobs.name,
        "kind": "charge",
        "attempts": "3",
        "error": "550 … is unknown, card …",
        "payment_id": str(PAYMENT),
        "phone": "…",
    }
    assert ended == ActEnded(affected=1)


async def test_each_is_recorded_and_those_that_went_meanwhile_are_told_apart(shop: Shop) -> None:
    dead, gone = [letter() for _ in range(dead_letters.AT_ONCE)], letter()
    done = await dead_letters.discard(shop.acts, ADMIN, "all", [Dead(*dead)], [*dead, gone])
    assert set(done) == {each.job.id for each in dead}
    events = [each.event for each in await shop.log.read()]
    assert sum(isinstance(each, ActBegun) for each in events) == len(dead) + 1
    assert events.count(ActEnded(affected=1)) == len(dead)
    assert events.count(ActEnded(error="dead_letter_not_found")) == 1


async def test_what_breaks_off_is_recorded_as_that(shop: Shop) -> None:
    dead = letter()
    with pytest.raises(ConnectionError):
        await dead_letters.discard(shop.acts, ADMIN, "all", [Dead(dead, breaks=True)], [dead])
    _, ended = [each.event for each in await shop.log.read()]
    assert ended == ActEnded(error="ConnectionError: the broker is away")


async def test_nothing_is_discarded_without_a_reason(shop: Shop) -> None:
    dead = letter()
    queue = Dead(dead)
    with pytest.raises(Invalid, match="reason"):
        await dead_letters.discard(shop.acts, ADMIN, " ", [queue], [dead])
    assert dead.job.id in queue.letters
    assert await shop.log.read() == []
