"""`ludoteca events`."""

import json
import signal
from pathlib import Path
from uuid import uuid4

from domain.catalog import GameUpdated
from domain.identity import UserDeactivated
from tests.support.shops.commands import Ludoteca, Shop, process, stop


def _lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_tail_begins_with_the_last_events(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_games(30)
    assert [
        e["position"] for e in _lines(ludoteca("events", "tail", "--no-follow").stdout)
    ] == list(range(21, 31))
    assert [
        e["position"] for e in _lines(ludoteca("events", "tail", "--no-follow", "-n", 2).stdout)
    ] == [29, 30]
    assert ludoteca("events", "tail", "--no-follow", "-n", 0).stdout == ""
    after = ludoteca("events", "tail", "--no-follow", "--after", 5).stdout
    assert [e["position"] for e in _lines(after)] == list(range(6, 31))


def test_an_event_is_a_line_with_its_envelope_and_its_payload(
    ludoteca: Ludoteca, shop: Shop
) -> None:
    game_id = shop.list_game("Portal\n2")
    (event,) = _lines(ludoteca("events", "export").stdout)
    assert event["payload"]["title"] == "Portal\n2"  # type: ignore[index]
    assert (event["stream_id"], event["version"], event["name"]) == (
        str(game_id),
        1,
        "game.created.v1",
    )
    assert event["actor"] == "test"


def test_events_are_selected_by_name_by_pattern_and_by_stream(
    ludoteca: Ludoteca, shop: Shop
) -> None:
    first = shop.list_game("Portal")
    shop.append(first, 1, GameUpdated(title="Portal 2"))
    shop.append(uuid4(), 0, UserDeactivated())
    shop.list_game("Witness")

    def selected(*filters: object) -> list[object]:
        return [
            e["position"]
            for e in _lines(ludoteca("events", "tail", "--no-follow", *filters).stdout)
        ]

    assert selected("--name", "game.updated.v1") == [2]
    assert selected("--name", "game.*") == [1, 2, 4]
    assert selected("--name", "game.updated.*", "--name", "user.*") == [2, 3]
    assert selected("--stream", first) == [1, 2]
    assert selected("--stream", first, "--name", "game.created.v1") == [1]
    assert selected("--name", "game.*", "-n", 1) == [4]
    assert selected("--stream", uuid4()) == []


def test_a_tail_follows_the_log_until_it_is_stopped(shop: Shop) -> None:
    shop.list_game("Portal")
    with process("events", "tail", "-n", "1", "--name", "game.*") as running:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["payload"]["title"] == "Portal"
        shop.append(uuid4(), 0, UserDeactivated())
        shop.list_game("Witness")
        assert json.loads(running.stdout.readline())["payload"]["title"] == "Witness"
        assert stop(running, signal.SIGINT) == (130, "")


def test_an_event_is_shown_by_position_and_by_id(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_game("Portal")
    shown = json.loads(ludoteca("events", "show", 1).stdout)
    assert shown["payload"]["title"] == "Portal"
    assert shown["hash"] == shop.ask("SELECT encode(hash, 'hex') FROM log.events")
    assert json.loads(ludoteca("events", "show", shown["event_id"]).stdout) == shown


def test_an_event_that_is_not_there_is_said_not_to_be(ludoteca: Ludoteca, shop: Shop) -> None:
    for reference in (7, uuid4()):
        result = ludoteca("events", "show", reference)
        assert (result.exit_code, result.stderr) == (1, f"there is no event {reference}\n")


def test_personal_fields_are_exported_as_they_are_stored(ludoteca: Ludoteca, shop: Shop) -> None:
    made = ludoteca(
        "admin", "create", "--email", "ana@example.org", "--name", "Ana", stdin="a long password\n"
    )
    assert made.exit_code == 0, made.output
    exported = ludoteca("events", "export", "--name", "user.registered.v1").stdout
    assert "ana@example.org" not in exported
    assert _lines(exported)[0]["payload"]["email"].startswith("1:")  # type: ignore[index]


def test_an_export_to_a_file_is_whole_and_tells_how_far_it_is(
    ludoteca: Ludoteca, shop: Shop, tmp_path: Path
) -> None:
    shop.list_games(2500)
    file = tmp_path / "events.jsonl"
    result = ludoteca("events", "export", "--output", file)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "export: 2,500" in result.stderr
    assert [e["position"] for e in _lines(file.read_text())] == list(range(1, 2501))
    assert list(tmp_path.glob("*.partial")) == []
    assert len(_lines(ludoteca("events", "export", "--after", 2400).stdout)) == 100


def test_an_export_whose_reader_goes_away_ends_quietly(shop: Shop) -> None:
    shop.list_games(2500)
    with process("events", "export") as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.stdout.close()
        running.stdout = None
        _, errors = running.communicate(timeout=30)
    assert (running.returncode, errors) == (141, "")


def test_a_forged_payload_does_not_break_the_lines(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_games(2)
    shop.tamper(r"UPDATE log.events SET payload = '\xff00' WHERE position = 1")
    shop.tamper(r"""UPDATE log.events SET payload = E'{"a":\n1}'::bytea WHERE position = 2""")
    first, second = _lines(ludoteca("events", "export").stdout)
    assert (first["payload_base64"], second["payload"]) == ("/wA=", {"a": 1})
