"""Timeline entries, which several rows contain."""

from datetime import datetime

import msgspec

from eventstore.log import Placed


class Happened(msgspec.Struct, frozen=True, omit_defaults=True):
    """An entry of a timeline: the wire name of an event, when and at which log position, and what
    it says."""

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


def happened(env: Placed, **said: str | int | None) -> Happened:
    """The timeline entry of an event; `said` are further fields of `Happened`."""
    return Happened(env.name, env.occurred_at, env.position, **said)  # type: ignore[arg-type]
