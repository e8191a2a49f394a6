"""Reactors: "when this happened, do that". Their commands have idempotency keys that are derived
from the event and the reactor's name, so each is done exactly once per event. They are kept longer
than any consumer goes back (`LUDOTECA_REACTION_KEYS_DAYS`).
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
from kit import tracing

React = Callable[[Any, Envelope], Awaitable[None]]
"""Called with the event and its envelope. Refused is an outcome; any other exception quarantines
the event's stream."""


class Contradiction(Exception):
    """An event refers to something that the log does not have."""


class Reactor(msgspec.Struct, frozen=True):
    """Reactions to some types of events. `starts_from`: a ledger posts all of history, mails only
    go out for new events. `writes` are the aggregates that it may append to: queries of those who
    set it in motion wait for it (queries/engine/own_writes.py)."""

    name: str
    reactions: Mapping[type[msgspec.Struct], React]
    starts_from: Literal["beginning", "now"] = "beginning"
    writes: tuple[Aggregate[Any], ...] = ()

    async def react(self, recorded: Recorded) -> None:
        """Run the reaction to an event, if there is one.

        What a reaction looks up is older than its event, so NotFound is an error: raises
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
    """The reactor as the caller, with the correlation of the request that led to the event."""
    return Caller(
        f"reactor:{name}",
        correlation_id=env.correlation_id or env.event_id,
        causation_id=env.event_id,
        traceparent=tracing.traceparent(env.traceparent),
    )


def once_for(name: str, env: Envelope, part: str = "") -> IdempotencyKey:
    """The key of a reaction to an event. `part` tells several commands of one reaction apart."""
    return IdempotencyKey(uuid5(env.event_id, f"{name}/{part}"))


def job_for(env: Envelope, kind: str, **body: UUID) -> Job:
    """The job that an event causes; always the same one for the same event and kind."""
    about = {name: str(value) for name, value in body.items()}
    about["causation_id"] = str(env.event_id)
    about["correlation_id"] = str(env.correlation_id or env.event_id)
    if traceparent := tracing.traceparent(env.traceparent):
        about["traceparent"] = traceparent
    return Job(uuid5(env.event_id, f"job/{kind}"), kind, about)


def on_behalf(actor: str, job: Job) -> Caller:
    """A worker as the caller, with the correlation of the request that led to the job."""
    body = job.body
    return Caller(
        actor,
        correlation_id=UUID(body["correlation_id"]) if "correlation_id" in body else None,
        causation_id=UUID(body["causation_id"]) if "causation_id" in body else None,
        traceparent=body.get("traceparent"),
    )
