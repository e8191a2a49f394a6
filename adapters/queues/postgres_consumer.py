"""A consumer of the work queue on PostgreSQL: it claims jobs, holds them by a lease, and reports
their outcomes."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import LiteralString
from uuid import UUID, uuid4

import msgspec
import structlog
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from adapters.queues.attempts import POSTPONED, MakeAttempt, finish
from adapters.queues.postgres_listener import JobListener
from commands.ports.queue import Job
from eventstore.database.postgres import AWAY
from kit.cancellation import cancel_until_ended, stop_if_cancelled

_EXCHANGE = """
WITH done AS (
    DELETE FROM queue.jobs AS job
    USING unnest(%(ids)s::uuid[], %(attempts)s::int[]) AS done (id, attempts)
    WHERE job.queue = %(queue)s AND job.id = done.id AND job.attempts = done.attempts
        AND job.held_by = %(holder)s
), due AS (
    SELECT id FROM queue.jobs
    WHERE queue = %(queue)s AND died_at IS NULL AND due_at <= now() AND id <> ALL (%(ids)s::uuid[])
    ORDER BY due_at, seq LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE queue.jobs AS job
    SET attempts = attempts + 1, held_by = %(holder)s,
        due_at = now() + make_interval(secs => %(lease)s), set_at = now()
    FROM due WHERE job.queue = %(queue)s AND job.id = due.id
    RETURNING job.id, job.kind, job.body, job.attempts
)
SELECT id, kind, body, attempts, NULL::float8 FROM claimed
UNION ALL
SELECT NULL, NULL, NULL, NULL, (
    SELECT extract(epoch FROM min(due_at) - clock_timestamp())::float8 FROM queue.jobs
    WHERE queue = %(queue)s AND died_at IS NULL AND due_at > now()
) FROM set_config('synchronous_commit', 'off', true)"""
"""Deletes the jobs done, claims those due, and says in the last row after how many seconds others
are. One statement, as an idle consumer runs it every second, and a busy one for every few jobs."""

_RENEW = """
UPDATE queue.jobs SET due_at = now() + make_interval(secs => %(lease)s), set_at = now()
WHERE queue = %(queue)s AND held_by = %(holder)s AND id = ANY(%(ids)s)"""

_CATCH_UP = """
UPDATE queue.jobs SET set_at = now(),
    due_at = now() + make_interval(secs => CASE WHEN held_by IS NULL THEN 0 ELSE %(lease)s END)
WHERE queue = %(queue)s AND died_at IS NULL AND due_at > now()
    AND set_at > now() + interval '1 second'"""
"""Jobs made to wait while the server's clock was ahead are due once it has gone back: otherwise
they would wait until the clock is that late again."""

_FAILED = """
UPDATE queue.jobs AS job
SET held_by = NULL, error = failed.error,
    due_at = now() + make_interval(secs => coalesce(failed.delay, 0)), set_at = now(),
    died_at = CASE WHEN failed.delay IS NULL THEN clock_timestamp() END
FROM unnest(%(ids)s::uuid[], %(attempts)s::int[], %(errors)s::text[], %(delays)s::float8[])
    AS failed (id, attempts, error, delay)
WHERE job.queue = %(queue)s AND job.id = failed.id AND job.attempts = failed.attempts
    AND job.held_by = %(holder)s"""

_POSTPONED = """
UPDATE queue.jobs AS job
SET held_by = NULL, attempts = job.attempts - 1,
    due_at = now() + make_interval(secs => %(delay)s), set_at = now()
