"""The settings of the event bus in Kafka: an invalid value is named at once, without its
password."""

import pytest
from pydantic import SecretStr, ValidationError

from runtime.settings import Settings


@pytest.mark.parametrize(
    "url",
    [
        "kafka://one:9092",
        "kafka://one:9092,[::1]:9093",
        "kafka://ana:p%40ss@one:9092?sasl=SCRAM-SHA-256",
        "kafkas://one:9092?cafile=/etc/ca.pem",
    ],
)
def test_brokers_and_how_to_sign_in(url: str) -> None:
    assert Settings(kafka_url=SecretStr(url)).relayed


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://one:9092", "kafka:// or kafkas://"),
        ("kafka://one", "each host has a port"),
        ("kafka://one:9092,two", "each host has a port"),
        ("kafka://one:9092,", "kafka:// or kafkas://"),
        ("kafka://one:9092?sasl=PLAIN", "sasl behind"),
        ("kafka://one:9092?cafile=x", "cafile behind"),
        ("kafka://ana:secret@one:9092?sasl=MD5", "SCRAM-SHA-512"),
        ("kafka://ana@one:9092", "user:password"),
    ],
)
def test_mistakes_are_named(url: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why) as raised:
        Settings(kafka_url=SecretStr(url))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("topic", ["", "a b", "{context}{context}", "{stream}", "x" * 201])
def test_a_topic_has_characters_that_kafka_takes(topic: str) -> None:
    with pytest.raises(ValidationError, match="letters, digits"):
        Settings(kafka_topic=topic)
