"""`ludoteca audit verify` detects every manipulation of the log."""

import json
import re
from pathlib import Path
from uuid import UUID

import pytest

from domain.catalog import GameUpdated
from runtime.audit import chain as chain_audit
from tests.support.shops.commands import Ludoteca, Shop, run


@pytest.fixture
def kept(shop: Shop) -> Shop:
    """A log of ten events, and a consumer that has read them all."""
    shop.list_games(10)
    shop.tamper(
        "INSERT INTO consumers.feeds (feed, projection, version) VALUES ('games.1', 'games', 1);"
        "INSERT INTO consumers.checkpoints (feed, position) VALUES ('games.1', 10)"
    )
    return shop


def _anchor(ludoteca: Ludoteca) -> str:
    found = re.search(r"^anchor +(\S+)$", ludoteca("audit", "verify").stdout, re.MULTILINE)
    assert found
    return found[1]


def test_an_untouched_log_is_intact_and_its_head_can_be_noted(
    ludoteca: Ludoteca, kept: Shop
) -> None:
    result = ludoteca("audit", "verify")
    assert result.exit_code == 0
    head = kept.ask("SELECT encode(hash, 'hex') FROM log.events WHERE position = 10")
    assert f"position  10\nhash      {head}\nanchor    10:{head}\n" in result.stdout
    report = ludoteca.json("audit", "verify")
    assert (report["intact"], report["position"], report["hash"], report["faults"]) == (
        True,
        10,
        head,
        [],
    )


def test_an_empty_log_is_intact(ludoteca: Ludoteca, shop: Shop) -> None:
    report = ludoteca.json("audit", "verify")
    assert (report["intact"], report["anchor"]) == (True, f"0:{'00' * 32}")
    assert ludoteca.json("audit", "verify", "--from-anchor", report["anchor"])["intact"]


@pytest.mark.parametrize(
    ("deed", "position", "reason"),
    [
        (
            "UPDATE log.events SET payload = convert_to('{}', 'UTF8') WHERE position = 4",
            4,
            "changed",
        ),
        ("UPDATE log.events SET actor = 'nobody' WHERE position = 1", 1, "changed"),
        (
            "UPDATE log.events SET recorded_at = recorded_at - interval '1 day' WHERE position = 7",
            7,
            "time",
        ),
        ("DELETE FROM log.events WHERE position = 5", 5, "removed"),
        (
            (
                "UPDATE log.events SET position = CASE position WHEN 2 THEN -3 WHEN 3 THEN -2 END"
                " WHERE position IN (2, 3); UPDATE log.events SET position = -position WHERE"
                " position < 0"
            ),
            2,
            "moved",
        ),
        (
            "DELETE FROM log.events WHERE position >= 9",
            9,
            "games.1 has read up to position 10, but the log ends at 8",
        ),
        ("DELETE FROM log.events", 1, "the log ends at 0"),
    ],
    ids=["payload", "actor", "time", "removed", "swapped", "tail", "all"],
)
def test_what_was_done_to_the_log_is_found_with_its_position(
    ludoteca: Ludoteca, kept: Shop, deed: str, position: int, reason: str
) -> None:
    kept.tamper(deed)
    result = ludoteca("audit", "verify")
    assert result.exit_code == 1
    assert result.stdout.startswith(f"FAULT at position {position}: ")
    assert reason in result.stdout.splitlines()[0]
    assert "anchor" not in result.stdout
    report = ludoteca.json("audit", "verify", code=1)
    assert (report["intact"], report["faults"][0]["position"]) == (False, position)


def test_from_an_anchor_only_what_follows_is_walked(ludoteca: Ludoteca, kept: Shop) -> None:
    anchor = _anchor(ludoteca)
    kept.list_games(3)
    result = ludoteca("audit", "verify", "--from-anchor", anchor)
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "intact: positions 11 to 13")
    kept.tamper("UPDATE log.events SET actor = 'nobody' WHERE position = 12")
    assert "FAULT at position 12" in ludoteca("audit", "verify", "--from-anchor", anchor).stdout


@pytest.fixture
def in_short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_audit, "STRETCH", 4)


@pytest.mark.usefixtures("in_short_stretches")
@pytest.mark.parametrize("position", range(1, 11))
def test_a_change_is_found_wherever_it_lies_in_its_stretch(
    ludoteca: Ludoteca, kept: Shop, position: int
) -> None:
    assert ludoteca.json("audit", "verify")["position"] == 10
    kept.tamper("UPDATE log.events SET actor = 'nobody' WHERE position = %s", position)
    report = ludoteca.json("audit", "verify", code=1)
    assert (report["position"], report["faults"][0]["position"]) == (position - 1, position)


@pytest.mark.usefixtures("in_short_stretches")
def test_a_stretch_that_is_gone_is_found_at_its_first_position(
    ludoteca: Ludoteca, kept: Shop
) -> None:
    kept.tamper("DELETE FROM log.events WHERE position BETWEEN 4 AND 9")
    assert ludoteca.json("audit", "verify", code=1)["faults"][0]["position"] == 4


@pytest.mark.usefixtures("in_short_stretches")
@pytest.mark.parametrize("position", [4, 5])
def test_a_hash_that_is_null_is_found_also_where_a_stretch_begins(
    ludoteca: Ludoteca, kept: Shop, position: int
) -> None:
    kept.tamper("ALTER TABLE log.events ALTER COLUMN hash DROP NOT NULL")
    kept.tamper("UPDATE log.events SET hash = NULL WHERE position = %s", position)
    assert ludoteca.json("audit", "verify", code=1)["faults"][0]["position"] == position


