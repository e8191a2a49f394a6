"""Why a figure is what it is: the events that moved a field of a read model's row, each with the
chain of causes back to the request.

The row is folded from the log once more, and its field watched: so it works for every field of
every read model. Personal data stay closed: an auditor sees when they changed, not to what.
"""

from collections import deque
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from eventstore.decoding import Raw
from eventstore.finding import find_event
from eventstore.log import Envelope
from eventstore.postgres_log import PostgresLog
from eventstore.snapshots import plain
from kit.forgotten import ENCRYPTED
from projections.changes import Change, WatchedFold, pages_of
from projections.engine.folding import Poisoned
from projections.projection import Key
from queries.audit.row_keys import Model, key_fields, key_in, models, models_with

MAX_STEPS = 200
"""How many changes an answer has, the latest."""

MAX_CAUSES = 50
"""How long a chain of causes may be: longer ones are cut."""

MAX_POSITIONS = 1_000_000
"""The most positions that one request looks through for a row that any stream may feed."""


class Unanswerable(Exception):
    """The question makes no sense here, with a stable `code`: `unknown_model`, `unknown_field`,
    `invalid_key`, `ambiguous_model`, `history_too_long`. The message, and `extra`, say what there
    is."""

    def __init__(self, code: str, detail: str, **extra: object) -> None:
        super().__init__(detail)
        self.code = code
        self.extra = extra


class NoSuchRow(Unanswerable):
    """There never was such a row."""

    def __init__(self, detail: str) -> None:
        super().__init__("row_not_found", detail)


class Event(msgspec.Struct, frozen=True):
    """An event as a cause: its place, and who caused it by which request."""

    position: int
    event_id: UUID
    stream_id: UUID
    version: int
    name: str
    occurred_at: datetime
    actor: str
    correlation_id: UUID | None
    causation_id: UUID | None
    traceparent: str | None


class Step(msgspec.Struct, frozen=True):
    """An event that changed the field, from what to what (None: there was, or is, no such value),
    and what caused it: the direct cause first, the request's own event last. `amended_at` is the
    position at which it was declared that the event is read with another payload."""

    event: Event
    before: Any
    after: Any
    causes: Sequence[Event]
    amended_at: int | None = None


class Stop(msgspec.Struct, frozen=True):
    """An event that cannot be applied, and why."""

    stream_id: UUID
    position: int
    name: str
    error: str


class Why(msgspec.Struct, frozen=True):
    """A field of a row as of a position, and what made it.

    `exists` is false once the row was removed. `left_out` counts earlier changes than those in
    `steps`. `stopped_by` are events that cannot be applied: neither they nor what followed in their
    streams is in the row.
    """

    model: str
    key: str
    field: str
    position: int
    exists: bool
    value: Any
    steps: Sequence[Step]
    left_out: int
    stopped_by: Sequence[Stop]


async def why(
    log: PostgresLog,
    row_id: str,
    field: str,
    *,
    model: str | None = None,
    position: int | None = None,
    most_positions: int | None = None,
) -> Why:
    """The changes of a field up to a position, by default the log's end. `row_id` has the parts of
    the row's key, joined by "/"; `field` is a name, with dots for what is inside of lists and
    objects.

    Raises Unanswerable, NoSuchRow; with `most_positions` rather than look through more of the log
    for a row that any stream may feed.
    """
    upto = await log.head() if position is None else position
    log = await log.as_of(upto)
    asked = _candidates(row_id, field, model)
    if not asked:
        raise await _unknown_field(log, row_id, field, upto)
    for each, key in asked:
        if each.streams_of(key) is None and most_positions is not None and upto > most_positions:
            raise Unanswerable(
                "history_too_long",
                f"any stream may feed a row of {each.name}: looking through {upto} events takes too"
                " long for a request; use `ludoteca audit why`",
            )
    found = [
        watched
        for each, key in asked
        if (watched := await _watch(log, each, key, field, upto)).has_existed
    ]
    if not found:
        sought = [each.name for each, _ in asked]
        others = [each for each in await models_with(log, row_id, upto) if each.name not in sought]
        raise NoSuchRow(
            f"up to position {upto}, {', '.join(sought)} had no row {row_id}"
            + (f"; {_listed(others)}" if others else "")
        )
    if len(found) > 1:
        names = ", ".join(watched.model.name for watched in found)
        raise Unanswerable(
            "ambiguous_model",
            f"several read models have a row {row_id} with the field {field}: {names}; name one",
            models=[watched.model.name for watched in found],
        )
    return await _explained(log, found[0], row_id, upto)


async def _explained(log: PostgresLog, watched: "_Watched", row_id: str, upto: int) -> Why:
    causes, amendments = _Causes(log), await log.read_by()
    return Why(
        model=watched.model.name,
        key=row_id,
        field=watched.field,
        position=upto,
        exists=watched.exists,
        value=watched.value,
        steps=[
            Step(
                event_of(env),
                before,
                after,
                await causes.of(env),
                amendments.declared_at(env.position),
            )
            for env, before, after in watched.changes
        ],
        left_out=watched.count - len(watched.changes),
        stopped_by=[Stop(*each) for each in watched.poisoned],
    )


# -- which row -------------------------------------------------------------------------------------


def _candidates(row_id: str, field: str, model: str | None) -> list[tuple[Model, Key]]:
    """The read models that may have such a row with such a field, and its key in each; empty where
    none has the field."""
    known = models()
    if model is not None and model not in known:
        raise Unanswerable(
            "unknown_model",
            f"there is no read model {model}; there are: {', '.join(sorted(known))}",
            models=sorted(known),
        )
    asked = [known[model]] if model is not None else list(known.values())
    name = field.split(".", maxsplit=1)[0]
    having = [each for each in asked if name in each.row.__struct_fields__]
    if not having and model is not None:
        raise _no_field(name, asked)
    found = [(each, key) for each in having if (key := key_in(each, row_id)) is not None]
    if having and not found:
        keys = {each.name: "/".join(key_fields(each)) for each in having}
        raise Unanswerable(
            "invalid_key",
            f"{row_id} is no key of a read model with {name}: "
            + ", ".join(f"{each} ({key})" for each, key in keys.items()),
            keys=keys,
        )
    return found


