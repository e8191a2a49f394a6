"""The relay's publisher to Kafka: CloudEvents in binary mode, a transaction a page."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from adapters.relay.kafka import KafkaMessage, KafkaPublisher, check_kafka
from adapters.relay.kafka_address import KafkaAddress
from commands import aggregates
from domain.events import EVENTS
from eventstore.codec import kind_of
from eventstore.log import MAX_EVENT_BYTES, Envelope
from tests.support.servers.kafka import limit_messages, read
from tests.support.servers.shared import free_port

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture
async def publisher(kafka_url: str, kafka_topic: str) -> AsyncIterator[KafkaPublisher]:
    publisher = KafkaPublisher(kafka_url, kafka_topic)
    yield publisher
    await publisher.close()


def an_envelope(position: int, stream: UUID, name: str = "game.created.v1") -> Envelope:
    return Envelope(position, uuid4(), stream, 1, name, AT, AT, "system")


def a_page(publisher: KafkaPublisher, start: int, stop: int, stream: UUID) -> list[KafkaMessage]:
    return [
        publisher.message(an_envelope(n, stream), str(n).encode(), None) for n in range(start, stop)
    ]


async def test_a_message_is_a_cloudevent_in_binary_mode_with_the_stream_as_its_key(
    publisher: KafkaPublisher, kafka_url: str, kafka_topic: str
) -> None:
    env = Envelope(
        position=42,
        event_id=UUID("018f0000-0000-7000-8000-000000000001"),
        stream_id=UUID("018f0000-0000-7000-8000-000000000002"),
        version=3,
        name="payment.transaction.completed.v1",
        recorded_at=AT,
        occurred_at=AT,
        actor="user:ação",
        correlation_id=UUID("018f0000-0000-7000-8000-000000000004"),
    )
    stored = '{"email":"enc:v1:q83vEjRWeJA=","note":"Ação","amount":1.50}'.encode()
    await publisher.publish([publisher.message(env, stored, "2.7f3a9c21")])
    (message,) = await read(kafka_url, kafka_topic, count=1)
    assert message.key == b"018f0000-0000-7000-8000-000000000002"
    assert message.value == stored
    assert {name: value.decode() for name, value in message.headers} == {
        "content-type": "application/json",
        "ce_specversion": "1.0",
        "ce_id": "018f0000-0000-7000-8000-000000000001",
        "ce_source": "ludoteca",
        "ce_type": "payment.transaction.completed.v1",
        "ce_subject": "018f0000-0000-7000-8000-000000000002",
        "ce_time": "2026-01-02T03:04:05.678901Z",
        "ce_position": "42",
        "ce_streamversion": "3",
        "ce_actor": "user:ação",
        "ce_correlationid": "018f0000-0000-7000-8000-000000000004",
        "ce_epoch": "2.7f3a9c21",
    }


async def test_events_of_a_stream_arrive_in_order_page_after_page(
    publisher: KafkaPublisher, kafka_url: str, kafka_topic: str
) -> None:
    stream = uuid4()
    for start in range(0, 1500, 500):
        await publisher.publish(a_page(publisher, start, start + 500, stream))
    messages = await read(kafka_url, kafka_topic, count=1500)
    assert [message.value for message in messages] == [str(n).encode() for n in range(1500)]


async def test_with_a_topic_per_context_each_event_is_in_that_of_its_names_first_word(
    kafka_url: str, kafka_topic: str
) -> None:
    publisher = KafkaPublisher(kafka_url, f"{kafka_topic}.{{context}}")
    names = ["payment.requested.v1", "game.created.v1", "payment.transaction.completed.v1"]
    await publisher.publish(
        [publisher.message(an_envelope(1, uuid4(), name), name.encode(), None) for name in names]
    )
    await publisher.close()
    payments = await read(kafka_url, f"{kafka_topic}.payment", count=2)
    (game,) = await read(kafka_url, f"{kafka_topic}.game", count=1)
    assert {message.value.decode() for message in payments} == {names[0], names[2]}
    assert game.value.decode() == names[1]


def test_all_events_of_a_kind_of_stream_have_one_context() -> None:
    contexts: dict[str, set[str]] = {}
    for name, event in EVENTS.items():
        contexts.setdefault(kind_of(event), set()).add(name.partition(".")[0])
    assert contexts.keys() >= {aggregate.kind for aggregate in aggregates.ALL}
    assert {kind: words for kind, words in contexts.items() if len(words) > 1} == {}


async def test_a_large_event_and_an_empty_one_arrive_whole(
    publisher: KafkaPublisher, kafka_url: str, kafka_topic: str
) -> None:
    await publisher.publish(a_page(publisher, 0, 1, uuid4()))
    await limit_messages(kafka_url, kafka_topic, 2 * MAX_EVENT_BYTES)
    stream, large = uuid4(), b"x" * MAX_EVENT_BYTES
    page = [
        publisher.message(an_envelope(n, stream), value, None)
        for n, value in enumerate([large, b"", b"end"])
    ]
    await publisher.publish(page)
    messages = await read(kafka_url, kafka_topic, count=4)
    assert [m.value for m in messages if m.key == str(stream).encode()] == [large, b"", b"end"]


async def test_an_event_that_is_too_large_is_named_and_nothing_of_its_page_is_committed(
    publisher: KafkaPublisher, kafka_url: str, kafka_topic: str
) -> None:
    stream = uuid4()
    await publisher.publish(a_page(publisher, 0, 2, stream))
    too_large = publisher.message(an_envelope(777, stream), b"x" * 1_100_000, None)
    page = [*a_page(publisher, 2, 4, stream), too_large, *a_page(publisher, 4, 6, stream)]
    with pytest.raises(ConnectionError, match=r"position 777 has 1100000 bytes.*max.message.bytes"):
        await publisher.publish(page)
    await publisher.publish(a_page(publisher, 2, 6, stream))
    messages = await read(kafka_url, kafka_topic, count=6)
    assert [message.value for message in messages] == [b"0", b"1", b"2", b"3", b"4", b"5"]


async def test_who_was_replaced_publishes_nothing_any_more(
    publisher: KafkaPublisher, kafka_url: str, kafka_topic: str
) -> None:
    stream, successor = uuid4(), KafkaPublisher(kafka_url, kafka_topic)
    await publisher.publish(a_page(publisher, 0, 2, stream))
    await successor.publish(a_page(successor, 2, 4, stream))
    with pytest.raises(ConnectionError, match="another relay connected"):
        await publisher.publish(a_page(publisher, 0, 2, stream))
    await successor.publish(a_page(successor, 4, 6, stream))
    await successor.close()
    messages = await read(kafka_url, kafka_topic, count=6)
    assert [message.value for message in messages] == [b"0", b"1", b"2", b"3", b"4", b"5"]


async def test_an_old_page_is_not_published(
    publisher: KafkaPublisher, kafka_url: str, kafka_topic: str
) -> None:
    stream = uuid4()
    with pytest.raises(ConnectionError, match="too late"):
        await publisher.publish(a_page(publisher, 0, 1, stream), before=time.monotonic() - 1)
    await publisher.publish(a_page(publisher, 1, 2, stream), before=time.monotonic() + 5)
    await publisher.publish([])
    messages = await read(kafka_url, kafka_topic, count=1)
    assert [message.value for message in messages] == [b"1"]


async def test_a_broker_that_is_away_is_a_connection_error(kafka_url: str) -> None:
    nobody = f"kafka://127.0.0.1:{free_port()}"
    with pytest.raises(ConnectionError):
        await KafkaPublisher(nobody, "events").connect()
    await check_kafka(kafka_url)
    with pytest.raises(Exception, match="bootstrap"):
        await check_kafka(nobody)


def test_a_url_has_brokers_and_how_to_sign_in() -> None:
    plain = KafkaAddress.of("kafka://one:9092,[::1]:9093").arguments()
    assert plain == {"bootstrap_servers": "one:9092,[::1]:9093", "security_protocol": "PLAINTEXT"}
    signed = KafkaAddress.of("kafkas://ana:p%40ss@one:9092?sasl=SCRAM-SHA-512").arguments()
    signed.pop("ssl_context")
    assert signed == {
        "bootstrap_servers": "one:9092",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "ana",
        "sasl_plain_password": "p@ss",
    }
