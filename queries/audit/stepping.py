"""A read model's row, event by event: what it was before each event and after it.

As in `queries.audit.why`, the row is folded from the log once more, so it works for every read
model, and personal data stay closed.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from eventstore.decoding import Raw
from eventstore.log import Envelope
from eventstore.postgres_log import PostgresLog
from eventstore.snapshots import plain
from kit.forgotten import ENCRYPTED
from projections.changes import WatchedFold, pages_of
from projections.projection import Key
from queries.audit.row_keys import Model, key_fields, key_in, models
from queries.audit.why import Event, NoSuchRow, Stop, Unanswerable, event_of

MAX_STEPS = 500
"""How many steps an answer lists, the latest."""


class StepHead(msgspec.Struct, frozen=True):
    """An event that a row was folded from, numbered from 1 on, and whether it changed the row."""

    number: int
    position: int
    name: str
    changed: bool


class Stepped(msgspec.Struct, frozen=True):
    """A row at a step: the event, and the row before and after it; None: there was, or is, none.

    Steps are the events of the row's streams that the read model folds; of a row that any stream
    may feed, those that changed it. `count` is how many there are, `steps` lists the latest.
    `stopped_by` are events that cannot be applied, with which their streams end here.
    """

    model: str
    key: str
    number: int
    count: int
    event: Event
    amended_at: int | None
    before: Any
    after: Any
    steps: Sequence[StepHead]
    stopped_by: Sequence[Stop]


def keys_and_fields() -> Mapping[str, tuple[Sequence[str], Sequence[str]]]:
    """The read models by name: the fields of their keys, and all fields."""
    return {
        name: (key_fields(model), model.row.__struct_fields__)
        for name, model in sorted(models().items())
    }


async def stepped(
    log: PostgresLog,
    model_name: str,
    row_id: str,
    *,
    upto: int,
    number: int | None = None,
    most_positions: int | None = None,
) -> Stepped:
    """A step of a row, by default the latest up to a position. `row_id` has the parts of the row's
    key, joined by "/".

    Raises Unanswerable, NoSuchRow; with `most_positions` rather than look through more of the log
    for a row that any stream may feed.
    """
    model = models().get(model_name)
    if model is None:
        known = ", ".join(sorted(models()))
        raise Unanswerable("unknown_model", f"there is no read model {model_name}: {known}")
    key = key_in(model, row_id)
    if key is None:
        names = "/".join(key_fields(model))
        raise Unanswerable("invalid_key", f"{row_id} is no key of {model_name}, which has {names}")
    streams = model.streams_of(key)
    if streams is None and most_positions is not None and upto > most_positions:
        raise Unanswerable(
            "history_too_long",
            f"any stream may feed a row of {model_name}: looking through {upto} events takes too"
            " long for a request",
        )
    log = await log.as_of(upto)
    row = _SteppedRow(log, model, key, number, every_event=streams is not None)
    async for page in pages_of(log, model, streams, upto):
        await row.fold(page)
    if row.step is None or not row.has_existed:
        raise NoSuchRow(f"up to position {upto}, {model_name} had no row {row_id}, or no such step")
    step = row.step
    return Stepped(
        model.name,
        row_id,
        step.number,
        row.count,
        event_of(step.env),
        (await log.read_by()).declared_at(step.env.position),
        step.before,
        step.after,
        list(row.heads),
        [Stop(*each) for each in row.open.poisoned.values()],
    )


class _Step(msgspec.Struct, frozen=True):
    number: int
    env: Envelope
    before: Any
    after: Any


class _SteppedRow:
    """One row while events are folded, with and without the keys of persons: where both differ, a
    value is personal, and not shown."""

    def __init__(
        self, log: PostgresLog, model: Model, key: Key, number: int | None, *, every_event: bool
    ) -> None:
        """Notes the step of this number; with None, the latest."""
        self.open: WatchedFold[Any] = WatchedFold(model, {key})
        self.step: _Step | None = None
        self.heads: deque[StepHead] = deque(maxlen=MAX_STEPS)
        self.count = 0
        self.has_existed = False
        self._closed: WatchedFold[Any] = WatchedFold(model, {key})
        self._log = log
        self._key = key
        self._number = number
        self._every_event = every_event
        self._before: Any = None

    async def fold(self, page: Sequence[Raw]) -> None:
        """Fold the next events."""
        for recorded, raw in zip(await self._log.decode_each(page), page, strict=True):
            changed = bool(self.open.apply(recorded))
            if recorded.env.stream_id in self.open.poisoned:
                continue
            self._closed.apply((await self._log.decode_closed([raw]))[0])
            if changed or self._every_event:
                self._note(recorded.env, changed=changed)

    def _note(self, env: Envelope, *, changed: bool) -> None:
        self.has_existed = self.has_existed or changed
        self.count += 1
        self.heads.append(StepHead(self.count, env.position, env.name, changed))
        after = self._shown() if changed else self._before
        if self._number in {None, self.count}:
            self.step = _Step(self.count, env, self._before, after)
        self._before = after

    def _shown(self) -> Any:
        """The row as it may be shown."""
        row, closed = (
            msgspec.to_builtins(fold.get(self._key), str_keys=True, enc_hook=plain)
            for fold in (self.open, self._closed)
        )
        return _masked(row, closed)


def _masked(value: Any, closed: Any) -> Any:
    """A value, with ENCRYPTED for the parts that are not the same without keys."""
    if isinstance(value, dict) and isinstance(closed, dict) and value.keys() == closed.keys():
        return {name: _masked(each, closed[name]) for name, each in value.items()}
    if isinstance(value, list) and isinstance(closed, list) and len(value) == len(closed):
        return [_masked(each, other) for each, other in zip(value, closed, strict=True)]
    return value if value == closed else ENCRYPTED
