from datetime import date

import msgspec

from domain.catalog import GamePublished, GameRetired, GameUpdated, Price
from domain.events import Event
from projections.search.document import DocumentPrice, GameDocument
from projections.search.projection import Document, GamesIndex, GamesText
from tests.support.events.history import GAME, SELLER, History, game_created


def document_after(*events: Event) -> Document:
    row = History().happened(GAME, *events).row(GamesText(), GAME)
    assert isinstance(row, Document)
    return row


def test_a_document_holds_all_that_a_search_result_shows() -> None:
    document = document_after(game_created(release_date=date(2017, 2, 24)))
    assert (document.game_id, document.seller_id, document.title) == (GAME, SELLER, "Hollow Knight")
    assert (document.release_date, document.created_at) == ("2017-02-24", "2026-01-01T12:00:01Z")
    assert document.prices == [DocumentPrice("*", 1499, "USD"), DocumentPrice("BR", 4699, "BRL")]


def test_a_document_carries_the_position_of_its_last_event() -> None:
    events = (
        game_created(status="DRAFT"),
        GamePublished(),
        GameUpdated(title="Silksong"),
        GameRetired(),
    )
    document = document_after(*events)
    assert (document.position, document.status, document.title) == (4, "RETIRED", "Silksong")


def test_an_update_changes_what_it_names() -> None:
    document = document_after(
        game_created(),
        GameUpdated(prices=(Price("*", 0, "USD"),), tags=("New",), release_date=date(2025, 9, 4)),
    )
    assert (document.prices, document.tags) == ([DocumentPrice("*", 0, "USD")], ["New"])
    assert (document.release_date, document.publisher) == ("2025-09-04", "Team Cherry")


def test_a_row_reads_as_the_document_that_the_index_knows() -> None:
    document = document_after(game_created(title="A\0B"))
    read = msgspec.json.decode(msgspec.json.encode(document), type=GameDocument)
    assert (read.title, read.position) == ("A\0B", 1)


def test_every_engine_folds_the_same() -> None:
    assert GamesText.folds == GamesIndex.folds
    assert (GamesText.name, GamesIndex.name, GamesText.version) == (
        "games_text",
        "games_index",
        GamesIndex.version,
    )
