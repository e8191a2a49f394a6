"""Queries as people type them when they look for a game, made from its title by a seeded
generator."""

import csv
import random
import string
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from domain.ids import derived
from domain.text import unescaped
from projections.search.document import DocumentPrice, GameDocument
from projections.search.text import folded

CATALOGUE = Path(__file__).parents[3] / "shared" / "data" / "games.csv"
"""11,002 real titles. Not part of the repository: tests that need the file are skipped without
it."""

PURCHASES = CATALOGUE.with_name("purchases.csv")
"""26,936 real purchases by 6,000 people, of titles in the catalogue or not."""

SELLER = UUID(int=1)


class Case(NamedTuple):
    """A person looks for `title` and types `query`."""

    kind: str
    title: str
    query: str


def catalogue() -> list[GameDocument]:
    """The real titles as documents on sale."""
    with CATALOGUE.open(encoding="utf-8", newline="") as file:
        return [_document(number, row) for number, row in enumerate(csv.DictReader(file), 1)]


def _document(number: int, row: dict[str, str]) -> GameDocument:
    tags = [unescaped(tag) for tag in row["tags"].split("|") if tag]
    return GameDocument(
        game_id=derived("game", number),
        seller_id=SELLER,
        sku=f"SKU-{number}",
        title=unescaped(row["title"]),
        publisher=row["publisher"],
        category="games",
        genres=tags[:1],
        tags=tags,
        platforms=[platform for platform in row["platforms"].split("|") if platform],
        release_date=row["release_date"] or None,
        status="ACTIVE",
        prices=[DocumentPrice("*", int(row["price_cents"]), "USD")] if row["price_cents"] else [],
        position=number,
    )


def purchases(documents: list[GameDocument]) -> list[tuple[str, GameDocument]]:
    """Who bought which of the games."""
    by_title = {folded(document.title): document for document in reversed(documents)}
    with PURCHASES.open(encoding="utf-8", newline="") as file:
        rows = [(row["user_id"], folded(row["title"])) for row in csv.DictReader(file)]
    return [(person, by_title[title]) for person, title in rows if title in by_title]


def cases(titles: list[str], seed: int) -> list[Case]:
    """For each title, what five people type."""
    rng = random.Random(seed)
    found = []
    for title in titles:
        text = folded(title)
        found += [
            Case("one typo", text, mistyped(text, rng)),
            Case("two typos", text, mistyped(mistyped(text, rng), rng)),
            Case("prefix", text, unfinished(text, rng)),
            Case("lost space", text, text.replace(" ", "", 1)),
            Case("as it is", text, title),
        ]
    return found


def mistyped(text: str, rng: random.Random) -> str:
    """One letter replaced, left out, doubled up or swapped with the next."""
    letters = list(text)
    places = [place for place, letter in enumerate(letters) if letter.isalnum()]
    place, letter = rng.choice(places), rng.choice(string.ascii_lowercase)
    match rng.choice(["replace", "insert", "delete", "swap"]):
        case "replace":
            letters[place] = letter
        case "insert":
            letters.insert(place, letter)
        case "delete" if len(places) > 3:
            del letters[place]
        case "swap" if place + 1 < len(letters):
            letters[place], letters[place + 1] = letters[place + 1], letters[place]
    return "".join(letters)


def unfinished(text: str, rng: random.Random) -> str:
    """The first 40 to 80 % of it, at least four characters."""
    return text[: max(4, int(len(text) * rng.uniform(0.4, 0.8)))].rstrip()
