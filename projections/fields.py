"""What rows are made of: texts that PostgreSQL can hold, times in UTC, entries of a timeline."""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from eventstore.log import Envelope


class Happened(msgspec.Struct, frozen=True, omit_defaults=True):
    """An entry of a timeline: the wire name of an event, when and at which log position, and what it says."""

    name: str
    at: datetime
    position: int
    status: str | None = None
    reason: str | None = None
    code: str | None = None
    detail: str | None = None
    amount_cents: int | None = None
    method: str | None = None
    provider: str | None = None
    provider_ref: str | None = None
    attempt: int | None = None


def text(value: str) -> str:
    """A text without NUL, the one character that PostgreSQL's text and jsonb cannot hold."""
    return value.replace("\0", "") if "\0" in value else value


def text_or_none(value: str | None) -> str | None:
    """As `text`, for what may be absent."""
    return None if value is None else text(value)


def texts(values: Iterable[str]) -> list[str]:
    """As `text`, for each."""
    return [text(value) for value in values]


def occurred_at(env: Envelope) -> datetime:
    """When it happened, in UTC: what read models show as its time (see docs/log.md on the three kinds of time).

    A connection may have another zone, and rows must not depend on it.
    """
    return env.occurred_at.astimezone(UTC)


def happened(env: Envelope, **said: str | int | None) -> Happened:
    """The timeline's entry of an event; `said` are further fields of `Happened`."""
    clean = {name: text(value) if isinstance(value, str) else value for name, value in said.items()}
    return Happened(env.name, occurred_at(env), env.position, **clean)  # type: ignore[arg-type]
