"""Reactors: "when this happened, do that". Each issues commands whose key is derived from the event
and the reactor's name and kept for ever, so that the log itself recognises a repeat: exactly once
per cause.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal
from uuid import UUID, uuid5

import msgspec

from commands.caller import Caller
from commands.ports.queue import Job
from domain.errors import NotFound
from eventstore.aggregate import Aggregate
from eventstore.log import Envelope, IdempotencyKey, Recorded

React = Callable[[Any, Envelope], Awaitable[None]]
"""Called with the event and its envelope. Refused is an outcome; any other exception quarantines
the event's stream."""


class Contradiction(Exception):
    """The log tells of something that it does not have."""


class Reactor(msgspec.Struct, frozen=True):
    """What one process does when certain events happened. A ledger wants history, a mail does not:
    `starts_from`. `writes` are the aggregates that it may append to: queries of those who set it in
    motion wait for it (queries/own_writes.py)."""

    name: str
    reactions: Mapping[type[msgspec.Struct], React]
    starts_from: Literal["beginning", "now"] = "beginning"
    writes: tuple[Aggregate[Any], ...] = ()

    async def react(self, recorded: Recorded) -> None:
        """Do what is to be done, if anything.

        What a reaction looks up is older than its event, so a NotFound is no outcome: raises
        Contradiction.
        """
        reaction = self.reactions.get(type(recorded.event))
        if reaction is None:
            return
        try:
            await reaction(recorded.event, recorded.env)
        except NotFound as missing:
            raise Contradiction(f"the log tells of what it does not have: {missing}") from missing


def caused(name: str, env: Envelope) -> Caller:
    """The reactor as the one who acts, on behalf of the request that set all this in motion."""
    return Caller(
        f"reactor:{name}",
        correlation_id=env.correlation_id or env.event_id,
        causation_id=env.event_id,
        traceparent=env.traceparent,
    )


def once_for(name: str, env: Envelope, part: str = "") -> IdempotencyKey:
    """The key of the reaction to an event (of one part, where it is several commands); kept for
    ever."""
    return IdempotencyKey(uuid5(env.event_id, f"{name}/{part}"))


def job_for(env: Envelope, kind: str, **body: UUID) -> Job:
    """A job caused by an event: the same event makes the same job."""
    about = {name: str(value) for name, value in body.items()}
    about["causation_id"] = str(env.event_id)
    about["correlation_id"] = str(env.correlation_id or env.event_id)
    if env.traceparent:
        about["traceparent"] = env.traceparent
    return Job(uuid5(env.event_id, f"job/{kind}"), kind, about)


def on_behalf(actor: str, job: Job) -> Caller:
    """A worker as the one who acts, on behalf of the request that the job came from."""
    body = job.body
    return Caller(
        actor,
        correlation_id=UUID(body["correlation_id"]) if "correlation_id" in body else None,
        causation_id=UUID(body["causation_id"]) if "causation_id" in body else None,
        traceparent=body.get("traceparent"),
    )
