"""The work queue's connection to RabbitMQ, where nothing tells that the broker is away."""

import asyncio
from uuid import uuid4

import pytest
from aio_pika.exceptions import AMQPConnectionError
from yarl import URL

from adapters.queues.rabbitmq import RabbitQueue, connect
from adapters.queues.rabbitmq_channel import ConfirmedChannel
from adapters.queues.rabbitmq_messages import job_message
from adapters.queues.rabbitmq_topology import Topology
from commands.ports.queue import Job
from kit.metrics import open_circuits
from tests.support.queues import Worker, until, until_it_answers
from tests.support.servers.tcp_proxy import Wire

NAME = "test.connection"
JOB = Job(uuid4(), "payment.charge", {})


async def test_a_broker_that_accepts_a_connection_and_says_nothing_is_given_up(
    rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.queues.rabbitmq.ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("adapters.queues.rabbitmq.CONNECT_SECONDS", 2.0)
    url = URL(rabbitmq_url)
    wire = Wire(url.host or "localhost", url.port or 5672)
    silent: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: silent.append(writer), "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    async with await connect(
        str(url.with_host("127.0.0.1").with_port(wire.port)), reconnect_seconds=0.05
    ) as connection:
        await until(lambda: bool(silent))
        server.close()  # what it has accepted stays open
        async with wire:
            await RabbitQueue(connection, NAME, backoff=(), publish_seconds=20).publish([JOB])
    for writer in silent:
        writer.close()


async def test_a_consumer_that_stops_does_not_wait_for_an_absent_broker(
    rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = URL(rabbitmq_url)
    async with Wire(url.host or "localhost", url.port or 5672) as wire:
        address = str(url.with_host("127.0.0.1").with_port(wire.port))
        async with await connect(address, reconnect_seconds=1000) as connection:
            queue, worker = RabbitQueue(connection, NAME, backoff=()), Worker()
            await queue.publish([JOB])
            consumer = asyncio.create_task(queue.consume(worker))
            await until(lambda: bool(worker.attempts))
            wire.cut()
            await until(lambda: not connection.connected.is_set())
            with monkeypatch.context() as patient:
                patient.setattr("adapters.queues.rabbitmq.ANSWER_SECONDS", 1000.0)
                consumer.cancel()
                ended, _ = await asyncio.wait([consumer], timeout=20)
            assert ended


async def test_a_broker_that_opens_no_channel_is_not_waited_for(
    rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.queues.rabbitmq_channel.OPEN_SECONDS", 0.3)
    url = URL(rabbitmq_url)
    async with Wire(url.host or "localhost", url.port or 5672) as wire:
        address = str(url.with_host("127.0.0.1").with_port(wire.port))
        async with await connect(address, reconnect_seconds=0.05) as connection:
            channel = ConfirmedChannel(connection, Topology(NAME, ()), publish_seconds=20)
            wire.hold()
            with pytest.raises(TimeoutError):
                await channel.open()
            wire.let_go()
            monkeypatch.undo()
            await channel.send([job_message(JOB)], "", NAME)


async def test_a_broker_that_is_not_connected_is_known_to_be_away_until_it_is_back(
    rabbitmq_url: str,
) -> None:
    url = URL(rabbitmq_url)
    async with Wire(url.host or "localhost", url.port or 5672) as wire:
        address = str(url.with_host("127.0.0.1").with_port(wire.port))
        async with await connect(address, reconnect_seconds=0.05) as connection:
            queue = RabbitQueue(connection, NAME, backoff=())
            await until_it_answers(queue)
            wire.hold()
            wire.cut()
            await until(lambda: not connection.connected.is_set())
            with pytest.raises(AMQPConnectionError):
                await queue.depth()
            assert open_circuits() == ["rabbitmq"]
            wire.let_go()
            await until(connection.connected.is_set)
            await queue.depth()
            assert open_circuits() == []
