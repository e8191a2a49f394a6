"""Which row a text means: the read models, and their keys."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from eventstore.postgres_log import PostgresLog
from projections.changes import WatchedFold, pages_of
from projections.projection import Key, Projection
from projections.registry import read_models

Model = Projection[Any]


def models() -> Mapping[str, Model]:
    """All read models by name."""
    return {each.projection.name: each.projection for each in read_models()}


def key_fields(model: Model) -> tuple[str, ...]:
    """The names of the fields that are the key of a read model."""
    names: tuple[str, ...] = model.row.KEY  # type: ignore[attr-defined]
    return names


def key_in(model: Model, row_id: str) -> Key | None:
    """The key that a text means in a read model; None if it cannot be a key there. The parts of a
    key of several fields are joined by "/"."""
    parts, names = row_id.split("/"), key_fields(model)
    if len(parts) != len(names):
        return None
    types = {field.name: field.type for field in msgspec.structs.fields(model.row)}
    try:
        key = tuple(
            msgspec.convert(part, types[name], strict=False)
            for part, name in zip(parts, names, strict=True)
        )
    except msgspec.ValidationError:
        return None
    return key if len(key) > 1 else key[0]


async def models_with(log: PostgresLog, row_id: str, upto: int) -> Sequence[Model]:
    """The read models that have had a row with this key up to a position.

    Rows that any stream may feed are not looked for, as only the whole log tells of them: their
    read models are returned if the text is a key of no others.
    """
    keys = [(each, key) for each in models().values() if (key := key_in(each, row_id)) is not None]
    own = [(each, key) for each, key in keys if each.streams_of(key) is not None]
    if not own:
        return [each for each, _ in keys]
    return [each for each, key in own if await _has_had(log, each, key, upto)]


async def _has_had(log: PostgresLog, model: Model, key: Key, upto: int) -> bool:
    fold: WatchedFold[Any] = WatchedFold(model, {key})
    async for page in pages_of(log, model, model.streams_of(key), upto):
        for recorded in await log.decode_each(page):
            if fold.apply(recorded):
                return True
    return False