def test_a_row_before_the_first_is_found_also_from_an_anchor(
    ludoteca: Ludoteca, kept: Shop
) -> None:
    """By stream it would be read, by position it is not."""
    anchor = _anchor(ludoteca)
    kept.tamper(
        "INSERT INTO log.events SELECT 0, gen_random_uuid(), stream_id, version + 1, name, payload,"
        " actor, NULL, NULL, NULL, recorded_at, hash FROM log.events WHERE position = 10"
    )
    for more in ((), ("--from-anchor", anchor)):
        faults = ludoteca.json("audit", "verify", *more, code=1)["faults"]
        assert [fault["position"] for fault in faults] == [0]


def test_several_processes_find_the_same(kept: Shop) -> None:
    for _ in range(2):
        kept.list_games(9_000)
    there = run(["audit", "verify", "--jobs", "2", "--json"])
    assert json.loads(there.stdout)["position"] == 18_010, there.stderr
    kept.tamper("UPDATE log.events SET actor = 'nobody' WHERE position = 17000")
    changed = run(["audit", "verify", "--jobs", "2", "--json"])
    assert changed.returncode == 1
    found = json.loads(changed.stdout)
    assert (found["position"], [each["position"] for each in found["faults"]]) == (16999, [17000])


@pytest.mark.usefixtures("in_short_stretches")
def test_an_audit_goes_on_where_the_last_one_ended(
    ludoteca: Ludoteca, kept: Shop, tmp_path: Path
) -> None:
    noted = tmp_path / "anchor.txt"
    head = ludoteca.json("audit", "verify", "--resume", noted)["anchor"]
    assert noted.read_text() == f"{head}\n"
    kept.list_games(3)
    assert ludoteca.json("audit", "verify", "--resume", noted)["after"] == 10
    nothing_new = ludoteca("audit", "verify", "--resume", noted)
    assert "no event after position" in nothing_new.stdout
    assert "were not read again" in nothing_new.stdout
    kept.tamper("UPDATE log.events SET actor = 'nobody' WHERE position = 13")
    kept.list_games(3)
    noted.write_text(head)
    found = ludoteca.json("audit", "verify", "--resume", noted, code=1)
    assert (found["after"], found["position"], found["faults"][0]["position"]) == (10, 12, 13)
    assert noted.read_text().startswith("12:")


def test_a_file_without_an_anchor_is_refused(
    ludoteca: Ludoteca, kept: Shop, tmp_path: Path
) -> None:
    noted = tmp_path / "anchor.txt"
    noted.write_text("81250")
    result = ludoteca("audit", "verify", "--resume", noted)
    assert result.exit_code == 2
    assert "has no anchor" in result.output
    assert ludoteca("audit", "verify", "--resume", noted, "--from-anchor", "1:2").exit_code == 2


def test_a_log_rewritten_with_new_hashes_does_not_fit_an_anchor(
    ludoteca: Ludoteca, kept: Shop
) -> None:
    anchor = _anchor(ludoteca)
    kept.tamper("DELETE FROM log.events")
    kept.list_games(10)
    assert ludoteca("audit", "verify").exit_code == 0
    result = ludoteca("audit", "verify", "--from-anchor", anchor)
    assert result.exit_code == 1
    assert "the hash is not the anchor's" in result.stdout


def test_an_anchor_beyond_the_end_shows_that_the_end_was_removed(
    ludoteca: Ludoteca, kept: Shop
) -> None:
    anchor = _anchor(ludoteca)
    kept.tamper("UPDATE consumers.checkpoints SET position = 0")
    kept.tamper("DELETE FROM log.events WHERE position = 10")
    assert ludoteca("audit", "verify").exit_code == 0
    result = ludoteca("audit", "verify", "--from-anchor", anchor)
    assert result.exit_code == 1
    assert "FAULT at position 10: removed" in result.stdout


def test_a_difference_is_told_as_a_table_and_as_json(ludoteca: Ludoteca, shop: Shop) -> None:
    game = shop.list_game("Portal")
    made = shop.ask("SELECT max(position) FROM log.events")
    changed = shop.append(game, made, GameUpdated(title="Portal 2"))

    table = ludoteca("audit", "diff", made, changed).stdout
    (line,) = [each for each in table.splitlines() if " title " in each and "games " in each]
    assert line.split()[-4:] == ['"Portal"', '"Portal', '2"', str(changed)]
    assert "game.updated.v1" in table

    found = ludoteca.json("audit", "diff", made, changed, "--game", game)
    titles = [
        (field["before"], field["after"], field["positions"])
        for row in found["rows"]
        for field in row["fields"]
        if (row["model"], field["field"]) == ("games", "title")
    ]
    assert titles == [("Portal", "Portal 2", [changed])]
    assert [each["position"] for each in found["events"]] == [changed]
    assert "no difference" in ludoteca("audit", "diff", changed, changed).stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["1", "0"], 2),
        (["0", "99"], 1),
        (["0", "yesterday"], 2),
        (["0", "1", "--order", "ffffffff-0000-4000-8000-000000000000"], 1),
        (["0", "1", "--order", "no-id"], 2),
        (["0", "1", "--game", str(UUID(int=1)), "--user", str(UUID(int=2))], 2),
    ],
)
def test_what_cannot_be_compared_is_refused(
    ludoteca: Ludoteca, shop: Shop, arguments: list[str], code: int
) -> None:
    shop.list_game("Portal")
    assert ludoteca("audit", "diff", *arguments).exit_code == code
