"""Follows a flow through everything that works on it, and says what it waits for."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec
from psycopg.rows import class_row

from commands.ports.queue import JobState, WorkQueue
from eventstore.codec import UnknownEvent
from eventstore.postgres_log import PostgresLog
from projections.models.deadlines import Deadline
from queries.audit.log import Audit
from queries.engine.positions import ReadModelBehind
from queries.engine.read_models import ReadModels
from queries.operations.control import Operations, SubscriptionState
from queries.trace.flow import OF_ONE_FLOW, Flow, flow_of
from queries.trace.model import Consumer, Refusal, Trace, TracedStream
from queries.trace.words import waits_for

MAX_STREAMS = 100
"""The most streams whose status is looked up."""

_DEADLINES = """
SELECT * FROM @deadlines WHERE subject_id = ANY (%(ids)s) ORDER BY due_at
"""

_REFUSALS = """
SELECT feed, event_id, position, stream_id, code, detail, at FROM consumers.refusals
WHERE event_id = ANY (%s) ORDER BY position, feed
"""


class Tracing:
    """Looks at the log, its consumers, and the work queues."""

    def __init__(
        self,
        log: PostgresLog,
        models: ReadModels,
        operations: Operations,
        audit: Audit,
        queues: Collection[WorkQueue],
    ) -> None:
        self._log = log
        self._models = models
        self._operations = operations
        self._audit = audit
        self._queues = queues

    async def trace(self, asked: str) -> Trace:
        """The flow of a position, or of an id: of a stream, an event, a request or a trace. Raises
        NothingToTrace."""
        flow = await flow_of(self._log, asked)
        events = [env.event_id for env in flow.events]
        ids = {*flow.streams, *events, *flow.requests}
        jobs, unseen, unanswered = await self._jobs(ids)
        found = Trace(
            asked=asked,
            kind=flow.kind,
            requests=list(flow.requests),
            streams=await self._streams(flow),
            events=flow.events,
            left_out=flow.left_out + sum(flow.cut.values()),
            consumers=[
                _consumer(each, flow.events[-1].position)
                for each in await self._operations.subscriptions()
                if each.fed and not each.building
            ],
            quarantine=[
                each
                for each in await self._operations.quarantine(limit=1_000_000)
                if each.stream_id in flow.streams
            ],
            refusals=await self._refusals(events),
            jobs=jobs,
            unseen_jobs=unseen,
            unanswered=unanswered,
            deadlines=await self._deadlines(flow),
            waits_for=[],
        )
        return msgspec.structs.replace(found, waits_for=list(waits_for(found, datetime.now(UTC))))

    async def _streams(self, flow: Flow) -> list[TracedStream]:
        streams = list(flow.streams.values())
        told = [each.stream_id for each in streams if each.kind in OF_ONE_FLOW][:MAX_STREAMS]
        # at the same time, so that they are read together
        statuses = dict(zip(told, await asyncio.gather(*map(self._status, told)), strict=True))
        return [
            TracedStream(each.stream_id, each.kind, each.version, statuses.get(each.stream_id))
            for each in streams
        ]

    async def _status(self, stream_id: UUID) -> str | None:
        try:
            found = await self._audit.state(stream_id)
        except (LookupError, UnknownEvent):
            return None
        if found is None or found.stopped_by is not None:
            return None
        status = found.state.get("status")
        provisional = bool(found.state.get("provisional")) and status == "PENDING"
        return "PROVISIONAL" if provisional else status

    async def _jobs(
        self, ids: Collection[UUID]
    ) -> tuple[list[JobState], dict[str, int], dict[str, str]]:
        jobs: list[JobState] = []
        unseen, unanswered = dict[str, int](), dict[str, str]()
        for queue in self._queues:
            try:
                found = await queue.about(ids)
            except Exception as error:  # whatever a broker's library raises: the rest is told
                unanswered[queue.name] = " ".join(str(error).split()) or type(error).__name__
                continue
            jobs += found.jobs
            if found.unseen:
                unseen[queue.name] = found.unseen
        return jobs, unseen, unanswered

    async def _refusals(self, events: Sequence[UUID]) -> list[Refusal]:
        async with (
            self._log.pool.connection() as conn,
            conn.cursor(row_factory=class_row(Refusal)) as cursor,
        ):
            await cursor.execute(_REFUSALS, (list(events),))
            return await cursor.fetchall()

    async def _deadlines(self, flow: Flow) -> list[Deadline]:
        """The deadlines to come, as far as the read model knows now: nobody waits for it here."""
        models = self._models.reaching(0, timeout=0.0)
        try:
            found = await models.rows(Deadline, _DEADLINES, ids=list(flow.streams))
        except ReadModelBehind:
            return []
        return found.value


def _consumer(state: SubscriptionState, last: int) -> Consumer:
    passed = state.position >= last and not state.astray
    return Consumer(state.feed, state.position, passed, state.paused, state.updated_at)
