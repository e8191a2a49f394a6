"""The relay's promises, over a real RabbitMQ and a real Kafka: everything arrives, in order per
stream, at least once, and it goes on where its checkpoint is."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol
from uuid import UUID, uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractQueue

from adapters.relay.rabbitmq import EXCHANGE, RabbitPublisher
from eventstore.consumers import checkpoints
from eventstore.consumers.leadership import leading
from runtime.processes import relay as relaying
from tests.support.events.tallies import Counted, Labelled
from tests.support.shops.engine import SOON, Desk

Heard = tuple[UUID, int, int]
"""The stream, version and position of an event."""


class Bus(Protocol):
    """One kind of event bus, seen by a subscriber."""

    async def relayed(self, desk: Desk) -> None:
        """Relay, until cancelled."""

    async def heard(self, count: int) -> list[Heard]:
        """All that arrived so far, at least so many."""

    async def refuse(self) -> None:
        """Have the broker refuse what comes."""

    async def take(self) -> None:
        """Have it take that again."""


class RabbitBus:
    def __init__(self, url: str, channel: AbstractChannel, queue: AbstractQueue) -> None:
        self._url, self._channel, self._queue = url, channel, queue
        self._full: AbstractQueue | None = None
        self._heard: list[Heard] = []

    async def relayed(self, desk: Desk) -> None:
        await _relayed(desk, RabbitPublisher(self._url), "relay")

    async def heard(self, count: int) -> list[Heard]:
        async with asyncio.timeout(SOON):
            while len(self._heard) < count or not await self._empty():
                message = await self._queue.get(no_ack=True, fail=False)
                if message is None:
                    await asyncio.sleep(0.01)
                    continue
                event = json.loads(message.body)
                self._heard.append(
                    (UUID(event["subject"]), event["streamversion"], event["position"])
                )
        return self._heard

    async def _empty(self) -> bool:
        underlay = await self._channel.get_underlay_channel()
        return not (await underlay.queue_declare(self._queue.name, passive=True)).message_count

    async def refuse(self) -> None:
        full: dict[str, str | int] = {"x-max-length": 0, "x-overflow": "reject-publish"}
        self._full = await self._channel.declare_queue(exclusive=True, arguments=dict(full))
        await self._full.bind(EXCHANGE, "#")

    async def take(self) -> None:
        assert self._full
        await self._full.delete(if_unused=False, if_empty=False)


class KafkaBus:
    def __init__(self, url: str, topic: str) -> None:
        self._url, self._topic = url, topic

    async def relayed(self, desk: Desk) -> None:
        from adapters.relay.kafka import KafkaPublisher

        await _relayed(desk, KafkaPublisher(self._url, self._topic), "relay_kafka")

    async def heard(self, count: int) -> list[Heard]:
        from tests.support.servers.kafka import read

        events = [dict(each.headers) for each in await read(self._url, self._topic, count=count)]
        return [
            (
                UUID(event["ce_subject"].decode()),
                int(event["ce_streamversion"]),
                int(event["ce_position"]),
            )
            for event in events
        ]

    async def refuse(self) -> None:
        await self._limit(10)

    async def take(self) -> None:
        await self._limit(1 << 20)

    async def _limit(self, size: int) -> None:
        from tests.support.servers.kafka import limit_messages

        await limit_messages(self._url, self._topic, size)


async def _relayed(desk: Desk, publisher: relaying.Publisher[relaying.M], name: str) -> None:
    try:
        async with leading(desk.database, f"{name}.1") as conn:
            await relaying.publish_log(desk.log, conn, publisher, name)
    finally:
        await publisher.close()


@pytest.fixture(params=["rabbitmq", "kafka"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    if request.param == "kafka":
        yield KafkaBus(request.getfixturevalue("kafka_url"), request.getfixturevalue("kafka_topic"))
        return
    url = request.getfixturevalue("rabbitmq_url")
    publisher = RabbitPublisher(url)
    await publisher.connect()  # makes the exchange
    await publisher.close()
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(EXCHANGE, "#")
        yield RabbitBus(url, channel, queue)


@asynccontextmanager
async def working(desk: Desk, bus: Bus) -> AsyncIterator[None]:
    """The relay runs during the block."""
    task = asyncio.create_task(bus.relayed(desk))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def several(desk: Desk, streams: list[UUID], rounds: int) -> list[Heard]:
    """Append events to these streams by turns; returns them as they are to be heard."""
    appended: list[Heard] = []
    for number in range(rounds):
        for stream in streams:
            event = Labelled(f"ação {number}") if number % 3 == 0 else Counted(number)
            done = await desk.append(stream, event)
            appended.append((stream, desk.version(stream), done.position))
    return appended


def of_each_stream(heard: list[Heard]) -> dict[UUID, list[Heard]]:
    found: dict[UUID, list[Heard]] = {}
    for each in heard:
        found.setdefault(each[0], []).append(each)
    return found


async def relayed_to(desk: Desk, position: int) -> None:
    """Wait until a relay's checkpoint is there."""
    await desk.until(
        lambda conn: any(
            each.name.startswith("relay") and each.position >= position
            for each in checkpoints.subscriptions(conn)
        )
    )


async def test_every_event_arrives_once_and_those_of_a_stream_in_order(
    desk: Desk, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "RELAY_PAGE", 7)
    appended = await several(desk, [uuid4() for _ in range(5)], 6)
    async with working(desk, bus):
        await relayed_to(desk, appended[-1][2])
    assert of_each_stream(await bus.heard(len(appended))) == of_each_stream(appended)


async def test_it_goes_on_where_it_was(desk: Desk, bus: Bus) -> None:
    stream = uuid4()
    appended = await several(desk, [stream], 4)
    async with working(desk, bus):
        await relayed_to(desk, appended[-1][2])
    appended += await several(desk, [stream], 3)
    async with working(desk, bus):
        await relayed_to(desk, appended[-1][2])
    assert await bus.heard(len(appended)) == appended


async def test_what_the_broker_refuses_is_not_skipped_and_arrives_once_it_takes_it(
    desk: Desk, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    stream = uuid4()
    before = await several(desk, [stream], 2)
    async with working(desk, bus):
        await relayed_to(desk, before[-1][2])
        await bus.refuse()
        after = await several(desk, [stream], 3)
        await _told(caplog)
        assert _position(desk) == before[-1][2]
        await bus.take()
        await relayed_to(desk, after[-1][2])
    heard = await bus.heard(len(before + after))
    assert list(dict.fromkeys(heard)) == before + after


async def test_two_relays_at_once_publish_everything_once(desk: Desk, bus: Bus) -> None:
    stream = uuid4()
    async with working(desk, bus), working(desk, bus):
        appended = await several(desk, [stream], 10)
        await relayed_to(desk, appended[-1][2])
    assert await bus.heard(len(appended)) == appended


def _position(desk: Desk) -> int:
    with desk.connect() as conn:
        (position,) = [
            each.position
            for each in checkpoints.subscriptions(conn)
            if each.name.startswith("relay")
        ]
    return position


async def _told(caplog: pytest.LogCaptureFixture) -> None:
    """Wait until the relay says that a page was not taken."""
    async with asyncio.timeout(SOON):
        while "the event bus does not answer" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
