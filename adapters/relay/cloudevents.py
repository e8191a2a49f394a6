"""Events as CloudEvents 1.0: in the JSON format (structured mode), and as headers of Kafka (binary
mode).

Sources: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md,
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from datetime import datetime
from uuid import UUID

import msgspec

from eventstore.log import Envelope

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"

_DATA_CONTENT_TYPE = "application/json"


class _CloudEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """The attributes under their wire names; those that are None are left out."""

    id: UUID
    type: str
    subject: UUID
    time: datetime
    data: msgspec.Raw
    specversion: str
    source: str
    datacontenttype: str
    position: int
    streamversion: int
    actor: str
    correlationid: UUID | None = None
    causationid: UUID | None = None
    traceparent: str | None = None
    epoch: str | None = None


_encoder = msgspec.json.Encoder()

_IN_HEADERS = tuple(
    name for name in _CloudEvent.__struct_fields__ if name not in ("data", "datacontenttype")
)


def to_cloudevent(env: Envelope, payload: bytes, epoch: str | None = None) -> bytes:
    """The message for the bus. `payload` is the log's JSON: personal fields stay encrypted. `epoch`
    is the stretch of the log's history that the event belongs to."""
    return _encoder.encode(_cloudevent(env, payload, epoch))


def to_headers(env: Envelope, epoch: str | None = None) -> list[tuple[str, bytes]]:
    """The headers of a Kafka message whose value is the log's JSON."""
    event = _cloudevent(env, b"", epoch)
    attributes = ((name, getattr(event, name)) for name in _IN_HEADERS)
    return [
        ("content-type", _DATA_CONTENT_TYPE.encode()),
        *(
            (f"ce_{name}", str(msgspec.to_builtins(value)).encode())
            for name, value in attributes
            if value is not None
        ),
    ]


def _cloudevent(env: Envelope, payload: bytes, epoch: str | None) -> _CloudEvent:
    return _CloudEvent(
        id=env.event_id,
        type=env.name,
        subject=env.stream_id,
        time=env.occurred_at,
        data=msgspec.Raw(payload),
        specversion="1.0",
        source="ludoteca",
        datacontenttype=_DATA_CONTENT_TYPE,
        position=env.position,
        streamversion=env.version,
        actor=env.actor,
        correlationid=env.correlation_id,
        causationid=env.causation_id,
        traceparent=env.traceparent,
        epoch=epoch,
    )
