"""Games as documents of the search index, one projection for every engine that holds them."""

from typing import ClassVar

from domain.catalog import (
    GameCreated,
    GamePublished,
    GameResumed,
    GameRetired,
    GameSuspended,
    GameUpdated,
    Price,
    changes,
)
from eventstore.log import Placed
from projections.projection import Projection, Rows, on
from projections.search.document import DocumentPrice, GameDocument
from projections.search.text import TEXT_VERSION

FOLD_VERSION = 2
"""Raise it when the fold below changes; raise TEXT_VERSION when titles are taken apart
differently."""


class Document(GameDocument, kw_only=True):
    """A game's document as a row, with its key."""

    KEY: ClassVar[tuple[str, ...]] = ("game_id",)


class GameDocuments(Projection[Document]):
    """Every game's document, including drafts and retired games, with their status."""

    version, row = FOLD_VERSION * 100 + TEXT_VERSION, Document
    keeps_nul = True

    @on(GameCreated)
    def created(self, rows: Rows[Document], event: GameCreated, env: Placed) -> None:
        rows.put(
            Document(
                game_id=env.stream_id,
                seller_id=event.seller_id,
                sku=event.sku,
                title=event.title,
                description=event.description,
                publisher=event.publisher,
                category=event.category,
                genres=list(event.genres),
                tags=list(event.tags),
                platforms=list(event.platforms),
                release_date=event.release_date.isoformat() if event.release_date else None,
                kind=event.kind,
                status=event.status,
                prices=_prices(event.prices),
                created_at=env.occurred_at.isoformat().replace("+00:00", "Z"),
                position=env.position,
            )
        )

    @on(GameUpdated)
    def updated(self, rows: Rows[Document], event: GameUpdated, env: Placed) -> None:
        document = _changed(rows, env)
        for field, value in changes(event).items():
            if field in Document.__struct_fields__:
                setattr(document, field, list(value) if isinstance(value, tuple) else value)
        if event.release_date is not None:
            document.release_date = event.release_date.isoformat()
        if event.prices is not None:
            document.prices = _prices(event.prices)

    @on(GamePublished)
    @on(GameResumed)
    def on_sale(self, rows: Rows[Document], _: GamePublished | GameResumed, env: Placed) -> None:
        _changed(rows, env).status = "ACTIVE"

    @on(GameSuspended)
    def suspended(self, rows: Rows[Document], _: GameSuspended, env: Placed) -> None:
        _changed(rows, env).status = "SUSPENDED"

    @on(GameRetired)
    def retired(self, rows: Rows[Document], _: GameRetired, env: Placed) -> None:
        _changed(rows, env).status = "RETIRED"


class GamesText(GameDocuments):
    """The documents in PostgreSQL."""

    name = "games_text"


class GamesIndex(GameDocuments):
    """The documents in Elasticsearch."""

    name = "games_index"


def _changed(rows: Rows[Document], env: Placed) -> Document:
    document = rows[env.stream_id]
    document.position = env.position
    return document


def _prices(prices: tuple[Price, ...]) -> list[DocumentPrice]:
    return [DocumentPrice(price.region, price.amount_cents, price.currency) for price in prices]
