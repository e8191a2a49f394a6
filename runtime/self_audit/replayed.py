"""Rows of read models are what their events give: some rows by folding their streams, all of them
by `verify`."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

import psycopg

from eventstore.amendments import load
from eventstore.codec import Codec
from eventstore.consumers import quarantine
from eventstore.consumers.reader import Page
from eventstore.decoding import Unreadable
from projections.engine import rebuild
from projections.engine.advancing import Registered
from projections.engine.folding import fold_page
from projections.engine.tables import PostgresTable
from projections.projection import Key, Rows, key_of
from runtime.self_audit.invariant import Judged, Looked, Moments, Progress, Suspect
from runtime.self_audit.moment import Moment, Part

ROWS_EACH_TIME = 50
"""How many further rows of each read model a sample looks at, in the order of their keys: they may
be rows that no event made."""

_MOST_DIFFERING = 10
"""How many keys `verify` names at most."""


class RowsAreReplays:
    """Remembers where each read model's rows were looked at last."""

    name = "rows_equal_replay"
    meaning = "Each row of a read model is what folding its events up to the checkpoint gives."

    def __init__(self, models: Sequence[Registered], conn: psycopg.Connection) -> None:
        self._models = models
        self._conn = conn
        self._after: dict[str, tuple[Any, ...]] = {}

    def sample(self, moment: Moment, part: Part) -> Looked:
        page, models = moment.page(part), self._foldable(moment)
        wanted = {
            model.projection.name: [*_touched(model, page), *self._next_rows(moment, model)]
            for model in models
        }
        compared = _compared(moment, models, wanted)
        return Looked(len(compared), [each for each in compared.values() if each is not None])

    def again(self, moment: Moment, subjects: Sequence[str]) -> Judged:
        models = {model.projection.name: model for model in self._foldable(moment)}
        wanted: dict[str, list[Key]] = {}
        for subject in subjects:
            name, _, text = subject.partition(" ")
            if name in models and (key := _parsed(models[name], text)) is not None:
                wanted.setdefault(name, []).append(key)
        return _compared(moment, list(models.values()), wanted)

    def whole(self, moments: Moments, progress: Progress) -> Looked:
        """Fold the whole log for each read model aside, as `projections verify` does."""
        checked, suspects, names_all = 0, list[Suspect](), True
        for model in self._models:
            name = model.projection.name
            try:
                found = rebuild.verify(self._conn, _codec_of(moments), model, progress)
            except (rebuild.NeverRan, rebuild.CatchingUp):
                continue
            checked += found.difference.stored
            detail = f"at position {found.position} the row differs from its replay"
            suspects += [
                Suspect(f"{name} {key}", detail, _fed_by(model, key))
                for key in found.difference.keys
            ]
            if not found.difference.equal and not found.difference.keys:
                suspects.append(Suspect(name, "rows differ from their replay"))
            names_all = names_all and len(found.difference.keys) < _MOST_DIFFERING
        return Looked(checked, suspects, names_all)

    def _foldable(self, moment: Moment) -> list[Registered]:
        """The read models that can be read now, whose rows are a table, and which have taken up all
        amendments."""
        amended = load(moment.conn).as_of(moment.head).upto
        return [
            model
            for model in self._models
            if isinstance(model.store, PostgresTable)
            and (feed := moment.active.get(model.projection.name)) is not None
            and feed.amended == amended
        ]

    def _next_rows(self, moment: Moment, model: Registered) -> list[Key]:
        """The keys of the next rows, in the order of the keys; from the start again at the end."""
        assert isinstance(model.store, PostgresTable)
        name = model.projection.name
        keys = model.store.keys_after(
            moment.conn, moment.active[name].storage, self._after.get(name), ROWS_EACH_TIME
        )
        if len(keys) < ROWS_EACH_TIME:
            self._after.pop(name, None)
        else:
            self._after[name] = keys[-1]
        return [key if len(key) > 1 else key[0] for key in keys]


def _fed_by(model: Registered, text: str) -> Sequence[UUID]:
    """The streams that feed a row, so that it is looked at again; none where its key does not tell
    them."""
    key = _parsed(model, text) if isinstance(model.store, PostgresTable) else None
    return () if key is None else model.projection.streams_of(key) or ()


