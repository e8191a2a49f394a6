"""The games that a person owns."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from projections.models.games import PriceRow
from projections.models.library import OwnedGame
from queries.catalog.games import Browse, filters_of
from queries.catalog.stock import OFFERS
from queries.engine.paging import ListQuery, Page, SortOrder, page
from queries.engine.read_models import QueryResult, ReadModels


class _Owned(msgspec.Struct, frozen=True):
    game_id: UUID


class OfferedGame(msgspec.Struct, frozen=True):
    """A game in a library, with what it is offered for now; `region` is the viewer's, None for
    somebody without one."""

    game_id: UUID
    order_id: UUID
    title: str
    purchase_date: datetime
    available: int | None
    image_ids: list[UUID]
    prices: list[PriceRow]
    region: str | None


_LISTING = ListQuery(OwnedGame, "SELECT * FROM @library")
_OFFERED = ListQuery(
    OfferedGame,
    f"""
SELECT l.*, o.available,
    coalesce(o.image_ids, '[]') AS image_ids, coalesce(o.prices, '[]') AS prices,
    (SELECT u.region FROM @users u WHERE u.user_id = %(viewer)s) AS region
FROM @library l LEFT JOIN ({OFFERS}) AS o ON o.product_id = l.game_id
""",
)
_LATEST = SortOrder("bought", ("purchase_date", "game_id"), tuple[datetime, UUID], descending=True)

_OF_USER = "user_id = %(user)s"
_OF_GENRE = """EXISTS (
    SELECT FROM @games g WHERE g.game_id = listed.game_id AND g.filters @> %(filters)s::jsonb
)"""
_OWNED_IDS = "SELECT game_id FROM @library WHERE user_id = %(user)s"


async def library(
    models: ReadModels, user_id: UUID, *, limit: int = 50, cursor: str | None = None
) -> QueryResult[Page[OwnedGame]]:
    """A person's games, the latest bought first. Raises BadCursor."""
    return await page(
        models, _LISTING, _LATEST, [_OF_USER], {"user": user_id}, limit=limit, cursor=cursor
    )


async def offered_library(
    models: ReadModels,
    user_id: UUID,
    *,
    viewer_id: UUID | None,
    now: datetime,
    genre: str | None = None,
    game_ids: Sequence[UUID] | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> QueryResult[Page[OfferedGame]]:
    """As `library`, with the games' offers; only those of `game_ids` when given. Raises
    BadCursor."""
    conditions = [_OF_USER]
    values: dict[str, object] = {"user": user_id, "viewer": viewer_id, "now": now}
    if genre is not None:
        conditions.append(_OF_GENRE)
        values["filters"] = filters_of(Browse(genre=genre))
    if game_ids is not None:
        conditions.append("game_id = ANY (%(games)s)")
        values["games"] = list(game_ids)
    return await page(models, _OFFERED, _LATEST, conditions, values, limit=limit, cursor=cursor)


async def owned_ids(models: ReadModels, user_id: UUID) -> QueryResult[list[UUID]]:
    """The ids of all games that a person owns."""
    found = await models.rows(_Owned, _OWNED_IDS, user=user_id)
    return found.map(lambda rows: [row.game_id for row in rows])
