"""Loading CSV files while the shop runs: broken lines are reported by number, the rest is loaded,
once."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sized
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.load.games import DEFAULT_PRICE_CENTS, game_id_of
from runtime.load.purchases import person_id_of
from tests.support.processes.instance import PATIENCE, Instance, eventually, running
from tests.support.servers import shared

GAMES_HEADER, PURCHASES_HEADER = (
    b"title,publisher,tags,price_cents,release_date,platforms",
    b"user_id,title,hours",
)
ROCK = "Rock & Roll &parade"
UNUSUAL = [
    ROCK,
    "Warhammer, 40,000",
    'The "Real" Thing',
    "Odd \N{REPLACEMENT CHARACTER} Sign",
    "Rocket \N{ROCKET} Ride",
    " padded ",
]

# Each row as it stands in the file, and the expected report about it (None: it is loaded).
GAME_ROWS: list[tuple[bytes, str | None]] = [
    (b'"Warhammer, 40,000",Games Workshop,RPG|Strategy,4999,2015-05-18,Windows|Linux', None),
    (b'"The ""Real"" Thing",Someone,Indie,999,,Windows', None),
    (b"Too Short,Someone,Indie", "3 fields instead of 6"),
    (b'"Two\nLines",Someone,,100,,', "title: control characters and line breaks are not allowed"),
    (b"After Two Lines,Someone,,cheap,,", "price_cents 'cheap' is not a whole number of cents"),
    (b"Below Zero,Someone,,-5,,", "price_cents '-5' is not a whole number of cents"),
    (
        b"Too Dear,Someone,,99999999999999999999,,",
        "an amount in USD lies between 0 and 100000000, that is 1000000.00 USD",
    ),
    (b"", None),
    (b"Bad Date,Someone,,100,someday,", "release_date 'someday' is not a date (YYYY-MM-DD)"),
    (b"Latin\xe9,Someone,,100,,", "not valid UTF-8 text"),
    (b"   ,Someone,,100,,", "no title"),
    ("Odd \N{REPLACEMENT CHARACTER} Sign,Someone,,100,,".encode(), None),
    ("Rocket \N{ROCKET} Ride,Someone,,100,,".encode(), None),
    (b" padded ,Someone,,100,,", None),
    (b"Gratis,Someone,,0,,", None),
    (b"Without Price,Someone,,,,", None),
    (b"Gratis,Somebody Else,,100,,", None),  # the second of this title is refused, not broken
    (b"Too,Long,,1,,,Windows", "7 fields instead of 6"),
    (b'"Never Closed,Someone,,100,,', "',' expected after '\"'"),
    (b'"Say" Hello,Someone,,100,,', "',' expected after '\"'"),
    (b"Rock &amp; Roll &parade,R&amp;D,Point &amp; Click,100,,", None),
    (b"Rock & Roll &parade,Someone,,100,,", None),  # the same title, and so refused
    (b"\xe2\x80\x8b,Someone,,100,,", "no title"),
    (b"Two&#10;Lines,Someone,,100,,", "title: control characters and line breaks are not allowed"),
    (
        b"Two Publishers,Some\tone,,100,,",
        "publisher: control characters and line breaks are not allowed",
    ),
    (b'Never "Opened",Someone,,100,,', "a quote in a field that is not quoted"),
    (b"Nu\0l,Someone,,100,,", "a NUL character, which no text may hold"),
    (b"Back\xe2\x80\xaewards,Someone,,100,,", "title: bidirectional controls"),
]
PURCHASE_ROWS: list[tuple[bytes, str | None]] = [
    (b'11,"Warhammer, 40,000",10', None),
    (b'11,"The ""Real"" Thing",1', None),
    (b'11,"Two\nLines",2', "no game is called 'Two\\nLines'"),
    (b"11,Nowhere To Be Found,1", "no game is called 'Nowhere To Be Found'"),
    (b",Gratis,1", "user_id '' is not an id"),
    (b"a b,Gratis,1", "user_id 'a b' is not an id"),
    (b"22,Latin\xe9,1", "not valid UTF-8 text"),
    (b"22,Gratis", "2 fields instead of 3"),
    (b"22,Gratis,5", None),
    ("22,Odd \N{REPLACEMENT CHARACTER} Sign,5".encode(), None),
    ("22,Rocket \N{ROCKET} Ride,5".encode(), None),
    (b"22, padded ,5", None),
    (b"11,Without Price,0.5", None),
    (b"22,Gratis,7", None),  # the person's second purchase of the game is refused, not broken
    (b"22,padded,1", "no game is called 'padded'"),
    (b'22,"Gratis,1', "unexpected end of data"),
    (b"22,Rock &amp; Roll &parade,1", None),
]
LIBRARIES = {
    "11": ["Warhammer, 40,000", 'The "Real" Thing', "Without Price"],
    "22": [
        "Gratis",
        "Odd \N{REPLACEMENT CHARACTER} Sign",
        "Rocket \N{ROCKET} Ride",
        " padded ",
        ROCK,
    ],
}


def write(path: Path, header: bytes, rows: list[tuple[bytes, str | None]]) -> list[dict[str, Any]]:
    """Write the file; returns the expected report about its broken rows."""
    path.write_bytes(b"\n".join([header, *(row for row, _ in rows)]) + b"\n")
    broken, line = [], 2
    for row, reason in rows:
        if reason is not None:
            broken.append({"line": line, "reason": reason})
        line += 1 + row.count(b"\n")
    return broken


@dataclass
class Load:
    """A run of `ludoteca load`."""

    code: int
    stdout: str
    stderr: str

    @property
    def report(self) -> dict[str, Any]:
        return dict(json.loads(self.stdout))


def starting(shop: Instance, what: str, path: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "runtime.cli", "load", what, str(path), *options]
    return subprocess.Popen(
        command,
        env=shop.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def load(shop: Instance, what: str, path: Path, *options: str) -> Load:
    process = starting(shop, what, path, *options)
    stdout, stderr = process.communicate(timeout=300)
    return Load(process.returncode, stdout, stderr)


@pytest.fixture(scope="module")
def shop(
    postgres_url: str, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Instance]:
    database = shared.create_database(postgres_url, template=postgres_template)
    with running(tmp_path_factory.mktemp("home"), database, {}) as instance:
        yield instance
    shared.drop_database(database)


@dataclass
class Files:
    """Two files with broken rows, and the report of their first load."""

    games: Path
    purchases: Path
    games_load: Load
    purchases_load: Load
    broken_games: list[dict[str, Any]]
    broken_purchases: list[dict[str, Any]]


@pytest.fixture(scope="module")
def files(shop: Instance, tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("files")
    games, purchases = folder / "games.csv", folder / "purchases.csv"
    broken_games = write(games, GAMES_HEADER, GAME_ROWS)
    broken_purchases = write(purchases, PURCHASES_HEADER, PURCHASE_ROWS)
    return Files(
        games,
        purchases,
        load(shop, "games", games, "--json"),
        load(shop, "purchases", purchases, "--json"),
        broken_games,
        broken_purchases,
    )


# -- games -----------------------------------------------------------------------------------------


def test_broken_games_are_named_by_line_and_the_rest_is_loaded(files: Files) -> None:
    assert files.games_load.code == 1
    report = files.games_load.report
    reasons = {each["line"]: each["reason"] for each in report["broken"]}
    assert list(reasons) == [each["line"] for each in files.broken_games]
    assert all(each["reason"] in reasons[each["line"]] for each in files.broken_games)
    assert report["refused"] == {"duplicate_title": 2}
    assert (report["rows"], report["loaded"], report["known"]) == (27, 8, 0)
    assert adds_up(report)


def test_loaded_games_are_on_sale_under_their_exact_titles(shop: Instance, files: Files) -> None:
    def on_sale() -> set[str]:
        return {
            game["title"] for game in shop.http().get("/api/v1/games?limit=200").json()["items"]
        }

    assert eventually(on_sale, lambda titles: titles >= {*UNUSUAL, "Gratis", "Without Price"})


def test_a_game_has_the_price_of_the_file_none_or_the_documented_one(
    shop: Instance, files: Files
) -> None:
    def price(title: str) -> int:
        game = shop.http().get(f"/api/v1/games/{game_id_of(title)}").json()
        return int(game["prices"][0]["amount_cents"])

    assert [price(title) for title in ('The "Real" Thing', "Gratis", "Without Price")] == [
        999,
        0,
        DEFAULT_PRICE_CENTS,
    ]
    assert "costs 19.99 USD" in (Path(__file__).parents[2] / "docs" / "loading.md").read_text(
        encoding="utf-8"
    )


def test_broken_rows_are_reported_line_by_line(shop: Instance, files: Files) -> None:
    again = load(shop, "games", files.games)
    assert again.code == 1
    for broken in files.broken_games:
        assert any(
            line.startswith(f"line {broken['line']}: ") for line in again.stderr.splitlines()
        ), again.stderr
    assert "loaded before" in again.stdout


# -- purchases -------------------------------------------------------------------------------------


def test_broken_purchases_are_named_by_line_and_the_rest_is_granted(files: Files) -> None:
    assert files.purchases_load.code == 1
    report = files.purchases_load.report
    assert report["broken"] == files.broken_purchases
    assert (report["rows"], report["loaded"], report["granted"], report["people"]) == (17, 8, 8, 2)
    assert adds_up(report)


def test_a_persons_second_purchase_of_a_game_is_refused_and_counted(files: Files) -> None:
    assert files.purchases_load.report["refused"] == {"already_owned": 1}


def _as_many(wanted: Sized, found: Sized) -> bool:
    return len(found) == len(wanted)


def test_every_library_equals_the_file(shop: Instance, files: Files) -> None:
    for person, titles in LIBRARIES.items():
        assert eventually(partial(library, shop, person), partial(_as_many, titles))
        assert sorted(library(shop, person)) == sorted(titles)


def test_a_free_game_is_captured_without_a_provider(shop: Instance, files: Files) -> None:
    captures = [e["payload"] for e in shop.events(name="payment.transaction.completed.v1")]
    mine = [
        c for c in captures if c["buyer_id"] in {str(person_id_of(person)) for person in LIBRARIES}
    ]
    free = [capture for capture in mine if capture["method_type"] == "free"]
    assert [(capture["amount_cents"], capture.get("provider")) for capture in free] == [(0, None)]
    assert all(capture["provider"] == "simulated" for capture in mine if capture not in free)


def test_imported_people_get_no_mail_and_no_password(shop: Instance, files: Files) -> None:
    asked = shop.events(name="notification.requested.v1")
    assert not [
        e
        for e in asked
        if e["payload"]["user_id"] in {str(person_id_of(person)) for person in LIBRARIES}
    ]
    body = {"email": "11@import.invalid", "password": ""}
    assert shop.http().post("/api/v1/auth/login", json=body).status_code in {401, 422}


def test_an_imported_order_gets_no_fiscal_receipt(shop: Instance, files: Files) -> None:
    quiet_head(shop)
    assert shop.count("payment.fiscal.receipt.requested.v1") == 0


def test_a_second_load_changes_nothing(shop: Instance, files: Files) -> None:
    head = quiet_head(shop)
    games, purchases = (
        load(shop, "games", files.games, "--json").report,
        load(shop, "purchases", files.purchases, "--json").report,
    )
    assert (games["loaded"], games["known"]) == (0, 8)
    assert (purchases["loaded"], purchases["known"], purchases["granted"]) == (0, 8, 8)
    assert purchases["refused"] == {"already_owned": 1}
    assert quiet_head(shop) == head + 4  # two acts of an operator, which begin and end


# -- a killed load ---------------------------------------------------------------------------------

PEOPLE, TITLES = [f"9{n:03}" for n in range(40)], [f"Crowd {n}" for n in range(1_000)]
BOUGHT = [(person, TITLES[(7 * n + m) % 60]) for n, person in enumerate(PEOPLE) for m in range(30)]


def test_a_load_that_is_killed_and_run_again_doubles_nothing(
    shop: Instance, tmp_path: Path
) -> None:
    games, purchases = tmp_path / "games.csv", tmp_path / "purchases.csv"
    with games.open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                GAMES_HEADER.decode().split(","),
                *([title, "", "", n % 3 * 50, "", ""] for n, title in enumerate(TITLES)),
            ]
        )
    with purchases.open("w", newline="") as file:
        csv.writer(file).writerows(
            [PURCHASES_HEADER.decode().split(","), *([*row, 1] for row in BOUGHT)]
        )

    assert kill_amid(shop, "games", games, "game.created.v1") < len(TITLES)
    assert load(shop, "games", games).code == 0
    assert kill_amid(shop, "purchases", purchases, "order.created.v1") < len(BOUGHT)
    last = load(shop, "purchases", purchases, "--json")
    assert last.code == 0, last.stderr
    assert (last.report["granted"], last.report["refused"]) == (len(BOUGHT), {})
    assert last.report["known"] > 0

    crowd = {str(person_id_of(person)): person for person in PEOPLE}
    grants = [
        e["payload"]
        for e in shop.events(name="library.game.added.v1")
        if e["payload"]["user_id"] in crowd
    ]
    assert Counter((crowd[g["user_id"]], g["title"]) for g in grants) == Counter(BOUGHT)
    orders = [
        e["payload"]
        for e in shop.events(name="order.created.v1")
        if e["payload"]["buyer_id"] in crowd
    ]
    assert len(orders) == len(BOUGHT)
    listed = [e["payload"]["title"] for e in shop.events(name="game.created.v1")]
    assert sorted(title for title in listed if title.startswith("Crowd")) == sorted(TITLES)


def kill_amid(shop: Instance, what: str, path: Path, counted: str) -> int:
    """Start a load and kill it when part of it is in the log; returns how much is there then."""
    before = shop.count(counted)
    loader = starting(shop, what, path)
    deadline = time.monotonic() + PATIENCE
    # Without the growing pauses of `eventually`: a load is over within a second or two.
    while shop.count(counted) == before:
        assert time.monotonic() < deadline
    loader.send_signal(signal.SIGKILL)
    loader.communicate()
    return shop.count(counted) - before


# -- unusable files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"name,price\nCeleste,100\n", "lacks the column(s)"),
        (GAMES_HEADER + b",title\nCeleste,,,100,,,Celeste\n", "has the column(s) title twice"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "lacks the column(s)"),
    ],
    ids=["empty", "other columns", "a column twice", "no text"],
)
def test_a_file_without_the_columns_is_wrong_usage_said_in_one_line(
    shop: Instance, tmp_path: Path, content: bytes, says: str
) -> None:
    path = tmp_path / "games.csv"
    path.write_bytes(content)
    done = load(shop, "games", path)
    assert done.code == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def adds_up(report: dict[str, Any]) -> bool:
    """Whether each row of the file is counted once."""
    counted = (
        report["loaded"] + report["known"] + sum(report["refused"].values()) + len(report["broken"])
    )
    return bool(counted == report["rows"])


# -- helpers ---------------------------------------------------------------------------------------


def library(shop: Instance, person: str) -> list[str]:
    answer = shop.admin().get(
        "/api/v1/library", params={"user_id": str(person_id_of(person)), "limit": 200}
    )
    return [item["title"] for item in answer.json()["items"]]


def quiet_head(shop: Instance) -> int:
    """The log's end once nothing is under way: every consumer has read it, and the provider has
    sent all notices."""
    provider = f"http://127.0.0.1:{shop.environment['LUDOTECA_PROVIDER_PORT']}/health"
    eventually(lambda: httpx.get(provider, timeout=30).json()["pending_webhooks"] == 0)
    rows = eventually(
        lambda: json.loads(shop.cli("projections", "list", "--json")),
        lambda found: all(r["lag"] == 0 for r in found),
    )
    return max(int(row["position"]) for row in rows)
