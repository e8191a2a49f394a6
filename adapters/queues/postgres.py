"""The work queue on PostgreSQL: rows claimed with FOR UPDATE SKIP LOCKED, held by a lease that the
worker renews.

A job is published once: an id that is waiting, in progress or dead is ignored. Every start counts
as an attempt, so that a job whose worker dies each time also becomes a dead letter.
"""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

import msgspec
import structlog
from psycopg.errors import ProgramLimitExceeded
from psycopg_pool import AsyncConnectionPool

from adapters.queues.attempts import BACKOFF, attempt_job
from adapters.queues.postgres_consumer import ClaimTerms, Consumer, run_statement
from adapters.queues.postgres_listener import JobListener
from commands.ports.queue import DeadLetter, Job, JobHandler, JobsFound, JobState
from eventstore.database.patience import outlast

_PUBLISH = """
WITH added AS (
    INSERT INTO queue.jobs (queue, id, kind, body)
    SELECT %(queue)s, id, kind, body::jsonb
    FROM unnest(%(ids)s::uuid[], %(kinds)s::text[], %(bodies)s::text[]) WITH ORDINALITY
        AS job (id, kind, body, n)
    ORDER BY n
    ON CONFLICT DO NOTHING
    RETURNING id
)
SELECT pg_notify('ludoteca_queue', %(queue)s) WHERE %(wake)s AND EXISTS (SELECT FROM added)"""

_DEPTH = "SELECT count(*) FROM queue.jobs WHERE queue = %(queue)s AND died_at IS NULL"

_OLDEST = """
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(due_at)), 0)::float8 FROM queue.jobs
WHERE queue = %(queue)s AND died_at IS NULL AND due_at <= clock_timestamp()"""
"""Jobs that are held are due when their lease ends."""

_DEAD_COUNT = "SELECT count(*) FROM queue.jobs WHERE queue = %(queue)s AND died_at IS NOT NULL"

_DEAD = """
SELECT id, kind, body, error, attempts, died_at FROM queue.jobs
WHERE queue = %(queue)s AND died_at IS NOT NULL
ORDER BY died_at, seq LIMIT %(limit)s"""

_ABOUT = """
SELECT id, kind, body, attempts, due_at, error,
    CASE WHEN died_at IS NOT NULL THEN 'dead' WHEN held_by IS NOT NULL THEN 'held' ELSE 'waiting'
    END
FROM queue.jobs
WHERE queue = %(queue)s AND (id = ANY (%(ids)s) OR EXISTS (
    SELECT FROM jsonb_each_text(body) AS said WHERE said.value = ANY (%(ids)s::uuid[]::text[])))
ORDER BY seq LIMIT 100"""

_DELETE_DEAD = """
DELETE FROM queue.jobs WHERE queue = %(queue)s AND died_at < least(%(before)s, clock_timestamp())
RETURNING id"""

_DISCARD = """
DELETE FROM queue.jobs WHERE queue = %(queue)s AND id = ANY (%(ids)s) AND died_at IS NOT NULL
RETURNING id"""

_REDRIVE = """
WITH revived AS (
    UPDATE queue.jobs SET attempts = 0, due_at = now(), set_at = now(), error = NULL, died_at = NULL
    WHERE queue = %(queue)s AND id = ANY (%(ids)s) AND died_at IS NOT NULL
    RETURNING id
)
SELECT id, pg_notify('ludoteca_queue', %(queue)s) FROM revived"""

PUBLISH_SECONDS = 30.0
"""How long publishing waits for a lost database."""

_log = structlog.get_logger(__name__)


class QueueClosed(Exception):
    """The process stopped while publishing jobs: whether they are in the queue is unknown."""