async def _unknown_field(log: PostgresLog, row_id: str, field: str, upto: int) -> Unanswerable:
    """The refusal of a field that no read model has. It names those of the rows with this id."""
    name, having = field.split(".", maxsplit=1)[0], await models_with(log, row_id, upto)
    if having:
        return _no_field(name, having)
    return Unanswerable(
        "unknown_field", f"no read model has a field {name}, or a row {row_id}", fields=[]
    )


def _no_field(name: str, having: Sequence[Model]) -> Unanswerable:
    fields = sorted({name for each in having for name in each.row.__struct_fields__})
    return Unanswerable("unknown_field", f"no field {name}; {_listed(having)}", fields=fields)


def _listed(having: Sequence[Model]) -> str:
    """Read models with their fields, in words."""
    return "; ".join(
        f"{each.name} has: {', '.join(sorted(each.row.__struct_fields__))}" for each in having
    )


# -- watching --------------------------------------------------------------------------------------


class _Watched:
    """A field of one row while events are folded. Each is folded twice, with and without the keys
    of persons: where both differ, the value is personal, and not shown."""

    def __init__(self, log: PostgresLog, model: Model, key: Key, field: str) -> None:
        self.model = model
        self.field = field
        self.changes: deque[tuple[Envelope, Any, Any]] = deque(maxlen=MAX_STEPS)
        self.count = 0
        self.has_existed = False
        self._log = log
        self._key = key
        self._path = field.split(".")
        self._open: WatchedFold[Any] = WatchedFold(model, {key})
        self._closed: WatchedFold[Any] = WatchedFold(model, {key})

    @property
    def exists(self) -> bool:
        """Whether there is a row."""
        return self._open.get(self._key) is not None

    @property
    def value(self) -> Any:
        """The field's value as it may be shown."""
        return self._shown(self._open.get(self._key), self._closed.get(self._key))

    @property
    def poisoned(self) -> Collection[Poisoned]:
        """The events that cannot be applied."""
        return self._open.poisoned.values()

    async def fold(self, page: Sequence[Raw]) -> None:
        """Fold the next events."""
        for recorded, raw in zip(await self._log.decode_each(page), page, strict=True):
            changed = self._open.apply(recorded)
            if recorded.env.stream_id in self._open.poisoned:
                continue
            closed = self._closed.apply((await self._log.decode_closed([raw]))[0])
            if changed:
                self._note(changed[0], closed[0] if closed else None)

    def _note(self, change: Change[Any], closed: Change[Any] | None) -> None:
        self.has_existed = True
        if self._at(change.before) == self._at(change.after):
            return
        self.count += 1
        if closed is None:  # nothing that may be shown has changed
            row = self._closed.get(self._key)
            closed = Change(change.env, change.key, row, row)
        before = self._shown(change.before, closed.before)
        self.changes.append((change.env, before, self._shown(change.after, closed.after)))

    def _shown(self, row: Any, closed: Any) -> Any:
        value = self._at(row)
        if value != self._at(closed):
            return ENCRYPTED
        return msgspec.to_builtins(value, str_keys=True, enc_hook=plain)

    def _at(self, row: Any) -> Any:
        return _value_at(row, self._path)


async def _watch(log: PostgresLog, model: Model, key: Key, field: str, upto: int) -> _Watched:
    watched = _Watched(log, model, key, field)
    async for page in pages_of(log, model, model.streams_of(key), upto):
        await watched.fold(page)
    return watched


def _value_at(value: Any, path: Sequence[str]) -> Any:
    """What is at a path inside a row; None where there is nothing. Raises Unanswerable for a name
    that an object does not have."""
    for part in path:
        if isinstance(value, msgspec.Struct):
            names = value.__struct_fields__
            if part not in names:
                raise Unanswerable(
                    "unknown_field", f"no {part} in it; there are: {', '.join(names)}", fields=names
                )
            value = getattr(value, part)
        elif isinstance(value, list | tuple):
            inside = part.isdecimal() and len(part) < 10 and int(part) < len(value)
            value = value[int(part)] if inside else None
        elif isinstance(value, dict):
            value = {str(name): each for name, each in value.items()}.get(part)
        elif value is not None:
            raise Unanswerable("unknown_field", f"a figure has nothing inside: no {part}")
    return value


# -- causes ----------------------------------------------------------------------------------------


class _Causes:
    """Finds chains of causes, each event once."""

    def __init__(self, log: PostgresLog) -> None:
        self._log = log
        self._known: dict[UUID, Envelope | None] = {}

    async def of(self, env: Envelope) -> list[Event]:
        """The event's cause, the cause of that, and so on."""
        chain: list[Event] = []
        while env.causation_id is not None and len(chain) < MAX_CAUSES:
            cause = await self._find(env.causation_id, env.position - 1)
            if cause is None:
                break
            chain.append(event_of(cause))
            env = cause
        return chain

    async def _find(self, event_id: UUID, upto: int) -> Envelope | None:
        if event_id not in self._known:
            found = await find_event(self._log, event_id, upto)
            self._known[event_id] = None if found is None else found[0]
        return self._known[event_id]


def event_of(env: Envelope) -> Event:
    """An event as an answer shows it, without its payload."""
    return Event(**{name: getattr(env, name) for name in Event.__struct_fields__})
