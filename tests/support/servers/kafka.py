"""Kafka as tests see it: topics, consumers, and a broker of their own."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from adapters.relay.kafka_address import KafkaAddress
from deploy.servers.kafka import await_kafka, launch_kafka, make_kafka
from tests.support.servers.shared import free_port, require_kafka


@asynccontextmanager
async def administering(url: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**KafkaAddress.of(url).arguments())
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def delete_topics(url: str, prefix: str) -> None:
    """Delete every topic whose name begins with this prefix."""
    async with administering(url) as admin:
        topics = [topic for topic in await admin.list_topics() if topic.startswith(prefix)]
        if topics:
            await admin.delete_topics(topics)


async def limit_messages(url: str, topic: str, size: int) -> None:
    """Have the topic refuse batches of more bytes than this."""
    async with administering(url) as admin:
        limit = {"max.message.bytes": str(size)}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, limit)])


async def read(url: str, *topics: str, count: int = 0) -> list[ConsumerRecord]:
    """The committed messages of these topics, in the order of their partitions' logs; waits until
    there are `count`. What was committed before the call is among them."""
    consumer = AIOKafkaConsumer(
        **KafkaAddress.of(url).arguments(),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            partitions = [
                TopicPartition(topic, number)
                for topic in topics
                for number in await _partitions(consumer, topic)
            ]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            found: list[ConsumerRecord] = []
            while len(found) < count or any(
                [await consumer.position(each) < end for each, end in ends.items()]
            ):
                for records in (await consumer.getmany(timeout_ms=50)).values():
                    found += records
            return found
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    """The numbers of a topic's partitions; asking for one makes it."""
    while not (found := consumer.partitions_for_topic(topic)):
        await consumer._client._wait_on_metadata(topic)
    return set(found)


class OwnKafka:
    """A broker that a test may stop, hang and restart. Skips the test, or fails it where services
    are required, unless Kafka is up."""

    def __init__(self, keystore: Path | None = None) -> None:
        """`keystore`: a PEM file with a certificate and its key, for a listener with TLS, at
        `secure_at`, which lets in `ana` with the password `a secret`."""
        require_kafka()
        self._home = Path(tempfile.mkdtemp(prefix="ludoteca-kafka-"))
        port, controller_port, secure_port = free_port(), free_port(), free_port()
        self.url = f"kafka://127.0.0.1:{port}"
        self.secure_at = f"127.0.0.1:{secure_port}"
        listeners = (
            f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}"
            f",SECURE://{self.secure_at}"
        )
        properties = {"listeners": listeners, **_secured(keystore)} if keystore else {}
        make_kafka(self._home, port, controller_port, properties)
        self._server: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, also again; it has what it had. Returns when it answers."""
        assert self.stopped
        self._server = launch_kafka(self._home)
        await_kafka(self._server, self.url, self._home)

    @property
    def stopped(self) -> bool:
        """Whether its process has not begun, or has ended."""
        return self._server is None or self._server.poll() is not None

    def hang(self) -> None:
        """Pause it: it answers nothing until it is resumed."""
        assert self._server
        os.killpg(self._server.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._server
        os.killpg(self._server.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill it by SIGKILL."""
        if self._server is not None and not self.stopped:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()

    def remove(self) -> None:
        """Stop it, and delete its data."""
        self.kill()
        shutil.rmtree(self._home)


def _secured(keystore: Path) -> dict[str, str]:
    login = "org.apache.kafka.common.security.plain.PlainLoginModule"
    return {
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL"
        ),
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.name.secure.ssl.keystore.type": "PEM",
        "listener.name.secure.ssl.keystore.location": str(keystore),
        "listener.name.secure.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secure.plain.sasl.jaas.config": f'{login} required user_ana="a secret";',
    }
