"""Every projection can fold and write every value that the gateway accepts, and the times that it
accepted before they were bounded.

The values are generated from the gateway's own types, so that a field with wider bounds is tested
with more values. They are put into histories as the domain makes them.
"""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Literal, TypeVar, get_origin

import msgspec
import pytest
from elasticsearch import Elasticsearch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.elasticsearch.documents import ElasticsearchDocuments
from domain.catalog import Price
from domain.money import LARGEST_CENTS
from domain.times import EARLIEST, FIRST_DAY, LAST_DAY, LATEST
from eventstore.database.postgres import connect
from projections.engine import rebuild
from projections.engine.runner import Registered
from projections.registry import read_models
from projections.search.projection import GamesIndex
from tests.support.events.histories import STEPS, Batch, Flow, Step
from tests.support.http.edge import NEVER_KEPT, Leaf, edge
from tests.support.shops.projected import CODEC, Shop, open_shop, projecting
from tests.support.shops.small_gateway import every_route

LEAVES = [each for each in edge(every_route()) if isinstance(each, Leaf) and each.in_body]

EAST, WEST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))
SCRIPTS = [
    "x",
    "é",
    "e\u0301",
    "रा",
    "ﾎﾟ",
    "💩",
    "㌖",
    "\u202e",
    "א",
    "\u2028",
    "\t",
    "\n",
    "<&",
    "'",
    "\\",
    '"',
    "%",
    "_",
]
TEXTS = [
    letter * (length // len(letter))
    for letter in SCRIPTS
    for length in (1, 64, 300, 2048, 4096, 20_000)
]
TEXTS += [
    "",
    " ",
    "\x00",
    "\ud800",
    "{",
    "}" * 300,
    "x\u0301\u0323" * 100,
    "a" * 63 + "💩",
    "https://x.example/%00",
]
MOMENTS = [
    EARLIEST,
    LATEST,
    EARLIEST.astimezone(EAST),
    LATEST.astimezone(WEST),
    datetime(2026, 3, 1, tzinfo=WEST),
]
IMPOSSIBLE = [
    datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1, 1, 2, tzinfo=EAST),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=WEST),
    datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
]
"""Times that were accepted once."""

OURS = {"currency", "region", "kind", "account_type", "type", "country", "email"}
"""Texts that the domain decides, whatever the gateway accepts: they stay as they are."""

NOT_SENT = {
    "detail",
    "code",
    "provider_ref",
    "redirect_url",
    "client_secret_ref",
    "token_ref",
    "last_error",
}
"""Texts that providers send."""


def _kept_by_the_edge() -> dict[str, list[str]]:
    """The accepted values of these texts, by field name."""
    found: dict[str, list[str]] = {}
    for leaf in LEAVES:
        if leaf.type is str and leaf.name not in OURS | NEVER_KEPT:
            known = found.setdefault(leaf.name, [])
            known += [text for text in TEXTS if text not in known and leaf.takes(text)]
    reason = found["reason"]
    return {**found, **dict.fromkeys(NOT_SENT, reason)}


LET_IN = _kept_by_the_edge()
S = TypeVar("S", bound=msgspec.Struct)
LISTS = {"genres", "tags", "platforms"}


def odd(event: S, chance: random.Random, moments: Sequence[datetime]) -> S:
    """The event with other texts, times and days, as they may be sent."""
    said: dict[str, object] = {}
    for field in msgspec.structs.fields(type(event)):
        value = getattr(event, field.name)
        if isinstance(value, datetime):
            said[field.name] = chance.choice(moments)
        elif field.name == "release_date":
            said[field.name] = chance.choice([None, FIRST_DAY, LAST_DAY, date(2024, 2, 29)])
        elif (
            isinstance(value, str)
            and field.name in LET_IN
            and get_origin(field.type) is not Literal
        ):
            said[field.name] = chance.choice(LET_IN[field.name])
        elif field.name in LISTS and value is not None:
            said[field.name] = tuple(chance.sample(LET_IN[field.name], 5))
        elif field.name == "prices" and value is not None:
            amounts = [0, 1, LARGEST_CENTS]
            said[field.name] = tuple(
                Price(p.region, chance.choice(amounts), p.currency) for p in value
            )
        elif isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct):
            said[field.name] = tuple(odd(each, chance, moments) for each in value)
    return msgspec.structs.replace(event, **said)


def everywhere(
    batches: list[Batch], chance: random.Random, moments: Sequence[datetime]
) -> list[Batch]:
    return [[(stream_id, [odd(each, chance, moments) for each in events]) for stream_id,
    events in batch]
            for batch in batches]  # fmt: skip


@settings(max_examples=3)
@given(steps=STEPS, seed=st.integers(0, 2**32))
@pytest.mark.parametrize("moments", [MOMENTS, IMPOSSIBLE], ids=["let in", "let in once"])
def test_every_projection_folds_and_writes_all_that_is_let_in(
    database: str, steps: list[Step], seed: int, moments: list[datetime]
) -> None:
    ways = [
        (what, n, "x") for what in ["list", "count", *["send"] * 6, *["fill"] * 4] for n in range(4)
    ]
    asyncio.run(
        _run(database, everywhere(Flow().steps([*ways, *steps]), random.Random(seed), moments))
    )


async def _run(database: str, batches: list[Batch], registered: Sequence[Registered] = ()) -> None:
    async with open_shop(database) as shop, projecting(database, registered or read_models()):
        for batch in batches:
            await _append(shop, batch)
        names = [each.projection.name for each in registered or read_models()]
        assert await shop.models.waiter.wait(names, await shop.log.head(), 30)
        for each in registered or read_models():
            await asyncio.to_thread(_is_whole, database, each)


async def _append(shop: Shop, batch: Batch) -> None:
    await shop.all_happened([(stream_id, events) for stream_id, events in batch if events])


def _is_whole(url: str, registered: Registered) -> None:
    with connect(url, "test") as conn:
        verified = rebuild.verify(conn, CODEC, registered, lambda _done, _all: None)
        assert (verified.quarantined, verified.difference.equal) == (0, True), (
            registered.projection.name,
            verified,
        )


def test_what_is_tried_is_let_in_and_odd() -> None:
    assert {
        "title",
        "sku",
        "description",
        "name",
        "reason",
        "genres",
        "tracking_number",
        "url",
    } <= set(LET_IN)
    assert all(texts for texts in LET_IN.values())
    assert max(map(len, LET_IN["description"])) == 20_000
    assert not any(
        "\x00" in text or "\ud800" in text for texts in LET_IN.values() for text in texts
    )


@settings(max_examples=3)
@given(seed=st.integers(0, 2**32))
def test_elasticsearch_takes_every_game_that_is_let_in(
    database: str, elasticsearch_url: str, elasticsearch_prefix: str, seed: int
) -> None:
    steps = [(what, n % 4, "x") for what in ("list", "edit", "publish", "edit") for n in range(4)]
    batches = everywhere(Flow().steps(steps), random.Random(seed), MOMENTS)
    with Elasticsearch(elasticsearch_url) as client:
        index = Registered(
            GamesIndex(), ElasticsearchDocuments(client, elasticsearch_prefix.rstrip("-"))
        )
        asyncio.run(_run(database, batches, [index]))
