"""`ludoteca projections` and `ludoteca quarantine`."""

from uuid import uuid4

import psycopg

from domain import catalog
from domain.events import Event
from domain.ids import PLATFORM_ID
from eventstore.consumers import checkpoints
from projections.models.games import Games
from tests.support.shops.commands import Ludoteca, Shop

GAMES = f"games_{Games.version}"
"""The table of the active read model of games."""


def _feed(ludoteca: Ludoteca, projection: str, state: str = "live") -> dict[str, object]:
    (found,) = [
        row
        for row in ludoteca.json("projections", "list")
        if row["projection"] == projection and row["state"] == state
    ]
    return dict(found)


def test_the_list_shows_where_each_read_model_is(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_game("Portal")
    shop.project()
    position = shop.append(uuid4(), 0, *_an_event())
    feed = _feed(ludoteca, "games")
    assert (feed["position"], feed["head"], feed["lag"]) == (position - 1, position, 1)
    table = ludoteca("projections", "list").stdout
    assert "quarantined" in table.splitlines()[0]
    assert GAMES in table


def test_read_models_that_never_ran_are_named(ludoteca: Ludoteca, shop: Shop) -> None:
    result = ludoteca("projections", "list")
    assert result.exit_code == 0
    assert "no consumer has run yet" in result.stdout
    assert "orders" in result.stderr


def test_read_models_that_equal_their_replay_verify(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_game("Portal")
    shop.project()
    report = ludoteca.json("projections", "verify")
    assert {v["projection"] for v in report["verified"]} >= {"games", "orders", "payments", "users"}
    assert all(v["equal"] for v in report["verified"])
    (games,) = [v for v in report["verified"] if v["projection"] == "games"]
    assert (games["rows"], games["hash"]) == (1, games["replayed_hash"])
    assert "NO" not in ludoteca("projections", "verify").stdout


def test_a_row_changed_by_hand_is_found_and_named(ludoteca: Ludoteca, shop: Shop) -> None:
    game_id = shop.list_game("Portal")
    shop.list_game("Witness")
    shop.project()
    shop.tamper(f"UPDATE read.{GAMES} SET title = 'Mine' WHERE game_id = %s", game_id)
    (games,) = ludoteca.json("projections", "verify", "games", code=1)["verified"]
    assert (games["equal"], games["differing_keys"]) == (False, [str(game_id)])
    result = ludoteca("projections", "verify")
    assert result.exit_code == 1
    assert str(game_id) in result.stdout


def test_verifying_what_never_ran_is_no_success(ludoteca: Ludoteca, shop: Shop) -> None:
    result = ludoteca("projections", "verify", "orders")
    assert result.exit_code == 3
    assert "orders has never run" in result.stderr


def test_a_rebuild_switches_to_a_new_table_and_rollback_goes_back(
    ludoteca: Ludoteca, shop: Shop
) -> None:
    shop.list_game("Portal")
    with shop.projector():
        report = ludoteca.json("projections", "rebuild", "games")
        assert [(r["storage"], r["rows"]) for r in report["rebuilt"]] == [(f"{GAMES}_r1", 1)]
        assert _feed(ludoteca, "games")["storage"] == f"{GAMES}_r1"
        assert _feed(ludoteca, "games", "standby")["storage"] == GAMES
        result = ludoteca("projections", "rollback", "games")
        assert (result.exit_code, GAMES in result.stdout) == (0, True)
        assert _feed(ludoteca, "games")["storage"] == GAMES


def test_all_read_models_rebuild_under_traffic(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_games(50)
    with shop.projector():
        result = ludoteca("projections", "rebuild", "--all")
        assert result.exit_code == 0, result.output
        assert f"{GAMES}_r1" in result.stdout
        assert "rebuild games" in result.stderr
        shop.list_game("Portal")
    assert ludoteca("projections", "verify").exit_code == 0


def test_a_rebuild_that_differs_from_live_switches_nothing(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_game("Portal")
    shop.project()
    shop.tamper(f"UPDATE read.{GAMES} SET title = 'Mine'")
    result = ludoteca("projections", "rebuild", "games")
    assert result.exit_code == 1
    assert "nothing was switched" in result.stderr
    assert _feed(ludoteca, "games")["storage"] == GAMES


def test_there_is_nothing_to_roll_back_before_a_rebuild(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.project()
    result = ludoteca("projections", "rollback", "games")
    assert result.exit_code == 1
    assert "no earlier storage" in result.stderr


def test_nobody_goes_on_behind_a_position_that_is_not_there(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_game("Portal")
    with psycopg.connect(shop.url) as conn:
        checkpoints.register(conn, "relay", 1, "")
    for position in (999_999_999, 10**30):
        result = ludoteca("projections", "recover", "relay", "--from", position)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "the log ends at 1" in result.stderr
    assert ludoteca("projections", "recover", "--from", 1).exit_code == 2
    result = ludoteca("projections", "recover", "relay", "--from", 1)
    assert (result.exit_code, result.stdout) == (
        0,
        "relay is not astray, and goes on where it was\n",
    )
    assert ludoteca("projections", "recover", "--all").stdout == "nothing is astray\n"


def test_a_paused_projection_stands_still_until_it_is_resumed(
    ludoteca: Ludoteca, shop: Shop
) -> None:
    shop.project()
    assert ludoteca("projections", "pause", "games").exit_code == 0
    assert _feed(ludoteca, "games", "paused")["position"] == 0
    assert ludoteca("projections", "resume", "games").exit_code == 0
    assert _feed(ludoteca, "games")["paused"] is False


def test_only_what_has_run_can_be_paused(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.project()
    result = ludoteca("projections", "pause", "gamess")
    assert result.exit_code == 2
    assert "did you mean games?" in result.stderr


# -- quarantine ------------------------------------------------------------------------------------


def test_a_quarantined_stream_is_listed_with_its_error(ludoteca: Ludoteca, shop: Shop) -> None:
    stream = shop.poison()
    shop.project()
    (quarantined,) = ludoteca.json("quarantine", "list", "--feed", f"games.{Games.version}")
    assert (quarantined["stream_id"], quarantined["name"], quarantined["attempts"]) == (
        str(stream),
        "game.updated.v1",
        1,
    )
    shown = ludoteca("quarantine", "list").stdout
    assert quarantined["id"] in shown
    assert "RowMissing" in shown
    assert _feed(ludoteca, "games")["parked"] == 1


def test_an_empty_quarantine_is_said_to_be_empty(ludoteca: Ludoteca, shop: Shop) -> None:
    assert ludoteca("quarantine", "list").stdout == "nothing is in quarantine\n"


def test_a_retry_after_the_cause_was_mended_applies_the_stream(
    ludoteca: Ludoteca, shop: Shop
) -> None:
    shop.list_game("Portal")
    stream = shop.poison()
    shop.project()
    (quarantined,) = ludoteca.json("quarantine", "list", "--feed", f"games.{Games.version}")
    shop.tamper(f"CREATE TABLE read.mended AS SELECT * FROM read.{GAMES}")
    shop.tamper("UPDATE read.mended SET game_id = %s", stream)
    shop.tamper(f"INSERT INTO read.{GAMES} SELECT * FROM read.mended")
    with shop.projector():
        result = ludoteca("quarantine", "retry", quarantined["id"])
    assert (result.exit_code, result.stdout) == (
        0,
        "1 applied, 0 failing again, 0 waiting for their consumer\n",
    )
    assert (
        shop.ask(f"SELECT title FROM read.{GAMES} WHERE game_id = %s", stream)
        == "a game out of nowhere"
    )


def test_a_retry_that_fails_again_says_so(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.poison()
    with shop.projector():
        report = ludoteca.json("quarantine", "retry", "--all", code=1)
    assert report["applied"] == 0
    assert {quarantined["attempts"] for quarantined in report["failing"]} == {2}


def test_a_retry_that_no_consumer_takes_is_no_success(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.poison()
    shop.project()
    result = ludoteca("quarantine", "retry", "--all", "--wait", "0.1")
    assert result.exit_code == 3
    assert "no consumer has taken" in result.stderr
    assert ludoteca("quarantine", "retry", "--all", "--wait", "0").exit_code == 0


def test_a_stream_outside_quarantine_cannot_be_retried(ludoteca: Ludoteca, shop: Shop) -> None:
    result = ludoteca("quarantine", "retry", uuid4())
    assert result.exit_code == 1
    assert "not in quarantine" in result.stderr


def _an_event() -> list[Event]:
    return catalog.create(PLATFORM_ID, catalog.Listing(sku="x", title="x", kind="DIGITAL"))


def test_storages_that_nobody_reads_are_dropped_and_what_queries_read_is_not(
    ludoteca: Ludoteca, shop: Shop
) -> None:
    shop.list_game("Portal")
    with shop.projector():
        ludoteca.json("projections", "rebuild", "games")
        shop.tamper(
            "INSERT INTO consumers.feeds (feed, projection, version, storage, active) VALUES"
            " ('games.0', 'games', 0, 'games_0', true), ('gone.1', 'gone', 1, 'gone_1', true)"
        )
        shop.tamper(
            "INSERT INTO consumers.checkpoints (feed, position) VALUES ('games.0', 0),"
            " ('gone.1', 0)"
        )
        shop.tamper("CREATE TABLE read.gone_1 (id int)")
        shop.tamper("ALTER TABLE read.gone_1 OWNER TO ludoteca_app")
        assert _feed(ludoteca, "games", "old version 0")["lag"] is None
        assert _feed(ludoteca, "gone", "unknown to this release")["fed"] is False
        dropped = ludoteca.json("projections", "drop", "--unused")["dropped"]
        assert {(each["feed"], each["dropped"]) for each in dropped} == {
            ("games.0", True),
            ("gone.1", True),
        }
        active, standby = _feed(ludoteca, "games"), _feed(ludoteca, "games", "standby")
        refused = ludoteca("projections", "drop", active["feed"])
        assert (refused.exit_code, "is read by queries" in refused.stderr) == (1, True)
        assert [
            each["feed"] for each in ludoteca.json("projections", "drop", "games")["dropped"]
        ] == [standby["feed"]]
        assert _feed(ludoteca, "games")["storage"] == active["storage"]
        assert "nothing to drop" in ludoteca("projections", "drop", "--unused").stdout
    assert ludoteca("projections", "verify", "games").exit_code == 0


def test_a_storage_that_somebody_reads_is_dropped_later(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_game("Portal")
    with shop.projector():
        ludoteca.json("projections", "rebuild", "games")
        with psycopg.connect(shop.url) as reader:
            reader.execute(f"SELECT count(*) FROM read.{GAMES}")
            result = ludoteca("projections", "drop", "games")
            assert (result.exit_code, "somebody reads it" in result.stdout) == (1, True)
            assert _feed(ludoteca, "games", "building")["fed"] is False
        assert ludoteca("projections", "drop", "--unused").exit_code == 0
    assert {
        row["storage"]
        for row in ludoteca.json("projections", "list")
        if row["projection"] == "games"
    } == {f"{GAMES}_r1"}


def test_a_storage_to_drop_must_be_named(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.project()
    assert ludoteca("projections", "drop").exit_code == 2
    result = ludoteca("projections", "drop", "gamess")
    assert (result.exit_code, "did you mean games" in result.stderr) == (2, True)


def test_a_new_release_is_prepared_beside_the_older_one(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_game("Portal")
    shop.project()
    assert "nothing to prepare" in ludoteca("projections", "prepare").stdout
    shop.tamper("DELETE FROM consumers.checkpoints WHERE feed ~ '^games[.]'")
    shop.tamper("DELETE FROM consumers.feeds WHERE projection = 'games'")
    shop.tamper(f"DROP TABLE read.{GAMES}")
    (prepared,) = ludoteca.json("projections", "prepare")["prepared"]
    assert (prepared["projection"], prepared["position"]) == ("games", prepared["head"])
    assert _feed(ludoteca, "games", "catching up")["position"] == prepared["position"]
    result = ludoteca("projections", "verify", "games")
    assert (result.exit_code, "catches up" in result.stderr) == (3, True)
    shop.project()
    assert _feed(ludoteca, "games")["lag"] == 0
    assert ludoteca("projections", "verify", "games").exit_code == 0
