"""Keyset pagination: each page starts after the last key of the page before, so that no page costs
more than another."""

import base64
import binascii
from typing import Annotated, Generic, TypeVar

import msgspec

from projections.projection import shown_fields
from queries.engine.read_models import QueryResult, ReadModels

T = TypeVar("T", bound=msgspec.Struct)

MAX_LIMIT = 200

Bigint = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""An integer that fits PostgreSQL's bigint."""


class BadCursor(ValueError):
    """The cursor is not from this list."""


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A page of a list, and the cursor of the next one; None on the last page."""

    items: list[T]
    next_cursor: str | None


class SortOrder(msgspec.Struct, frozen=True):
    """The order of a list: SQL expressions of which the last is unique, and the tuple type of their
    values.

    `name` keeps a cursor of one order from being used in another.
    """

    name: str
    keys: tuple[str, ...]
    types: type[tuple[object, ...]]
    descending: bool = False


def newest_first(key: str) -> SortOrder:
    """Descending by a log position, which is unique."""
    return SortOrder("new", (key,), tuple[Bigint], descending=True)


class ListQuery(msgspec.Struct, Generic[T], frozen=True):
    """A list: the type of its items, and the query of all of them.

    Conditions and order name the query's columns, as `listed.…` when another table has a column of
    that name.
    """

    item: type[T]
    query: str


class _Keyed(msgspec.Struct, Generic[T], frozen=True):
    key: msgspec.Raw
    item: T


async def page(
    models: ReadModels,
    listing: ListQuery[T],
    order: SortOrder,
    conditions: list[str],
    values: dict[str, object],
    *,
    limit: int,
    cursor: str | None,
) -> QueryResult[Page[T]]:
    """A page of a list. `limit` is clamped to 1…MAX_LIMIT. Raises BadCursor, ReadModelBehind."""
    limit = max(1, min(limit, MAX_LIMIT))
    after = {} if cursor is None else _read(cursor, order)
    direction = "DESC" if order.descending else "ASC"
    if after:
        beyond = "<" if order.descending else ">"
        marks = ", ".join(f"%({name})s" for name in after)
        conditions = [*conditions, f"({', '.join(order.keys)}) {beyond} ({marks})"]
    fields = ", ".join(f"listed.{name}" for name in shown_fields(listing.item))
    query = f"""
SELECT
    json_build_array({", ".join(order.keys)}) AS key,
    (SELECT item FROM (SELECT {fields}) AS item) AS item
FROM ({listing.query}) AS listed
WHERE {" AND ".join(conditions) or "true"}
ORDER BY {", ".join(f"{key} {direction}" for key in order.keys)} LIMIT %(limit)s"""
    found = await models.rows(_Keyed[listing.item], query, **values, **after, limit=limit + 1)  # type: ignore[name-defined]
    return found.map(
        lambda rows: Page(
            [row.item for row in rows[:limit]],
            _write(order, rows[limit - 1].key) if len(rows) > limit else None,
        )
    )


def _write(order: SortOrder, key: msgspec.Raw) -> str:
    return base64.urlsafe_b64encode(order.name.encode() + b":" + bytes(key)).decode().rstrip("=")


def _read(cursor: str, order: SortOrder) -> dict[str, object]:
    decoder = msgspec.json.Decoder(order.types)
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        name, _, key = raw.partition(b":")
        if name != order.name.encode():
            raise BadCursor("the cursor is of a list in another order")
        values = decoder.decode(key)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise BadCursor("the cursor is not one of this list") from error
    return {f"after_{no}": value for no, value in enumerate(values)}