FROM unnest(%(ids)s::uuid[], %(attempts)s::int[]) AS put_off (id, attempts)
WHERE job.queue = %(queue)s AND job.id = put_off.id AND job.attempts = put_off.attempts
    AND job.held_by = %(holder)s"""

_GIVE_BACK = """
UPDATE queue.jobs SET held_by = NULL, attempts = attempts - 1, due_at = now(), set_at = now()
WHERE queue = %(queue)s AND held_by = %(holder)s AND died_at IS NULL AND id <> ALL (%(known)s)"""
"""Jobs assigned to us by a commit whose answer was lost: nobody has started them."""

_RELEASE = """
WITH released AS (
    UPDATE queue.jobs SET held_by = NULL, due_at = now(), set_at = now()
    WHERE queue = %(queue)s AND held_by = %(holder)s
    RETURNING id
)
SELECT pg_notify('ludoteca_queue', %(queue)s) WHERE EXISTS (SELECT FROM released)"""

GATHER_SECONDS = 0.01
"""How long a busy consumer lets outcomes and due jobs gather, so that they share a statement, and
what the jobs do is appended together."""

_log = structlog.get_logger(__name__)


class ClaimTerms(msgspec.Struct, frozen=True, kw_only=True):
    """How a queue's jobs are claimed.

    `backoff` has the seconds to wait after each failed attempt but the last. A worker that vanishes
    loses its jobs after `lease_seconds`. `poll_seconds` bounds the wait of a job whose notification
    was lost.
    """

    queue: str
    backoff: tuple[float, ...]
    lease_seconds: float
    poll_seconds: float

    @property
    def max_attempts(self) -> int:
        """How often a job is tried before it becomes a dead letter."""
        return len(self.backoff) + 1


class _Claim(msgspec.Struct, frozen=True):
    """A job and the attempt it was claimed for, which tells apart later claims of the same job."""

    job_id: UUID
    attempt: int


class Consumer:
    """One running `consume`: claims as many jobs as it has free places, and reports outcomes in
    batches."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        listener: JobListener,
        terms: ClaimTerms,
        make_attempt: MakeAttempt,
        concurrency: int,
    ) -> None:
        self._pool = pool
        self._listener = listener
        self._terms = terms
        self._make_attempt = make_attempt
        self._concurrency = concurrency
        self._holder = uuid4()
        self._working: dict[_Claim, asyncio.Task[None]] = {}
        self._outcomes: dict[_Claim, str | None] = {}  # the error, or None; kept until committed
        self._wake = asyncio.Event()
        self._unsure = False  # whether a claim unknown to us may have been committed

    async def run(self) -> None:
        """Work until cancelled, then finish the jobs in progress, or release them. Waits for a lost
        database."""
        async with self._listener.waking(self._terms.queue, self._wake):
            renewing = asyncio.create_task(self._renew())
            try:
                while True:
                    stop_if_cancelled()
                    try:
                        await self._step()
                    except AWAY as error:
                        self._unsure = True
                        _log.warning(
                            "work queue lost its database",
                            queue=self._terms.queue,
                            error=str(error),
                        )
                        await asyncio.sleep(self._terms.poll_seconds)
            finally:
                await finish(list(self._working.values()))
                await cancel_until_ended([renewing])
                await self._let_go()

    def forget(self) -> None:
        """Drop all claims: their outcomes are not reported, and their leases expire."""
        self._holder = uuid4()

    async def _step(self) -> None:
        self._wake.clear()  # before the query: later jobs wake us
        free = self._concurrency - len(self._working)
        claimed, seconds = await self._exchange(free)
        for job, number in claimed:
            claim = _Claim(job.id, number)
            self._working[claim] = asyncio.create_task(self._work(claim, job))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds if len(claimed) < free else None):
                await self._wake.wait()  # not wait_for, which can swallow a cancellation
        if self._working:
            await asyncio.sleep(GATHER_SECONDS)

    async def _work(self, claim: _Claim, job: Job) -> None:
        try:
            self._outcomes[claim] = await self._make_attempt(job, claim.attempt)
        finally:
            self._working.pop(claim, None)
            self._wake.set()

    async def _exchange(self, limit: int) -> tuple[list[tuple[Job, int]], float]:
        """Report outcomes, and claim due jobs, each with its attempt. Also returns after how many
        seconds to look again.

        The commit does not wait for the disk: what a crash of the server forgets is done again.
        Reporting an outcome is idempotent.

        No pipeline here: under one, about once per hundred cancelled consumers a pooled connection
        came back out of step.
        """
        outcomes = dict(self._outcomes)
        done = [claim for claim, error in outcomes.items() if error is None]
        postponed = [claim for claim, error in outcomes.items() if error == POSTPONED]
        failed = [
            (claim, error) for claim, error in outcomes.items() if error not in (None, POSTPONED)
        ]
        mine = {"queue": self._terms.queue, "holder": self._holder}
        async with self._pool.connection() as conn:
            if self._unsure:
                known = [claim.job_id for claim in (*self._working, *outcomes)]
                await conn.execute(_GIVE_BACK, {**mine, "known": known})
            if postponed:
                columns = {**_columns(postponed), "delay": self._terms.poll_seconds}
                await conn.execute(_POSTPONED, {**mine, **columns})
            if failed:
                errors = [error for _, error in failed]
                delays = [self._delay(claim) for claim, _ in failed]
                columns = _columns([claim for claim, _ in failed])
                await conn.execute(_FAILED, {**mine, **columns, "errors": errors, "delays": delays})
            cursor = await conn.execute(
                _EXCHANGE,
                {**mine, **_columns(done), "limit": limit, "lease": self._terms.lease_seconds},
            )
            *claimed, (*_, seconds) = await cursor.fetchall()
        jobs = [(Job(id, kind, body), number) for id, kind, body, number, _ in claimed]
        self._unsure = False
        for claim in outcomes:
            del self._outcomes[claim]
        poll = self._terms.poll_seconds
        return jobs, poll if seconds is None else min(max(seconds, 0.01), poll)

    def _delay(self, claim: _Claim) -> float | None:
        """Seconds until the next attempt; None after the last."""
        return (
            self._terms.backoff[claim.attempt - 1]
            if claim.attempt < self._terms.max_attempts
            else None
        )

    async def _renew(self) -> None:
        while True:
            stop_if_cancelled()
            await asyncio.sleep(self._terms.lease_seconds / 3)
            ids = [claim.job_id for claim in (*self._working, *self._outcomes)]
            ours = {"queue": self._terms.queue, "lease": self._terms.lease_seconds}
            with contextlib.suppress(*AWAY):
                if ids:
                    await run_statement(self._pool, _RENEW, **ours, holder=self._holder, ids=ids)
                await run_statement(self._pool, _CATCH_UP, **ours)

    async def _let_go(self) -> None:
        """Release the jobs, so that other workers need not wait for the leases to end, as they must
        if the database is gone."""
        try:
            await self._exchange(0)
            await run_statement(self._pool, _RELEASE, queue=self._terms.queue, holder=self._holder)
        except AWAY as error:
            _log.warning(
                "work queue could not release its jobs", queue=self._terms.queue, error=str(error)
            )


def _columns(claims: Sequence[_Claim]) -> dict[str, object]:
    return {
        "ids": [claim.job_id for claim in claims],
        "attempts": [claim.attempt for claim in claims],
    }


async def run_statement(
    pool: AsyncConnectionPool, statement: LiteralString, **values: object
) -> list[TupleRow]:
    """Run one statement in a transaction of its own. Returns its rows, if it has any."""
    async with pool.connection() as conn:
        cursor = await conn.execute(statement, values)
        return await cursor.fetchall() if cursor.description else []
