"""The processes of the program, each started by its own command, as on separate hosts."""

import asyncio
import json
from pathlib import Path

import aio_pika
import httpx
import pytest

from adapters.relay.rabbitmq import EXCHANGE
from projections.models.games import Games
from tests.support.servers.shared import free_port
from tests.support.shops.commands import Ludoteca, Shop, process, stop, until

GAMES = f"games_{Games.version}"
"""The table of the active read model of games."""


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def test_the_projector_migrates_keeps_read_models_current_and_ends_on_sigterm(
    empty_database: str,
) -> None:
    shop = Shop(empty_database)
    with process(
        "projector", LUDOTECA_DATABASE_URL=empty_database, LUDOTECA_LOG_FORMAT="json"
    ) as running:
        until(lambda: shop.ask("SELECT to_regclass('consumers.feeds')") is not None)
        until(shop.in_step)
        shop.list_game("Portal")
        shop.poison()
        until(shop.in_step)
        code, errors = stop(running)
    assert code == 0
    assert shop.ask(f"SELECT count(*) FROM read.{GAMES}") == 1
    lines = [json.loads(line) for line in errors.splitlines()]
    assert {line["process"] for line in lines} == {"projector"}
    assert any("parked stream" in line["event"] and line["level"] == "warning" for line in lines)


def test_the_api_serves_until_it_is_stopped(shop: Shop) -> None:
    port = str(free_port())
    with process("api", LUDOTECA_PORT=port) as running:
        until(lambda: _answers(f"http://127.0.0.1:{port}/health/live"))
        assert stop(running)[0] == 0


def test_loaded_purchases_are_paid_and_granted(
    ludoteca: Ludoteca, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUDOTECA_PORT", str(free_port()))
    monkeypatch.setenv("LUDOTECA_PROVIDER_PORT", str(free_port()))
    (tmp_path / "games.csv").write_text(CATALOG)
    (tmp_path / "purchases.csv").write_text(
        "user_id,title,hours_played\n7,Portal,1.5\n7,Witness,2\n8,Portal,0.5\n"
    )
    with process("provider"), process("worker") as worker:
        assert ludoteca("load", "games", tmp_path / "games.csv").exit_code == 0
        report = ludoteca.json("load", "purchases", tmp_path / "purchases.csv")
        assert (report["rows"], report["loaded"], report["people"], report["granted"]) == (
            3,
            3,
            2,
            3,
        )
        shown = ludoteca("load", "purchases", tmp_path / "purchases.csv").stdout
        assert ["granted", "3"] in [line.split() for line in shown.splitlines()]
        assert stop(worker)[0] == 0
    shop.project()
    assert shop.ask("SELECT count(*) FROM read.library_1") == 3


RELAYED = "SELECT position FROM consumers.checkpoints WHERE feed = 'relay.1'"


def test_the_relay_publishes_the_log_in_order(
    shop: Shop, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.list_games(3)
    monkeypatch.setenv("LUDOTECA_RABBITMQ_URL", rabbitmq_url)

    async def heard() -> list[str]:
        async with await aio_pika.connect(rabbitmq_url) as connection:
            channel = await connection.channel()
            exchange = await channel.declare_exchange(EXCHANGE, "topic", durable=True)
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(exchange, "game.#")
            with process("relay") as running:
                async with queue.iterator(timeout=20) as messages:
                    got = [json.loads((await anext(messages)).body)["type"] for _ in range(3)]
                await asyncio.to_thread(until, lambda: shop.ask(RELAYED) == 3)
                assert (await asyncio.to_thread(stop, running))[0] == 0
            return got

    assert asyncio.run(heard()) == ["game.created.v1"] * 3


RELAYED_TO_KAFKA = "SELECT position FROM consumers.checkpoints WHERE feed = 'relay_kafka.1'"


def test_a_relay_to_kafka_that_is_killed_goes_on_where_it_was(
    shop: Shop, kafka_url: str, kafka_topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.servers.kafka import read

    monkeypatch.setenv("LUDOTECA_KAFKA_URL", kafka_url)
    monkeypatch.setenv("LUDOTECA_KAFKA_TOPIC", kafka_topic)
    shop.list_games(3000)  # six pages
    with process("relay") as running:
        until(lambda: bool(shop.ask(RELAYED_TO_KAFKA)))
        running.kill()
        running.wait()
    with process("relay") as running:
        until(lambda: shop.ask(RELAYED_TO_KAFKA) == 3000)
        assert stop(running)[0] == 0
    messages = asyncio.run(read(kafka_url, kafka_topic, count=3000))
    positions = {int(dict(message.headers)["ce_position"]) for message in messages}
    assert positions == set(range(1, 3001))


def test_a_bus_that_is_away_does_not_hold_up_the_other(
    shop: Shop, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUDOTECA_RABBITMQ_URL", rabbitmq_url)
    monkeypatch.setenv("LUDOTECA_KAFKA_URL", f"kafka://127.0.0.1:{free_port()}")
    shop.list_games(3)
    with process("relay") as running:
        until(lambda: shop.ask(RELAYED) == 3 and shop.ask(RELAYED_TO_KAFKA) == 0)
        code, errors = stop(running)
    assert code == 0
    assert "the event bus does not answer: no connection to Kafka" in errors


# -- load: unusual files ---------------------------------------------------------------------------

CATALOG = (
    "title,publisher,tags,price_cents,release_date,platforms\n"
    "Portal,Valve,Puzzle|Action,999,2007-10-10,windows\n"
    "Witness,Thekla,Puzzle,,2016-01-26,windows|mac\n"
)


def test_broken_rows_are_named_and_the_rest_is_loaded(
    ludoteca: Ludoteca, shop: Shop, tmp_path: Path
) -> None:
    file = tmp_path / "games.csv"
    file.write_text(CATALOG + "Half a row,Valve\n")
    result = ludoteca("load", "games", file)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("line 4: ")
    assert ["loaded", "2"] in [line.split() for line in result.stdout.splitlines()]
    again = ludoteca.json("load", "games", file, code=1)
    assert (again["loaded"], again["known"], again["broken"][0]["line"]) == (0, 2, 4)


def test_purchases_of_unknown_games_are_broken_rows(
    ludoteca: Ludoteca, shop: Shop, tmp_path: Path
) -> None:
    file = tmp_path / "purchases.csv"
    file.write_text("user_id,title\n7,Nowhere\n")
    result = ludoteca("load", "purchases", file)
    assert result.exit_code == 1
    assert "line 2: no game is called 'Nowhere'" in result.stderr


def test_a_file_without_the_columns_is_refused(
    ludoteca: Ludoteca, shop: Shop, tmp_path: Path
) -> None:
    file = tmp_path / "games.csv"
    file.write_text("name\nPortal\n")
    for kind in ("games", "purchases"):
        result = ludoteca("load", kind, file)
        assert result.exit_code == 2
        assert "title" in result.stderr
