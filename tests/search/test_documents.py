"""What the two indices store of documents. Every test runs on both."""

import sys
import unicodedata
from collections.abc import Iterator
from typing import Protocol
from uuid import UUID

import psycopg
import pytest
from elasticsearch import Elasticsearch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.elasticsearch.store import ElasticsearchGameStore
from domain.text import is_visible
from projections.search import postgres_index
from projections.search.document import GameDocument
from tests.support.shops.search import SHOP, game, game_id


class Documents(Protocol):
    """What both indices can do."""

    def put(self, *documents: GameDocument) -> None: ...

    def fetch(self, *game_ids: UUID) -> list[GameDocument]: ...


class Tables:
    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        postgres_index.create_tables(connection, "games")

    def put(self, *documents: GameDocument) -> None:
        postgres_index.upsert(self.connection, "games", documents)

    def fetch(self, *game_ids: UUID) -> list[GameDocument]:
        return postgres_index.fetch(self.connection, "games", game_ids)

    def keys(self) -> set[tuple[str, UUID]]:
        return {*self.connection.execute("SELECT g, id FROM games_grams").fetchall()}


class Index:
    def __init__(self, client: Elasticsearch, name: str) -> None:
        self.store = ElasticsearchGameStore(client)
        self.name = name
        self.store.create_index(name)

    def put(self, *documents: GameDocument) -> None:
        self.store.bulk(self.name, documents)

    def fetch(self, *game_ids: UUID) -> list[GameDocument]:
        return self.store.fetch(self.name, game_ids)


@pytest.fixture
def tables(empty_database: str) -> Iterator[Tables]:
    with psycopg.connect(empty_database) as connection:
        yield Tables(connection)


@pytest.fixture
def index(elasticsearch_url: str, elasticsearch_prefix: str) -> Iterator[Index]:
    with Elasticsearch(elasticsearch_url) as client:
        yield Index(client, f"{elasticsearch_prefix}one")


@pytest.fixture(params=["tables", "index"])
def documents(request: pytest.FixtureRequest) -> Documents:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def assert_same_tables(connection: psycopg.Connection) -> None:
    for name in ("games", "games_grams"):
        other = name.replace("games", "other")
        difference = f"SELECT count(*) FROM ((TABLE {name} EXCEPT TABLE {other}) UNION ALL (TABLE {other} EXCEPT TABLE {name})) AS x"  # noqa: E501
        assert connection.execute(difference).fetchone() == (0,)


def test_documents_come_back_as_they_were_in_the_order_asked_for(documents: Documents) -> None:
    documents.put(*SHOP)
    wanted = [
        game_id("Portal"),
        game_id("no such game"),
        game_id("Hades"),
        game_id("Pokémon™ Café"),
    ]
    by_id = {each.game_id: each for each in SHOP}
    assert documents.fetch(*wanted) == [by_id[wanted[0]], by_id[wanted[2]], by_id[wanted[3]]]
    assert documents.fetch() == []


def test_a_newer_document_replaces_an_older_one_and_never_the_other_way(
    documents: Documents,
) -> None:
    documents.put(game("Hades", position=5, publisher="five"))
    documents.put(game("Hades", position=9, publisher="nine"))
    documents.put(game("Hades", position=7, publisher="seven"), game("Portal", position=8))
    documents.put(game("Hades", position=9, publisher="nine"))
    assert [each.publisher for each in documents.fetch(game_id("Hades"), game_id("Portal"))] == [
        "nine",
        "",
    ]


def test_any_text_can_be_in_a_document(documents: Documents) -> None:
    odd = game(
        'A\0B \'\\ "🎮" <b>&amp;',
        tags=["\0", "a\0b", "'"],
        genres=["x" * 5000],
        publisher="\0",
        position=3,
    )
    documents.put(odd, game("word" * 100, position=3), game("", game_id=UUID(int=7), position=3))
    assert documents.fetch(odd.game_id) == [odd]


def test_a_renamed_game_has_the_keys_of_its_new_title_only(tables: Tables) -> None:
    tables.put(game("Hades"), game("Portal"))
    tables.put(game("Hades II", game_id=game_id("Hades"), position=2))
    renamed = tables.keys()
    tables.put(game("Hades", position=1))
    assert tables.keys() == renamed
    postgres_index.delete(tables.connection, "games", [game_id("Hades"), game_id("Portal")])
    assert tables.keys() == set()
    tables.put(game("Portal"), game("Hades II", game_id=game_id("Hades"), position=2))
    assert tables.keys() == renamed


def test_loading_in_bulk_is_as_putting_one_by_one(tables: Tables) -> None:
    tables.put(*SHOP)
    postgres_index.create_tables(tables.connection, "other")
    postgres_index.bulk_load(tables.connection, "other", SHOP)
    assert_same_tables(tables.connection)
    postgres_index.drop_tables(tables.connection, "other")
    postgres_index.drop_tables(tables.connection, "other")


@settings(max_examples=30)
@given(titles=st.lists(st.text(max_size=300), min_size=1, max_size=8))
@example(
    titles=["㌖" * 150, "﷽" * 300, "𝕬" * 300, "'" * 9, "\\'", "\\" * 300, "a\0b", "+", "= ~ ^ _"]
)
@example(titles=["+++ + +"])  # a trigram that is also two words joined
def test_any_title_is_put_in_one_by_one_and_in_bulk_alike(
    tables: Tables, titles: list[str]
) -> None:
    documents = [
        game(title, game_id=UUID(int=number), tags=[title])
        for number, title in enumerate(titles, 1)
    ]
    postgres_index.delete(tables.connection, "games", [UUID(int=number) for number in range(1, 10)])
    tables.put(*documents)
    postgres_index.drop_tables(tables.connection, "other")
    postgres_index.create_tables(tables.connection, "other")
    postgres_index.bulk_load(tables.connection, "other", documents)
    assert_same_tables(tables.connection)
    assert tables.fetch(*(each.game_id for each in documents)) == documents


def test_all_characters_can_stand_in_a_title(tables: Tables) -> None:
    names = {chr(code): unicodedata.name(chr(code), "") for code in range(sys.maxunicode + 1)}
    many = ("CJK UNIFIED", "HANGUL SYLLABLE", "TANGUT IDEOGRAPH")
    few = [
        each
        for each, name in names.items()
        if name and not name.startswith(many) and is_visible(each)
    ]
    documents = [
        game("".join(few[start : start + 300]), game_id=UUID(int=1 + start))
        for start in range(0, len(few), 300)
    ]
    assert len(documents) > 90
    tables.put(*documents)
    postgres_index.create_tables(tables.connection, "other")
    postgres_index.bulk_load(tables.connection, "other", documents)
    assert_same_tables(tables.connection)


def test_an_alias_moves_from_one_index_to_another(index: Index, elasticsearch_prefix: str) -> None:
    alias, other = f"{elasticsearch_prefix}alias", f"{elasticsearch_prefix}two"
    index.store.create_index(other)
    assert index.store.active_index(alias) is None
    for name in (index.name, other, other, index.name):
        index.store.point_alias(alias, name)
        assert index.store.active_index(alias) == name
    index.store.drop_index(other)
    index.store.drop_index(other)


def test_all_documents_of_an_index_can_be_read(index: Index) -> None:
    index.put(*SHOP)
    index.store.refresh(index.name)
    by_id = {each.game_id: each for each in SHOP}
    assert {each.game_id: each for each in index.store.scan(index.name)} == by_id
