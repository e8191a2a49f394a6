"""The schemas with read models as they were (`projections.engine.past`): which there are, and
dropping one."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import msgspec

from eventstore.database.postgres import connect
from projections.engine import past
from projections.engine.past import BuiltElsewhere, Moment, ReadNow
from projections.registry import read_models


class InUse(Exception):
    """The schema is built, dropped or read right now."""


class ReplaySchema(msgspec.Struct, frozen=True):
    """A schema, how many read models are complete in it, and its `state` in words."""

    schema_name: str
    position: int
    state: str
    kept: bool
    made_at: datetime
    used_at: datetime
    bytes: int
    read_models: int


def state_of(moment: Moment) -> str:
    """Whether all read models of this release are there, and if not, why."""
    if not moment.same_history:
        return "of a lost history"
    if not moment.kept:
        return "for queries"
    lacking = {each.storage for each in read_models()} - {each.storage for each in moment.models}
    if not lacking:
        return "complete"
    if moment.emptied:
        return "tables dropped: somebody was forgotten"
    if not lacking.isdisjoint(moment.tables) or not moment.models:
        return "interrupted"
    some = "a read model" if len(lacking) == 1 else f"{len(lacking)} read models"
    return f"lacks {some} of this release"


class Replays:
    """The schemas of a database, each call by a connection of its own."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def all(self) -> Sequence[ReplaySchema]:
        """All of them, by position."""
        return await asyncio.to_thread(self._all)

    async def drop(self, position: int) -> bool:
        """Drop one; False if there is none. Raises InUse."""
        return await asyncio.to_thread(self._drop, position)

    def _all(self) -> Sequence[ReplaySchema]:
        with connect(self._url, "ludoteca replays") as conn:
            found = past.moments(conn)
        return [
            ReplaySchema(
                each.schema,
                each.position,
                state_of(each),
                each.kept,
                each.made_at,
                each.used_at,
                each.bytes,
                len(each.models),
            )
            for each in found
        ]

    def _drop(self, position: int) -> bool:
        with connect(self._url, "ludoteca replays") as conn:
            if position not in past.positions(conn):
                return False
            try:
                past.drop(conn, position)
            except (BuiltElsewhere, ReadNow) as error:
                raise InUse(str(error)) from error
            return True
