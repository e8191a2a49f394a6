"""Jobs as messages of RabbitMQ."""

from datetime import UTC, datetime
from uuid import NAMESPACE_OID, uuid5

import aio_pika
import msgspec
from aio_pika.abc import AbstractIncomingMessage, HeadersType

from commands.ports.queue import DeadLetter, Job
from kit.json_errors import JSON_ERRORS

ATTEMPT_HEADER = "x-ludoteca-attempt"
ERROR_HEADER = "x-ludoteca-error"

UNREADABLE = "unreadable"
"""The kind of a job from a message that is not one of ours."""

_encoder, _decoder = msgspec.json.Encoder(), msgspec.json.Decoder(Job)


def job_message(job: Job) -> aio_pika.Message:
    """A persistent message with a job."""
    return aio_pika.Message(
        _encoder.encode(job),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=str(job.id),
        type=job.kind,
    )


def copy_of(message: AbstractIncomingMessage, headers: HeadersType) -> aio_pika.Message:
    """The same job with other headers. The broker's own headers must not travel on, as they would
    look like a cycle."""
    return aio_pika.Message(
        message.body,
        headers=headers,
        content_type=message.content_type,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=message.message_id,
        timestamp=datetime.now(UTC) if ERROR_HEADER in headers else None,
        type=message.type,
    )


def job_of(message: AbstractIncomingMessage) -> Job:
    """The job in a message. A foreign message becomes one of the kind "unreadable", with an id from
    its bytes."""
    try:
        return _decoder.decode(message.body)
    except JSON_ERRORS:
        return Job(uuid5(NAMESPACE_OID, message.body.hex()), UNREADABLE)


def integer_header(message: AbstractIncomingMessage, header: str, default: int) -> int:
    """The value of a header; the default unless it is an integer."""
    value = message.headers.get(header)
    return value if isinstance(value, int) else default


def dead_letter_of(message: AbstractIncomingMessage, queue: str, max_attempts: int) -> DeadLetter:
    """The headers explain our own dead letters; the broker explains the others in `x-death`."""
    deaths = message.headers.get("x-death")
    death = deaths[0] if isinstance(deaths, list) and deaths else None
    reason = death.get("reason") if isinstance(death, dict) else None
    time = death.get("time") if isinstance(death, dict) else None
    attempts = integer_header(message, ATTEMPT_HEADER, 1)
    return DeadLetter(
        job=job_of(message),
        queue=queue,
        error=str(message.headers.get(ERROR_HEADER) or reason or ""),
        attempts=max_attempts if reason == "delivery_limit" else attempts,
        died_at=message.timestamp or (time if isinstance(time, datetime) else None),
    )
