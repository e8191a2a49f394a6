"""`ludoteca quarantine show`, `skip`, `amend` and `withdraw` lead past a broken event."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.catalog import GameUpdated
from tests.support.shops.commands import Ludoteca, Shop


@pytest.fixture
def game_id(shop: Shop) -> UUID:
    """A game with a broken event at position 2, and another one behind it; in quarantine."""
    game_id = shop.list_game("Braid")
    shop.append(game_id, 1, GameUpdated(title=7), GameUpdated(description="d"))  # type: ignore[arg-type]
    shop.project()
    return game_id


def _title(shop: Shop) -> Any:
    shop.project()
    return shop.ask("SELECT title FROM read.games_3")


def test_a_broken_event_is_shown_and_amended(
    ludoteca: Ludoteca, shop: Shop, game_id: UUID, tmp_path: Path
) -> None:
    held = [each for each in ludoteca.json("quarantine", "list") if each["feed"] == "games.3"]
    shown = ludoteca.json("quarantine", "show", held[0]["id"])
    assert (shown["event"]["payload"], shown["reading"]) == ({"title": 7}, None)
    assert "Expected `str | null`" in ludoteca("quarantine", "show", 2).stdout
    corrected = tmp_path / "corrected.json"
    corrected.write_text(json.dumps({"title": "Celeste"}), encoding="utf-8")
    command = ("quarantine", "amend", 2, "--payload", corrected, "--reason", "typed wrongly")

    result = ludoteca(*command)

    assert result.exit_code == 0, result.output
    assert "declared at position 4" in result.stdout
    assert _title(shop) == "Celeste"
    assert ludoteca.json("quarantine", "list") == []
    assert "is read so already" in ludoteca(*command).stdout
    (reading,) = ludoteca.json("quarantine", "amendments")
    assert (reading["reading"], reading["reason"]) == ("amend", "typed wrongly")
    assert ludoteca.json("audit", "verify")["intact"]
    verified = ludoteca("projections", "verify", "games")
    assert verified.exit_code == 0, verified.output


def test_it_is_skipped_and_that_is_withdrawn(ludoteca: Ludoteca, shop: Shop, game_id: UUID) -> None:
    told = {"position": 2, "declared_at": 4}
    assert ludoteca.json("quarantine", "skip", 2, "--reason", "a test") == told
    again = {"position": 2, "declared_at": None}  # it is skipped already
    assert ludoteca.json("quarantine", "skip", 2, "--reason", "a test") == again
    assert _title(shop) == "Braid"
    assert ludoteca.json("quarantine", "list") == []
    assert ludoteca("quarantine", "withdraw", 2, "--reason", "no test").exit_code == 0
    shop.project()
    assert {each["position"] for each in ludoteca.json("quarantine", "list")} == {2}
    assert "as_recorded" in ludoteca("quarantine", "amendments").stdout


def test_what_cannot_be_declared_is_told(
    ludoteca: Ludoteca, shop: Shop, game_id: UUID, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"title": 8}', encoding="utf-8")
    no_object = tmp_path / "list.json"
    no_object.write_text("[]", encoding="utf-8")
    no_json = tmp_path / "text"
    no_json.write_text("{", encoding="utf-8")
    for command, code, said in (
        (("skip", "2"), 2, "--reason"),
        (("skip", "2", "--reason", " "), 2, "a reason is required"),
        (("skip", "9", "--reason", "x"), 1, "no event at position 9"),
        (("skip", "x", "--reason", "x"), 2, "neither an id nor a position"),
        (("skip", uuid4(), "--reason", "x"), 1, "not in quarantine"),
        (("withdraw", "2", "--reason", "x"), 1, "was not amended"),
        (("amend", "2", "--payload", wrong, "--reason", "x"), 2, "no payload of game.updated.v1"),
        (("amend", "2", "--payload", no_object, "--reason", "x"), 2, "is no JSON object"),
        (("amend", "2", "--payload", no_json, "--reason", "x"), 2, "is not JSON"),
        (("amend", "2", "--payload", tmp_path / "none", "--reason", "x"), 3, "No such file"),
        (("show", "9"), 1, "no event at position 9"),
    ):
        result = ludoteca("quarantine", *command)
        assert result.exit_code == code, (command, result.output)
        assert said in " ".join(result.stderr.replace("│", " ").split()), result.stderr
