"""Load games from a CSV file. They are listed as the platform's own, and on sale at once."""

import hashlib
from datetime import date
from pathlib import Path
from uuid import UUID

from commands.caller import IMPORTER
from domain.catalog import Listing, Price
from domain.errors import Invalid, Refused
from domain.ids import derived
from domain.regions import ANY_REGION
from domain.text import breaks_line, is_visible, unescaped
from eventstore.log import AlreadyDone, IdempotencyKey
from runtime.load.rows import (
    BrokenRow,
    LoadReport,
    Progress,
    each_new,
    key_of,
    no_progress,
    read_rows,
)
from runtime.wiring.core import Core

DEFAULT_PRICE_CENTS = 1999
"""The price of a game without a price in the file."""

CURRENCY = "USD"
COLUMNS = ("title", "publisher", "tags", "price_cents", "release_date", "platforms")
GENRES = frozenset(
    """
    Action|Adventure|Casual|Fighting|Horror|Indie|Massively
    Multiplayer|Platformer|Puzzle|RPG|Racing|Shooter|Simulation
    Sports|Strategy|Survival
    """.replace("\n", "|")
    .replace(" " * 4, "")
    .split("|")
)
"""Tags that are genres as well."""


def game_id_of(title: str) -> UUID:
    """The id of an imported game, derived from its exact title."""
    return derived("import.game", title)


async def load_games(core: Core, path: Path, progress: Progress = no_progress) -> LoadReport:
    """List the games of a CSV file as the platform's own, on sale at once. Raises UnreadableFile,
    OSError."""
    report = LoadReport()
    listings: dict[UUID, tuple[int, Listing]] = {}
    titles: set[str] = set()
    for line, fields in read_rows(path, COLUMNS, report):
        try:
            listing = _listing(fields)
        except ValueError as error:
            report.broken.append(BrokenRow(line, str(error)))
            continue
        if listing.title in titles:
            report.refused["duplicate_title"] += 1
        else:
            titles.add(listing.title)
            listings[game_id_of(fields["title"])] = (line, listing)

    async def one(game_id: UUID) -> None:
        line, listing = listings[game_id]
        try:
            await core.commands.catalog.create(
                IMPORTER, listing, "ACTIVE", once=IdempotencyKey(key_of(game_id)), game_id=game_id
            )
            report.loaded += 1
        except AlreadyDone:
            report.known += 1
        except Invalid as invalid:
            report.broken.append(BrokenRow(line, str(invalid)))
        except Refused as refusal:
            report.refused[refusal.code] += 1

    report.known += await each_new(core, list(listings), key_of, one, "games", progress)
    report.broken.sort(key=lambda broken: broken.line)
    return report


def _listing(fields: dict[str, str]) -> Listing:
    """The listing of a row. Raises ValueError with what is wrong."""
    title = fields["title"]
    if not is_visible(title):
        raise ValueError("no title")
    tags = tuple(
        _line("tags", unescaped(tag.strip())) for tag in fields["tags"].split("|") if tag.strip()
    )
    return Listing(
        sku="IMP-" + hashlib.sha256(title.encode()).hexdigest()[:12].upper(),
        title=_line("title", unescaped(title)),
        kind="DIGITAL",
        publisher=_line("publisher", unescaped(fields["publisher"].strip())),
        category="Games",
        genres=tuple(tag for tag in tags if tag in GENRES),
        tags=tags,
        platforms=tuple(
            _line("platforms", part.strip())
            for part in fields["platforms"].split("|")
            if part.strip()
        ),
        release_date=_date(fields["release_date"].strip()),
        prices=(Price(ANY_REGION, _cents(fields["price_cents"].strip()), CURRENCY),),
    )


def _line(name: str, text: str) -> str:
    """The text, if it is a single line, as the API requires. Raises ValueError."""
    if breaks_line(text):
        raise ValueError(f"{name}: control characters and line breaks are not allowed")
    return text


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise ValueError(f"release_date {text!r} is not a date (YYYY-MM-DD)") from None


def _cents(text: str) -> int:
    if not text:
        return DEFAULT_PRICE_CENTS
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"price_cents {text!r} is not a whole number of cents")
    return int(text)
