"""The twin's games: one, a page of them, a search by title, and a person's library."""

import base64
import re
from datetime import datetime
from html import escape
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, HTTPException, Query
from psycopg.rows import DictRow

from benchmarks.http.twin.common import Pool, SignedIn, every, images, one, price_in
from benchmarks.http.twin.models import Game, OwnedGame, Page, SearchPage

router = APIRouter(prefix="/api/v1")

PRICE_STEPS = (0, 500, 1000, 2000, 4000, 6000)

_GAME = """
SELECT g.id, g.id AS game_id, seller_id, sku, title, description, publisher, category, genres,
    tags, platforms, release_date, kind, prices, image_ids, status, version, created_at,
    updated_at, total - reserved - allocated AS available
FROM games g LEFT JOIN stock s ON s.product_id = g.id"""
_PAGE = f"""{_GAME} WHERE status = 'ACTIVE' AND (created_at, g.id) < (%s, %s)
ORDER BY created_at DESC, g.id DESC LIMIT %s"""
_SEARCH = f"""{_GAME} WHERE status = 'ACTIVE' AND words @@ to_tsquery('simple', %s)
ORDER BY ts_rank(words, to_tsquery('simple', %s)) DESC, length(title), g.id LIMIT %s OFFSET %s"""
_FACETS = """
WITH hits AS MATERIALIZED (
    SELECT genres, tags, platforms, (prices -> 0 ->> 'amount_cents')::bigint AS price FROM games
    WHERE status = 'ACTIVE' AND words @@ to_tsquery('simple', %s))
SELECT 'total' AS facet, '' AS value, count(*) FROM hits
UNION ALL SELECT 'genre', v, count(*) FROM hits, unnest(genres) v GROUP BY v
UNION ALL SELECT 'tag', v, count(*) FROM hits, unnest(tags) v GROUP BY v
UNION ALL SELECT 'platform', v, count(*) FROM hits, unnest(platforms) v GROUP BY v
UNION ALL SELECT 'price', (width_bucket(price, %s) - 1)::text, count(*) FROM hits
    WHERE price IS NOT NULL GROUP BY 2
ORDER BY 3 DESC, 2"""
_LIBRARY = """
SELECT l.game_id, g.title, l.purchase_date, l.order_id, g.prices, g.image_ids,
    total - reserved - allocated AS available
FROM library l JOIN games g ON g.id = l.game_id LEFT JOIN stock s ON s.product_id = g.id
WHERE l.user_id = %s AND (l.purchase_date, l.game_id) < (%s, %s)
ORDER BY l.purchase_date DESC, l.game_id DESC LIMIT %s"""

Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str | None, Query(max_length=200)]


@router.get("/games", response_model=Page[Game])
async def browse(pool: Pool, limit: Limit = 20, cursor: Cursor = None) -> dict[str, object]:
    """Games on sale, the newest first."""
    async with pool.connection() as conn:
        rows = await every(conn, _PAGE, *_after(cursor), limit + 1)
    return _page(rows, limit, "created_at", "*")


@router.get("/games/search", response_model=SearchPage)
async def search(
    pool: Pool,
    q: Annotated[str, Query(max_length=500)],
    limit: Limit = 20,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> dict[str, object]:
    """Games whose titles have these words, the last of them as a prefix. No typos are forgiven."""
    words = re.findall(r"\w+", q)
    if not words:
        raise HTTPException(422, "there is no word in it")
    terms = " & ".join(words) + ":*"
    async with pool.connection() as conn, conn.pipeline():
        found = await conn.execute(_SEARCH.encode(), (terms, terms, limit, offset))
        counted = await conn.execute(_FACETS.encode(), (terms, list(PRICE_STEPS)))
        rows, counts = await found.fetchall(), await counted.fetchall()
    total = next(row["count"] for row in counts if row["facet"] == "total")
    facets: dict[str, list[dict[str, object]]] = {"genre": [], "tag": [], "platform": []}
    for row in counts:
        if row["facet"] in facets:
            facets[row["facet"]].append({"value": row["value"], "count": row["count"]})
    facets["price"] = [_price_count(row) for row in counts if row["facet"] == "price"]
    pattern = re.compile("|".join(map(re.escape, words)), re.IGNORECASE)
    items = [{**_shown(row, "*"), "highlight": _highlight(row["title"], pattern)} for row in rows]
    return {
        "items": items,
        "next_cursor": str(offset + limit) if offset + limit < total else None,
        "total": total,
        "facets": facets,
        "suggestion": None,
        "engine": "postgres",
    }


@router.get("/games/{game_id}", response_model=Game)
async def get_game(game_id: UUID, pool: Pool) -> dict[str, object]:
    async with pool.connection() as conn:
        row = await one(conn, f"{_GAME} WHERE g.id = %s", game_id)
    if row is None or row["status"] == "DRAFT":
        raise HTTPException(404, "there is no such game")
    return _shown(row, "*")


@router.get("/library", response_model=Page[OwnedGame])
async def library(
    pool: Pool, user: SignedIn, limit: Limit = 50, cursor: Cursor = None
) -> dict[str, object]:
    """The caller's games, the latest purchase first."""
    async with pool.connection() as conn:
        rows = await every(conn, _LIBRARY, user.id, *_after(cursor), limit + 1)
    return _page(rows, limit, "purchase_date", user.region)


def _shown(row: DictRow, region: str) -> dict[str, Any]:
    """A game as the API answers it."""
    row["price"] = price_in(row["prices"], region)
    row["image_urls"] = images(row["image_ids"])
    return row


def _page(rows: list[DictRow], limit: int, time: str, region: str) -> dict[str, object]:
    shown = [_shown(row, region) for row in rows[:limit]]
    more = shown[-1] if len(rows) > limit else None
    cursor = None if more is None else f"{more[time].isoformat()} {more['game_id']}"
    return {
        "items": shown,
        "next_cursor": cursor and base64.urlsafe_b64encode(cursor.encode()).decode(),
    }


def _after(cursor: str | None) -> tuple[datetime | str, UUID]:
    """The start of a page. Raises 422."""
    if cursor is None:
        return "infinity", UUID(int=2**128 - 1)
    try:
        time, _, game_id = base64.urlsafe_b64decode(cursor).decode().partition(" ")
        return datetime.fromisoformat(time), UUID(game_id)
    except ValueError as error:
        raise HTTPException(422, "that is no cursor") from error


def _price_count(row: DictRow) -> dict[str, object]:
    step = int(row["value"])
    last = step + 1 == len(PRICE_STEPS)
    return {
        "price_min": PRICE_STEPS[step],
        "price_max": None if last else PRICE_STEPS[step + 1] - 1,
        "count": row["count"],
    }


def _highlight(title: str, pattern: re.Pattern[str]) -> str:
    parts, end = [], 0
    for match in pattern.finditer(title):
        parts += [escape(title[end : match.start()]), f"<em>{escape(match[0])}</em>"]
        end = match.end()
    return "".join([*parts, escape(title[end:])])
