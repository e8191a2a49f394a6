"""The longest accepted texts, of the characters that take the most room, pass through every read
model: folded, written, verified, rebuilt, dumped and restored. So do all of Unicode, and texts
longer than any accepted now.

PostgreSQL has limits that no column's type shows: 2,704 bytes for an entry of a B-tree, 2,046 for a
lexeme (a longer one is written without an error, and cannot be read again), a megabyte for a
tsvector. Elasticsearch accepts terms of up to 32,766 bytes.
"""

import asyncio
import subprocess
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_origin
from uuid import UUID

import msgspec
import psycopg
import pytest
from elasticsearch import Elasticsearch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.elasticsearch.documents import ElasticsearchDocuments
from adapters.postgres.programs import program
from domain.catalog import GameUpdated, Price
from domain.money import LARGEST_CENTS
from domain.regions import COUNTRIES
from eventstore.database.postgres import connect
from projections.engine import rebuild
from projections.engine.runner import Registered
from projections.models.games import Games
from projections.registry import read_models
from projections.search import postgres_index
from projections.search.document import GameDocument, derive
from projections.search.projection import GamesIndex, GamesText
from projections.search.text import MAX_KEY_BYTES, take_apart
from queries.search.port import read_typed
from tests.projections.test_edge_values import LEAVES, NOT_SENT, OURS
from tests.support.events.histories import Batch, Flow
from tests.support.events.history import game_created, some_id
from tests.support.http.edge import NEVER_KEPT
from tests.support.servers import shared
from tests.support.shops.projected import CODEC, Shop, model, open_shop, projecting

WIDE = {
    "x": "one byte",
    "㌖": "six characters once folded",
    "﷽": "thirty-three bytes of many words",
    "𞤢": "four bytes, folded too",
    "𝕬": "one byte once folded",
    "ΐ": "three characters without case",
    "💩": "a sign of four bytes",
    "'": "quoted in a lexeme",
    "\\": "quoted in a lexeme",
    "a ": "many words",
    "7 ": "many numbers, which abbreviations keep whole",
    "e\u0301": "an accent apart",
}

QUICK = ("㌖", "𞤢", "a ")

ANY = st.characters(exclude_categories=["Cs"])
"""All code points except surrogates, which no text in the log can contain."""


# -- the largest accepted texts --------------------------------------------------------------------


def longest(leaf: Any, sign: str) -> int:
    """The maximal length that the gateway accepts of this character; 0 when it accepts none."""
    if not leaf.takes(sign):
        return 0
    low, high = 1, 2
    while leaf.takes(sign * high):
        low, high = high, 2 * high
        assert high < 10**7, f"{leaf.where} has no bound"
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if leaf.takes(sign * middle) else (low, middle)
    return low


def largest(sign: str) -> dict[str, int]:
    """The maximal accepted lengths by field name; for fields that providers send, more than any of
    them."""
    found: dict[str, int] = {}
    for leaf in LEAVES:
        if leaf.type is str and leaf.name not in OURS | NEVER_KEPT:
            found[leaf.name] = max(found.get(leaf.name, 0), longest(leaf, sign))
    return {**found, **dict.fromkeys(NOT_SENT, 30_000)}


S = TypeVar("S", bound=msgspec.Struct)


def filled(event: S, sign: str, sizes: Mapping[str, int]) -> S:
    """The event with every text and every list at its maximal length."""
    said: dict[str, Any] = {}
    for field in msgspec.structs.fields(type(event)):
        value, size = getattr(event, field.name), sizes.get(field.name, 0)
        if isinstance(value, str) and size and get_origin(field.type) is not Literal:
            said[field.name] = sign * size
        elif field.name in {"genres", "tags", "platforms"} and value is not None and size:
            said[field.name] = tuple(
                f"{number:02}" + sign * (size - 2 // len(sign) - 1) for number in range(50)
            )
        elif field.name == "prices" and value is not None:
            said[field.name] = tuple(
                Price(region, LARGEST_CENTS, "USD") for region in ["*", *sorted(COUNTRIES)]
            )
        elif isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct):
            said[field.name] = tuple(filled(each, sign, sizes) for each in value)
    return msgspec.structs.replace(event, **said)


def history(sign: str, sizes: Mapping[str, int]) -> list[Batch]:
    """A history with everything, as the domain makes it, then filled."""
    once = (
        "register verify rename list edit publish order submit redirect capture refund notify"
        " deliver open adjust"
    )
    ways = [*once.split(), "transfer", "count", *["send"] * 5, *["fill"] * 5]
    batches = Flow().steps([(way, n, "x") for way in ways for n in range(4)])
    return [
        [(stream, [filled(each, sign, sizes) for each in events]) for stream, events in batch]
        for batch in batches
    ]


async def goes_through(url: str, batches: list[Batch], registered: Sequence[Registered]) -> None:
    """Fold and write it live, verify it, rebuild it, verify again; nothing is quarantined."""
    async with open_shop(url) as shop, projecting(url, registered):
        for batch in batches:
            await shop.all_happened([(stream, events) for stream, events in batch if events])
        await is_whole(shop, registered)
        await asyncio.to_thread(are_rebuilt, url, registered)