class PostgresQueue:
    """Implements `WorkQueue`. Running `consume`s have a connection to listen on, beside the
    pool's."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        name: str,
        *,
        backoff: Sequence[float] = BACKOFF,
        lease_seconds: float = 60,
        poll_seconds: float = 1,
        listener: JobListener | None = None,
    ) -> None:
        """For `backoff`, `lease_seconds` and `poll_seconds` see `ClaimTerms`. Queues of one process
        share a `listener`; by default, this one has its own, to the pool's server."""
        self.name = name
        self._terms = ClaimTerms(
            queue=name,
            backoff=tuple(backoff),
            lease_seconds=lease_seconds,
            poll_seconds=poll_seconds,
        )
        self._pool = pool
        self._listener = listener or JobListener(str(pool.conninfo), poll_seconds)
        self._outbox: list[tuple[Sequence[Job], asyncio.Future[None]]] = []
        self._publishing: asyncio.Task[None] | None = None
        self._consumers: set[Consumer] = set()

    def forget(self) -> None:
        """Drop all claims, because the database went back and does not know them."""
        for consumer in self._consumers:
            consumer.forget()

    @property
    def max_attempts(self) -> int:
        """How often a job is tried before it becomes a dead letter."""
        return self._terms.max_attempts

    async def publish(self, jobs: Sequence[Job]) -> None:
        """Return when the jobs are committed. Known ids are ignored.

        Jobs published while a statement is running share the next one. Waits for a lost database,
        PUBLISH_SECONDS. Raises psycopg.Error.
        """
        if not jobs:
            return
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outbox.append((jobs, committed))
        if self._publishing is None or self._publishing.done():
            self._publishing = asyncio.create_task(self._publish_all())
        await committed

    async def _publish_all(self) -> None:
        while self._outbox:
            outbox = self._outbox
            self._outbox = []
            try:
                jobs = [job for jobs, _ in outbox for job in jobs]
                # idempotent by the jobs' ids
                await outlast(partial(self._publish, jobs), PUBLISH_SECONDS)
            except BaseException as error:
                for _, committed in outbox:
                    if not committed.done():
                        committed.set_exception(
                            error if isinstance(error, Exception) else QueueClosed()
                        )
                if not isinstance(error, Exception):
                    raise
            else:
                for _, committed in outbox:
                    if not committed.done():
                        committed.set_result(None)

    async def _publish(self, jobs: Sequence[Job]) -> None:
        columns = {
            "ids": [job.id for job in jobs],
            "kinds": [job.kind for job in jobs],
            "bodies": [msgspec.json.encode(job.body).decode() for job in jobs],
        }
        try:
            await run_statement(self._pool, _PUBLISH, queue=self.name, wake=True, **columns)
        except ProgramLimitExceeded as error:
            # The server's notification queue may be full, as some listener never reads. Consumers
            # also poll.
            _log.warning(
                "publishing jobs without waking consumers", queue=self.name, error=str(error)
            )
            await run_statement(self._pool, _PUBLISH, queue=self.name, wake=False, **columns)

    async def consume(
        self, handler: JobHandler, *, concurrency: int = 4, lost: JobHandler | None = None
    ) -> None:
        """Hand jobs to the handler until cancelled, `concurrency` at a time; those in progress then
        have FINISH_SECONDS to end, and are released.

        Waits for a lost database.
        """
        make_attempt = partial(
            attempt_job, max_attempts=self.max_attempts, handler=handler, lost=lost
        )
        consumer = Consumer(self._pool, self._listener, self._terms, make_attempt, concurrency)
        self._consumers.add(consumer)
        try:
            await consumer.run()
        finally:
            self._consumers.remove(consumer)

    async def depth(self) -> int:
        """The number of jobs that wait or are in progress."""
        ((count,),) = await run_statement(self._pool, _DEPTH, queue=self.name)
        return int(count)

    async def oldest_seconds(self) -> float:
        """For how many seconds the job has been due that is due for longest."""
        ((seconds,),) = await run_statement(self._pool, _OLDEST, queue=self.name)
        return float(seconds)

    async def dead(self) -> int:
        """The number of dead letters."""
        ((count,),) = await run_statement(self._pool, _DEAD_COUNT, queue=self.name)
        return int(count)

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """The dead letters, the oldest first."""
        return [
            DeadLetter(
                job=Job(id, kind, body),
                queue=self.name,
                error=error or "",
                # a lost worker takes one more claim to detect
                attempts=min(attempts, self.max_attempts),
                died_at=died_at,
            )
            for id, kind, body, error, attempts, died_at in await run_statement(
                self._pool, _DEAD, queue=self.name, limit=limit
            )
        ]

    async def about(self, ids: Collection[UUID]) -> JobsFound:
        """The jobs with one of these ids, their own or one in their body; at most 100."""
        rows = await run_statement(self._pool, _ABOUT, queue=self.name, ids=list(ids))
        return JobsFound(
            [
                JobState(
                    job=Job(id, kind, body),
                    queue=self.name,
                    state=state,
                    attempts=min(attempts, self.max_attempts),
                    max_attempts=self.max_attempts,
                    due_at=due_at,
                    error=error or "",
                )
                for id, kind, body, attempts, due_at, error, state in rows
            ]
        )

    async def delete_dead(self, before: datetime) -> int:
        """Delete dead letters that died before this time. Returns their number."""
        rows = await run_statement(self._pool, _DELETE_DEAD, queue=self.name, before=before)
        return len(rows)

    async def redrive(self, job_id: UUID) -> bool:
        """Put a dead letter back to work with fresh attempts. Returns False when there is none with
        this id."""
        return bool(await self.redrive_all([job_id]))

    async def redrive_all(self, job_ids: Collection[UUID]) -> list[UUID]:
        """Put dead letters back to work with fresh attempts, all or none. Returns the ids of those
        that there were."""
        rows = await run_statement(self._pool, _REDRIVE, queue=self.name, ids=list(job_ids))
        return [row[0] for row in rows]

    async def discard(self, job_ids: Collection[UUID]) -> list[UUID]:
        """Delete dead letters, all or none. Returns the ids of those that there were."""
        rows = await run_statement(self._pool, _DISCARD, queue=self.name, ids=list(job_ids))
        return [row[0] for row in rows]
