"""The relay's publisher: the log's events on RabbitMQ, in order, each confirmed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import pytest
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractIncomingMessage,
    AbstractQueue,
)
from yarl import URL

from adapters.relay.rabbitmq import EXCHANGE, RabbitPublisher
from tests.support.servers.tcp_proxy import Wire


@pytest.fixture
async def wire(rabbitmq_url: str) -> AsyncIterator[Wire]:
    url = URL(rabbitmq_url)
    async with Wire(url.host or "localhost", url.port or 5672) as wire:
        yield wire


@pytest.fixture
async def publisher(rabbitmq_url: str, wire: Wire) -> AsyncIterator[RabbitPublisher]:
    publisher = RabbitPublisher(str(URL(rabbitmq_url).with_host("127.0.0.1").with_port(wire.port)))
    await publisher.connect()
    yield publisher
    await publisher.close()


@pytest.fixture
async def broker(rabbitmq_url: str, publisher: RabbitPublisher) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(rabbitmq_url) as connection, connection.channel() as channel:
        yield channel


async def subscribe(broker: AbstractChannel, pattern: str, **arguments: str | int) -> AbstractQueue:
    queue = await broker.declare_queue(exclusive=True, arguments=dict(arguments))
    await queue.bind(EXCHANGE, pattern)
    return queue


async def received(queue: AbstractQueue) -> list[bytes]:
    """All messages in the queue."""
    channel = await queue.channel.get_underlay_channel()
    waiting = (await channel.queue_declare(queue.name, passive=True)).message_count or 0
    inbox: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    tag = await queue.consume(inbox.put, no_ack=True)
    async with asyncio.timeout(10):
        bodies = [(await inbox.get()).body for _ in range(waiting)]
    await queue.cancel(tag)
    return bodies


def a_page(start: int, stop: int, name: str = "game.created.v1") -> list[tuple[str, bytes, UUID]]:
    return [(name, str(n).encode(), uuid4()) for n in range(start, stop)]


async def test_events_arrive_in_order_page_after_page(
    publisher: RabbitPublisher, broker: AbstractChannel
) -> None:
    queue = await subscribe(broker, "#")
    for start in range(0, 1500, 500):
        await publisher.publish(a_page(start, start + 500))
    assert await received(queue) == [str(n).encode() for n in range(1500)]


async def test_a_subscriber_gets_the_names_it_asked_for(
    publisher: RabbitPublisher, broker: AbstractChannel
) -> None:
    queue = await subscribe(broker, "payment.#")
    names = [
        "order.created.v1",
        "payment.requested.v1",
        "payment.transaction.completed.v1",
        "game.created.v1",
    ]
    await publisher.publish([(name, name.encode(), uuid4()) for name in names])
    assert await received(queue) == [b"payment.requested.v1", b"payment.transaction.completed.v1"]


async def test_a_message_is_persistent_and_says_what_it_is(
    publisher: RabbitPublisher, broker: AbstractChannel
) -> None:
    queue, event_id = await subscribe(broker, "#"), uuid4()
    await publisher.publish([("game.created.v1", b"{}", event_id)])
    message = await queue.get(no_ack=True)
    assert message.routing_key == "game.created.v1"
    assert message.message_id == str(event_id)
    assert message.content_type == "application/cloudevents+json; charset=utf-8"
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT


async def test_a_message_larger_than_a_frame_and_an_empty_one_arrive_whole(
    publisher: RabbitPublisher, broker: AbstractChannel
) -> None:
    queue, large = await subscribe(broker, "#"), b"x" * 1_000_003
    await publisher.publish([("a", large, uuid4()), ("a", b"", uuid4()), ("a", b"end", uuid4())])
    assert await received(queue) == [large, b"", b"end"]


async def test_events_that_nobody_subscribes_to_and_empty_pages_are_confirmed_too(
    publisher: RabbitPublisher,
) -> None:
    await publisher.publish(a_page(0, 10))
    await publisher.publish([])


async def test_a_page_that_is_not_confirmed_raises(
    publisher: RabbitPublisher, broker: AbstractChannel
) -> None:
    full: dict[str, str | int] = {"x-max-length": 2, "x-overflow": "reject-publish"}
    await subscribe(broker, "#", **full)
    with pytest.raises(ConnectionError):
        await publisher.publish(a_page(0, 50))


async def test_a_page_that_cannot_be_written_raises_and_the_next_is_published(
    publisher: RabbitPublisher, broker: AbstractChannel
) -> None:
    queue = await subscribe(broker, "#")
    with pytest.raises(TypeError):
        await publisher.publish([*a_page(0, 1), ("x" * 300, b"", uuid4())])
    await publisher.publish(a_page(1, 3))
    assert await received(queue) == [b"1", b"2"]


async def test_after_a_lost_connection_the_page_is_published_again(
    publisher: RabbitPublisher, wire: Wire, broker: AbstractChannel
) -> None:
    queue = await subscribe(broker, "#")
    await publisher.publish(a_page(0, 3))
    wire.cut()
    await repeat(publisher, a_page(3, 6))
    bodies = await received(queue)
    assert bodies[-3:] == [b"3", b"4", b"5"]
    assert list(dict.fromkeys(bodies)) == [str(n).encode() for n in range(6)]


async def test_what_got_through_of_a_page_whose_connection_was_lost_is_its_beginning(
    publisher: RabbitPublisher, wire: Wire, broker: AbstractChannel
) -> None:
    queue, page = await subscribe(broker, "#"), a_page(0, 3000)
    publishing = asyncio.create_task(publisher.publish(page))
    await arrived(broker, queue)
    wire.cut()
    with pytest.raises(ConnectionError):
        await publishing
    await publisher.publish(page)
    bodies, whole = await received(queue), [body for _, body, _ in page]
    assert bodies[-3000:] == whole
    assert bodies[:-3000] == whole[: len(bodies) - 3000]


async def test_a_broker_that_is_away_is_a_connection_error(wire: Wire, rabbitmq_url: str) -> None:
    nobody = RabbitPublisher(str(URL(rabbitmq_url).with_host("127.0.0.1").with_port(1)))
    with pytest.raises(ConnectionError):
        await nobody.connect()
    with pytest.raises(ConnectionError):
        await nobody.publish(a_page(0, 1))


async def test_a_broker_that_lets_us_in_and_opens_no_channel_is_a_connection_error(
    wire: Wire, rabbitmq_url: str, broker: AbstractChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connected(*given: Any, **named: Any) -> AbstractConnection:
        connection: AbstractConnection = await connect(*given, **named)
        wire.hold()
        return connection

    connect = aio_pika.connect
    monkeypatch.setattr("adapters.relay.rabbitmq.CLOSE_SECONDS", 0.1)
    url = str(URL(rabbitmq_url).with_host("127.0.0.1").with_port(wire.port))
    publisher, queue = RabbitPublisher(url, publish_seconds=0.5), await subscribe(broker, "#")
    with monkeypatch.context() as held:
        held.setattr("adapters.relay.rabbitmq.aio_pika.connect", connected)
        with pytest.raises(ConnectionError):
            await publisher.connect()
    wire.let_go()
    await repeat(publisher, a_page(0, 2))
    assert await received(queue) == [b"0", b"1"]
    await publisher.close()


async def repeat(publisher: RabbitPublisher, page: list[tuple[str, bytes, UUID]]) -> None:
    """Publish again until it is confirmed, as the relay does."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await publisher.publish(page)
            except ConnectionError:
                await asyncio.sleep(0.01)


async def arrived(broker: AbstractChannel, queue: AbstractQueue) -> None:
    """Wait until a message is in the queue."""
    underlay = await broker.get_underlay_channel()
    async with asyncio.timeout(10):
        while not (await underlay.queue_declare(queue.name, passive=True)).message_count:  # noqa: ASYNC110
            await asyncio.sleep(0)