async def is_whole(shop: Shop, registered: Sequence[Registered]) -> None:
    names = [each.projection.name for each in registered]
    assert await shop.models.waiter.wait(names, await shop.log.head(), 900)
    assert await shop.operations.quarantine() == []


def are_rebuilt(url: str, registered: Sequence[Registered]) -> None:
    with connect(url, "rebuild") as conn:
        for each in registered:
            is_proven(conn, each)
            rebuild.rebuild(conn, CODEC, each, lambda _done, _all: None)
            is_proven(conn, each)


def is_proven(conn: psycopg.Connection, registered: Registered) -> None:
    verified = rebuild.verify(conn, CODEC, registered, lambda _done, _all: None)
    assert (verified.quarantined, verified.difference.equal) == (0, True), (
        registered.projection.name,
        verified,
    )


SIGNS = [
    pytest.param(sign, id=f"U+{ord(sign[0]):04X}", marks=[] if sign in QUICK else pytest.mark.soak)
    for sign in WIDE
]


@pytest.mark.parametrize("sign", SIGNS)
def test_every_text_at_its_largest_goes_through_every_read_model(database: str, sign: str) -> None:
    sizes = largest(sign)
    assert sizes["title"] * len(sign) >= 299  # the tested texts are as long as they may be
    asyncio.run(goes_through(database, history(sign, sizes), read_models()))


BEYOND = 10_000
IN_LISTS = 1_100
"""Characters: an event has a megabyte at most."""


@pytest.mark.parametrize("sign", ["㌖", "𞤢"], ids=["U+3316", "U+1E922"])
def test_texts_beyond_all_bounds_go_through_too(database: str, sign: str) -> None:
    """Of events from before there were bounds, or appended without the program."""
    asyncio.run(goes_through(database, history(sign, beyond()), read_models()))


def beyond() -> dict[str, int]:
    return {
        field: IN_LISTS if field in {"genres", "tags", "platforms"} else BEYOND
        for field in largest("x")
    }


@pytest.mark.parametrize("sign", SIGNS)
def test_elasticsearch_takes_them_too(
    database: str, elasticsearch_url: str, elasticsearch_prefix: str, sign: str
) -> None:
    batches = history(sign, largest(sign)) + history(sign, beyond())
    with Elasticsearch(elasticsearch_url, request_timeout=60) as client:
        index = Registered(
            GamesIndex(), ElasticsearchDocuments(client, elasticsearch_prefix.rstrip("-"))
        )
        asyncio.run(goes_through(database, batches, [index]))


# -- all of Unicode --------------------------------------------------------------------------------


@settings(max_examples=200)
@given(st.text(ANY, max_size=320), st.text(ANY, max_size=100))
@example("㌖" * 300, "㌖" * 300)
@example("﷽" * 300, "﷽" * 300)
@example("7" * 300, "𞤢" * 300)
@example("a" * 64 + "\u0301" * 30, "\x00")
def test_every_lexeme_and_key_is_bounded(title: str, tag: str) -> None:
    text = take_apart(title)
    found = [*text.lexemes, *text.keys, *derive(a_game(title, tag)).filters]
    typed = read_typed(title)
    if typed is not None:
        found += [
            *typed.trigrams,
            *typed.other_keys,
            *(each.lexeme for group in typed.strict for each in group),
        ]
        assert len(typed.canonical.encode()) < 2_000
    assert all(0 < len(each.encode()) <= MAX_KEY_BYTES for each in found)
    assert len(text.text.encode()) < 2_000  # in a B-tree, with an id
    assert len(text.canonical.encode()) < 2_000
    # half of what a tsvector may contain
    assert sum(len(each.encode()) + 1 for each in text.lexemes) < 2**19


def a_game(title: str, tag: str, number: int = 1) -> GameDocument:
    return GameDocument(
        game_id=some_id(f"game {number}"), seller_id=some_id("seller"), title=title, tags=[tag],
        genres=[tag, title],
        publisher=title, category=tag, position=number,
    )  # fmt: skip


@settings(max_examples=10)
@given(
    st.lists(
        st.tuples(st.text(ANY, min_size=1, max_size=300), st.text(ANY, max_size=64)),
        min_size=1,
        max_size=20,
    )
)
@example(
    [("㌖" * 150, "㌖" * 64), ("'\\ '' \\' :*&|!<->()", "'"), ("\u0085\u00a0\u3000\ufeff", "\x00")]
)
def test_all_of_unicode_is_read_back_as_it_was_written(
    empty_database: str, texts: list[tuple[str, str]]
) -> None:
    """Whether written one by one, over one another, or bulk loaded; and the server reports no
    invalid data."""
    games = [a_game(title, tag, number) for number, (title, tag) in enumerate(texts, 1)]
    with psycopg.connect(empty_database) as conn:
        for table in ("live", "loaded"):
            postgres_index.create_tables(conn, table)
        postgres_index.upsert(conn, "live", [a_game("before", "㌖" * 64)])
        postgres_index.upsert(conn, "live", games)
        postgres_index.bulk_load(conn, "loaded", games)
        for one, other in (("live", "loaded"), ("live_grams", "loaded_grams")):
            differing = f"SELECT count(*) FROM (TABLE {one} EXCEPT TABLE {other}) AS x"
            assert conn.execute(differing).fetchone() == (0,)
        lexemes: dict[UUID, list[str]] = dict(
            conn.execute("SELECT id, tsvector_to_array(lexemes) FROM live").fetchall()
        )
        for game in games:
            assert sorted(lexemes[game.game_id]) == sorted(derive(game).text.lexemes)
        same = "SELECT bool_and(lexemes::text::tsvector = lexemes) FROM live"
        assert conn.execute(same).fetchone() == (True,)
        assert postgres_index.fetch(conn, "live", [game.game_id for game in games]) == games
        conn.rollback()