def _codec_of(moments: Moments) -> Codec:
    with moments() as moment:
        return moment.codec


def _touched(model: Registered, page: Page) -> Iterable[Key]:
    """The keys that these events touch."""
    folds, cleaners = model.projection.folds, model.projection.cleaners
    for env, event in page:
        fold = folds.get(type(event))
        if fold is None or isinstance(event, Unreadable):
            continue
        clean = cleaners[type(event)]
        touched = fold[1](event if clean is None else clean(event), env)
        yield from touched if isinstance(touched, list) else [touched]


def _compared(
    moment: Moment, models: Sequence[Registered], wanted: dict[str, list[Key]]
) -> dict[str, Suspect | None]:
    """Compare rows with their replays; those whose streams are not known by their key, are long, or
    in quarantine, are left to `whole`."""
    streams: dict[str, dict[Key, list[UUID]]] = {}
    for model in models:
        keys = dict.fromkeys(wanted.get(model.projection.name, ()))
        fed = {key: model.projection.streams_of(key) for key in keys}
        streams[model.projection.name] = {
            key: list(ids) for key, ids in fed.items() if ids is not None
        }
    ids = {each for keys in streams.values() for fed in keys.values() for each in fed}
    pages = moment.events(moment.short(ids))
    compared: dict[str, Suspect | None] = {}
    for model in models:
        compared |= _compared_of(moment, model, streams[model.projection.name], pages)
    return compared


def _compared_of(
    moment: Moment, model: Registered, keys: dict[Key, list[UUID]], pages: dict[UUID, Page]
) -> dict[str, Suspect | None]:
    projection, feed = model.projection, moment.active[model.projection.name]
    quarantined = {
        each.stream_id: each.position for each in quarantine.held(moment.conn, [feed.name])
    }
    judged = {
        key: fed
        for key, fed in keys.items()
        if all(each in pages and each not in quarantined for each in fed)
    }
    if not judged:
        return {}
    names = frozenset(moment.codec.names_of(projection.folds))
    events = sorted(
        (
            placed
            for stream_id in {each for fed in judged.values() for each in fed}
            for placed in pages[stream_id]
            if placed[0].position <= feed.position
        ),
        key=lambda placed: placed[0].position,
    )
    rows: Rows[Any] = Rows(projection.row)
    fold_page(projection, names, rows, {}, events, prefetch=False)
    key = key_of(projection.row)
    stored = {key(row): row for row in model.store.fetch(moment.conn, feed.storage, list(judged))}
    # a person may have been forgotten since: the row follows when the read model does
    is_personal = any(moment.codec.reader_of(name) is None for name in names)
    compared: dict[str, Suspect | None] = {}
    for each, fed in judged.items():
        subject, before, after = (
            f"{projection.name} {_text(each)}",
            stored.get(each),
            rows.get(each),
        )
        compared[subject] = (
            None
            if before == after
            else Suspect(subject, _difference(before, after), fed if is_personal else ())
        )
    return compared


def _difference(stored: Any, replayed: Any) -> str:
    """Which fields differ, without their values: they may be personal."""
    if stored is None:
        return "the row is missing"
    if replayed is None:
        return "no event makes this row"
    names = [
        name
        for name in stored.__struct_fields__
        if getattr(stored, name) != getattr(replayed, name)
    ]
    return f"differs from its replay in {', '.join(names)}"


def _text(key: Key) -> str:
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _parsed(model: Registered, text: str) -> Key | None:
    """The key that `_text` shows; None for what is no key. Its last part may have spaces."""
    assert isinstance(model.store, PostgresTable)
    names: Sequence[str] = model.projection.row.KEY  # type: ignore[attr-defined]
    types = {column.name: column.type for column in model.store.columns}
    parts = text.split(" ", len(names) - 1)
    made: dict[str, Callable[[str], object]] = {"uuid": UUID, "bigint": int}
    try:
        key = [made.get(types[name], str)(part) for name, part in zip(names, parts, strict=True)]
    except ValueError:
        return None
    return tuple(key) if len(key) > 1 else key[0]
