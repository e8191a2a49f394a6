"""Every due deadline is fired, even if others are due and fail. Only the firing itself is real
here."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
import pytest

from commands.caller import Caller
from commands.deadlines import BATCH_SIZE, DeadlineRunner
from domain.errors import Conflict
from eventstore.log import IdempotencyKey
from kit.clock import ManualClock


class Due(msgspec.Struct, frozen=True):
    kind: str
    stream_id: UUID = msgspec.field(default_factory=uuid4)
    version: int = 1


class Desk:
    """Deadlines in the order in which they are due; fired ones are removed."""

    def __init__(self, *due: Due) -> None:
        self.left = list(due)
        self.met = list[UUID]()
        commands = {"met": self._meet, "refused": self._refuse, "failing": self._fail}
        self.deadlines = DeadlineRunner(self, commands, ManualClock(datetime.now(UTC)))

    async def due(self, now: datetime, limit: int) -> Sequence[Due]:
        return self.left[:limit]

    async def _meet(self, _caller: Caller, stream_id: UUID, _once: IdempotencyKey) -> None:
        self.met.append(stream_id)
        self.left = [each for each in self.left if each.stream_id != stream_id]

    async def _refuse(self, _caller: Caller, _stream_id: UUID, _once: IdempotencyKey) -> None:
        raise Conflict("not_so", "it is not")

    async def _fail(self, _caller: Caller, _stream_id: UUID, _once: IdempotencyKey) -> None:
        raise ZeroDivisionError("a mistake")


async def test_a_deadline_that_fails_keeps_no_other_from_being_fired(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing, unknown, met = Due("failing"), Due("unknown"), Due("met")
    desk = Desk(failing, unknown, met)

    assert await desk.deadlines.fire() == 1
    assert desk.met == [met.stream_id]
    assert await desk.deadlines.fire() == 0

    told = [each.args[1] for each in caplog.records if isinstance(each.args, tuple)]
    assert sorted(map(str, told)) == sorted([str(failing.stream_id), str(unknown.stream_id)]), (
        "told once, though tried twice"
    )


@pytest.mark.parametrize("kind", ["failing", "refused"])
async def test_any_number_that_stay_due_for_ever_take_nobodys_place(kind: str) -> None:
    met = Due("met")
    desk = Desk(*(Due(kind) for _ in range(2 * BATCH_SIZE)), met)

    for _ in range(5):
        await desk.deadlines.fire()

    assert desk.met == [met.stream_id]
