"""Kafka is killed, hangs, or does not let us in: the relay loses nothing, and goes on."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from adapters.relay.kafka import KafkaMessage, KafkaPublisher, check_kafka
from eventstore.consumers.leadership import leading
from eventstore.log import Envelope
from kit.tls import Trust
from runtime.gateway.app import open_app
from runtime.processes import relay as relaying
from tests.support.events.tallies import Counted
from tests.support.servers.kafka import OwnKafka, read
from tests.support.shops.engine import SOON, Desk
from tests.support.shops.gateway import open_shop

AUTHORITY = trustme.CA()


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[OwnKafka]:
    """A broker that all these tests use, with a certificate of AUTHORITY."""
    with tempfile.TemporaryDirectory() as folder:
        server = OwnKafka(_keystore(Path(folder) / "kafka.pem"))
        yield server
        server.remove()


def _keystore(path: Path) -> Path:
    issued = AUTHORITY.issue_cert("127.0.0.1")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), password=None)
    pkcs8 = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(pkcs8 + b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    return path


@pytest.fixture
def kafka(own_kafka: OwnKafka) -> OwnKafka:
    """The broker, which runs, whatever the test before did to it."""
    if own_kafka.stopped:
        own_kafka.start()
    return own_kafka


@asynccontextmanager
async def working(desk: Desk, publisher: KafkaPublisher) -> AsyncIterator[None]:
    """The relay runs during the block."""

    async def work() -> None:
        async with leading(desk.database, "relay_kafka.1") as conn:
            await relaying.publish_log(desk.log, conn, publisher, "relay_kafka")

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await publisher.close()


async def test_a_broker_that_is_killed_again_and_again_loses_nothing(
    desk: Desk, kafka: OwnKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "RELAY_PAGE", 3)
    stream, topic = uuid4(), f"test-{uuid4().hex}"
    ids: list[UUID] = []
    async with working(desk, KafkaPublisher(kafka.url, topic, publish_seconds=3)):
        for number in range(3):
            for by in range(10):
                ids += (await desk.append(stream, Counted(number * 10 + by))).event_ids
            await asyncio.to_thread(kafka.kill)
            ids += (await desk.append(stream, Counted(0))).event_ids
            await asyncio.to_thread(kafka.start)
        await desk.caught_up("relay_kafka.1")
    messages = await read(kafka.url, topic, count=len(ids))
    heard = [UUID(dict(message.headers)["ce_id"].decode()) for message in messages]
    assert list(dict.fromkeys(heard)) == ids


async def test_a_page_that_a_hanging_broker_does_not_acknowledge_is_published_again(
    kafka: OwnKafka,
) -> None:
    stream, topic = uuid4(), f"test-{uuid4().hex}"
    publisher = KafkaPublisher(kafka.url, topic, publish_seconds=3)
    await _repeated(publisher, _page(publisher, stream, 0, 3))
    kafka.hang()
    with pytest.raises(ConnectionError):
        await publisher.publish(_page(publisher, stream, 3, 6))
    kafka.go_on()
    await _repeated(publisher, _page(publisher, stream, 3, 6))
    await publisher.close()
    messages = await read(kafka.url, topic, count=6)
    values = [message.value for message in messages]
    assert values[-3:] == [b"3", b"4", b"5"]
    assert list(dict.fromkeys(values)) == [str(n).encode() for n in range(6)]


async def _repeated(publisher: KafkaPublisher, page: list[KafkaMessage]) -> None:
    """Publish until it is acknowledged, as the relay does."""
    async with asyncio.timeout(SOON):
        while True:
            try:
                return await publisher.publish(page)
            except ConnectionError:
                await asyncio.sleep(0.1)


def _page(publisher: KafkaPublisher, stream: UUID, start: int, stop: int) -> list[KafkaMessage]:
    at = datetime.now(UTC)
    return [
        publisher.message(
            Envelope(n, uuid4(), stream, n, "game.created.v1", at, at, "system"),
            str(n).encode(),
            None,
        )
        for n in range(start, stop)
    ]


async def test_by_tls_of_a_private_authority_and_a_password(
    kafka: OwnKafka, tmp_path: Path
) -> None:
    authority, stranger = tmp_path / "ca.pem", tmp_path / "stranger.pem"
    AUTHORITY.cert_pem.write_to_path(str(authority))
    trustme.CA().cert_pem.write_to_path(str(stranger))
    at, topic, stream = kafka.secure_at, f"test-{uuid4().hex}", uuid4()
    publisher = KafkaPublisher(f"kafkas://ana:a%20secret@{at}?cafile={authority}", topic)
    await publisher.publish(_page(publisher, stream, 0, 2))
    await publisher.close()
    assert [message.value for message in await read(kafka.url, topic, count=2)] == [b"0", b"1"]
    named = f"kafkas://ana:a%20secret@{at}"
    trusting = KafkaPublisher(named, topic, trust=Trust(str(authority)))
    await trusting.connect()
    await trusting.close()
    await check_kafka(named, Trust(str(authority)))
    by_another_name = named.replace("127.0.0.1", "localhost")
    for refused in (
        named,  # by the system's authorities
        f"{by_another_name}?cafile={authority}",
        f"kafkas://ana:wrong@{at}?cafile={authority}",
        f"kafkas://ana:a%20secret@{at}?cafile={stranger}",
        f"kafkas://ana:a%20secret@{at}?cafile={tmp_path}/nowhere.pem",
        f"kafka://ana:a%20secret@{at}",
    ):
        with pytest.raises(ConnectionError):
            await KafkaPublisher(refused, topic, publish_seconds=5).connect()


async def test_readiness_names_it_and_the_shop_stays_open(
    database: str, kafka: OwnKafka, tmp_path: Path
) -> None:
    async with (
        open_shop(database, tmp_path, kafka_url=kafka.url) as shop,
        open_app(shop.core, shop.queues) as shop.app,
    ):
        ready = (await shop.client().get("/health/ready")).json()
        assert (ready["status"], ready["dependencies"]["kafka"]["status"]) == ("ok", "ok")
        kafka.kill()
        answer = await shop.client().get("/health/ready")
        assert answer.status_code == 200
        ready = answer.json()
        assert (ready["status"], ready["dependencies"]["kafka"]["status"]) == ("degraded", "down")