def every_character(step: int) -> Iterator[str]:
    """Titles with every `step`th character, three hundred each; of similar characters, only a
    part."""
    codes = [code for code in (*range(0xD800), *range(0xE000, 0x110000)) if code % step == 0]
    codes = [code for code in codes if code % 97 == 0 or not is_one_of_many(chr(code))]
    for start in range(0, len(codes), 300):
        yield "".join(map(chr, codes[start : start + 300]))


def is_one_of_many(sign: str) -> bool:
    """Whether the character differs from others only by its number: ideographs, unassigned, or for
    private use."""
    name = unicodedata.name(sign, "").removesuffix(f"-{ord(sign):X}")
    return (
        name in {"", "CJK UNIFIED IDEOGRAPH", "TANGUT IDEOGRAPH"}
        and unicodedata.category(sign) != "Cc"
    )


@pytest.mark.parametrize(
    "step", [pytest.param(97, id="a part"), pytest.param(1, id="whole", marks=pytest.mark.soak)]
)
async def test_all_of_unicode_is_dumped_and_restored(
    database: str, postgres_url: str, tmp_path: Path, step: int
) -> None:
    models = [model(GamesText.name), model(Games.name)]
    titles = ["㌖" * 150, "﷽" * 300, *every_character(step)]
    async with open_shop(database) as shop, projecting(database, models):
        games = [
            (
                some_id(f"title {number}"),
                [game_created(title=title, tags=(title[:64],), sku=title[:64])],
            )
            for number, title in enumerate(titles)
        ]
        for start in range(0, len(games), 100):
            await shop.all_happened(games[start : start + 100])
        await shop.happened(some_id("title 3"), GameUpdated(title="ΐ" * 300))
        await is_whole(shop, models)
        await asyncio.to_thread(are_rebuilt, database, models)
    restored = shared.create_database(postgres_url, template="template1")
    try:
        await asyncio.to_thread(dump, database, restored, tmp_path / "dump")
        with connect(restored, "verify") as conn:
            for each in models:
                is_proven(conn, each)
    finally:
        shared.drop_database(restored)


def dump(source: str, target: str, file: Path) -> None:
    """By PostgreSQL's own programs."""
    subprocess.run([program("pg_dump"), "--format=custom", f"--file={file}", source], check=True)
    subprocess.run(
        [program("pg_restore"), "--exit-on-error", f"--dbname={target}", file], check=True
    )


# -- indexes by their definitions ------------------------------------------------------------------

BOUNDED = {
    "canonical": "MAX_TITLE characters of folded words",
    "text": "MAX_TITLE characters of folded words",
    "title_key": "200 characters",
    "released": "a date",
    "g": "MAX_KEY_BYTES",
    "currency": "one of ISO 4217",
    "account_id": "made of an id",
    "account_type": "one of ours",
    "kind": "one of ours",
    "status": "one of ours",
    "refund_status": "one of ours",
    "feed": "a name of ours",
    "projection": "a name of ours",
    "storage": "a name of ours",
    "name": "a name of ours, or MAX_NAME characters",
    "act": "one of ours",
    "target": "MAX_TARGET characters",
    "schema": "a name of ours",
    "queue": "a name of ours",
    "component": "a name of ours",
    "invariant": "a name of ours",
    "scope": "one of ours",
    "key_id": "ID_BYTES bytes",
}
"""Why the texts in B-trees are no longer than an entry may be."""


async def test_no_index_is_of_a_text_without_a_bound(database: str) -> None:
    async with open_shop(database) as shop, projecting(database):
        await shop.happened(some_id("game"), game_created())
        await is_whole(shop, read_models())
    with psycopg.connect(database) as conn:
        found = conn.execute("""
            SELECT i.indrelid::regclass::text, pg_get_indexdef(i.indexrelid), a.attname
            FROM pg_index i
            JOIN pg_class c ON c.oid = i.indexrelid
            JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
            JOIN pg_namespace n ON n.oid = c.relnamespace
                AND n.nspname !~ '^(pg_|information_schema)'
            WHERE a.atttypid IN ('text'::regtype, 'varchar'::regtype, 'jsonb'::regtype,
                'bytea'::regtype)
            """).fetchall()
    assert found
    assert [each for each in found if each[2] not in BOUNDED] == []
