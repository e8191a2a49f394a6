"""`ludoteca audit replay`: the read models as they were, in a schema of their own."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from projections.models.games import Games
from projections.registry import read_models
from tests.support.servers.shared import free_port
from tests.support.shops.commands import Ludoteca, Shop, process, stop, until

GAMES = f"games_{Games.version}"
SCHEMAS = "SELECT count(*) FROM pg_namespace WHERE starts_with(nspname, 'ludoteca_at')"
MODELS = {each.projection.name for each in read_models()}


def head(shop: Shop) -> int:
    return int(shop.ask("SELECT max(position) FROM log.events"))


def hashes(report: dict[str, Any]) -> dict[str, tuple[int, str]]:
    return {each["model"]: (each["rows"], each["hash"]) for each in report["read_models"]}


def test_all_read_models_are_as_a_rebuild_that_stopped_there(
    ludoteca: Ludoteca, shop: Shop
) -> None:
    shop.list_game("Portal")
    shop.list_game("Witness")
    shop.project()
    verified = ludoteca.json("projections", "verify")["verified"]
    live = {each["projection"]: (each["rows"], each["hash"]) for each in verified}
    position = head(shop)
    shop.list_game("Tetris")

    report = ludoteca.json("audit", "replay", "--until", position)

    assert (report["schema"], report["position"]) == (f"ludoteca_at_{position}", position)
    assert hashes(report) == live
    assert live.keys() == MODELS
    titles = f"SELECT string_agg(title, ' ' ORDER BY title) FROM ludoteca_at_{position}.{GAMES}"
    assert shop.ask(titles) == "Portal Witness"
    assert shop.ask(f"SELECT count(*) FROM read.{GAMES}") == 2  # it was not touched


def test_a_schema_that_exists_is_told_and_stays(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_game("Portal")
    first = ludoteca("audit", "replay", "--until", 1)
    assert (first.exit_code, "ludoteca_at_1 shows position 1" in first.stdout) == (0, True)
    shop.tamper(f"UPDATE ludoteca_at_1.{GAMES} SET title = 'kept'")

    again = ludoteca("audit", "replay", "--until", 1)
    assert again.exit_code == 1
    assert all(
        word in again.output for word in ("ludoteca_at_1", "--replace", "--drop 1", "--list")
    )
    assert shop.ask(f"SELECT title FROM ludoteca_at_1.{GAMES}") == "kept"
    refused = ludoteca.json("audit", "replay", "--until", 1, code=1)
    assert (refused["schema"], "exists" in refused["refused"]) == ("ludoteca_at_1", True)

    assert ludoteca("audit", "replay", "--until", 1, "--replace").exit_code == 0
    assert shop.ask(f"SELECT title FROM ludoteca_at_1.{GAMES}") == "Portal"


def test_an_interrupted_replay_goes_on(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_game("Portal")
    whole = hashes(ludoteca.json("audit", "replay", "--until", 1))
    shop.tamper("DELETE FROM ludoteca_at_1.built WHERE model IN ('games', 'games_text', 'orders')")
    shop.tamper(f"DELETE FROM ludoteca_at_1.{GAMES}")
    (interrupted,) = ludoteca.json("audit", "replay", "--list")
    assert (interrupted["state"], len(interrupted["models"])) == ("interrupted", len(MODELS) - 3)

    assert hashes(ludoteca.json("audit", "replay", "--until", 1)) == whole
    (complete,) = ludoteca.json("audit", "replay", "--list")
    assert complete["state"] == "complete"


def test_a_replay_of_an_older_release_lacks_its_newer_read_models(
    ludoteca: Ludoteca, shop: Shop
) -> None:
    shop.list_game("Portal")
    newer = [each.storage for each in read_models() if each.projection.name in ("games", "stock")]
    assert ludoteca("audit", "replay", "--until", 1).exit_code == 0
    for storage in newer:
        shop.tamper(f"DELETE FROM ludoteca_at_1.built WHERE storage = '{storage}'")
        shop.tamper(f"DROP TABLE ludoteca_at_1.{storage}")
    (older,) = ludoteca.json("audit", "replay", "--list")
    assert older["state"] == "lacks 2 read models of this release"
    listed = " ".join(ludoteca("audit", "replay", "--list").stdout.split())
    assert f"{len(MODELS) - 2} of {len(MODELS)}" in listed

    assert ludoteca("audit", "replay", "--until", 1).exit_code == 0
    (complete,) = ludoteca.json("audit", "replay", "--list")
    assert complete["state"] == "complete"


def test_a_replay_that_was_killed_is_finished_by_the_next(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_games(3_000)
    position = head(shop)
    built = f"SELECT to_regclass('ludoteca_at_{position}.built') IS NOT NULL"
    with process("audit", "replay", "--until", str(position)) as running:
        until(lambda: bool(shop.ask(built)))
        running.kill()
    ludoteca("audit", "replay", "--until", position)
    (found,) = ludoteca.json("audit", "replay", "--list")
    assert found["state"] == "complete"
    again = ludoteca.json("audit", "replay", "--until", position, "--replace")
    assert {each["model"]: (each["rows"], each["hash"]) for each in found["models"]} == hashes(
        again
    )


def test_schemas_are_listed_and_dropped(ludoteca: Ludoteca, shop: Shop) -> None:
    assert "none" in ludoteca("audit", "replay", "--list").stdout
    shop.list_game("Portal")
    for position in (0, 1):
        assert ludoteca("audit", "replay", "--until", position).exit_code == 0
    assert "ludoteca_at_0" in ludoteca("audit", "replay", "--list").stdout
    assert ludoteca("audit", "replay", "--drop", "ludoteca_at_0").exit_code == 0
    assert [each["position"] for each in ludoteca.json("audit", "replay", "--list")] == [1]
    missing = ludoteca("audit", "replay", "--drop", 7)
    assert (missing.exit_code, "there are ludoteca_at_1" in missing.output) == (1, True)
    told = {"dropped": "ludoteca_at_1"}
    assert ludoteca.json("audit", "replay", "--drop", 1) == told
    assert shop.ask(SCHEMAS) == 0


def test_a_time_is_the_position_of_the_last_event_by_then(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_game("Portal")
    now = datetime.now(UTC)
    for at, position in ((now - timedelta(days=1), 0), (now + timedelta(days=1), 1)):
        report = ludoteca.json("audit", "replay", "--until", at.isoformat())
        assert report["position"] == position


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--until", "99"], 1),
        (["--until", "yesterday"], 2),
        (["--until", "2026-01-01T00:00:00"], 2),
        (["--drop", "somewhere"], 2),
        ([], 2),
        (["--until", "1", "--list"], 2),
    ],
)
def test_what_cannot_be_replayed_is_refused(
    ludoteca: Ludoteca, shop: Shop, arguments: list[str], code: int
) -> None:
    assert ludoteca("audit", "replay", *arguments).exit_code == code
    assert shop.ask(SCHEMAS) == 0


def test_the_past_is_served_until_it_is_stopped(shop: Shop) -> None:
    shop.list_game("Portal")
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(url, timeout=2).status_code == 404
        except httpx.HTTPError:
            return False

    with process("audit", "replay", "--until", "1", "--serve", "--port", str(port)) as running:
        until(answers)
        asked = httpx.get(f"{url}/as-of/api/v1/orders")
        assert (asked.status_code, asked.headers["as-of-position"]) == (401, "1")
        assert httpx.post(f"{url}/as-of/api/v1/orders").status_code == 405
        code, errors = stop(running)
    assert code == 0
    assert f"{url}/as-of/ shows position 1" in errors
    assert shop.ask("SELECT count(*) FROM ludoteca_at_1.built") == len(MODELS)
