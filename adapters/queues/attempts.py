"""What all work queues share: how often a job is tried, how an attempt is made, how its failure is
worded."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

from commands.ports.queue import Job, JobAttempt, JobHandler
from eventstore.database.patience import RETRY_TIMEOUT_SECONDS, outlast
from eventstore.database.postgres import is_away
from kit.cancellation import let_end, stop_if_cancelled
from kit.wording import described

BACKOFF: Sequence[float] = (0.5, 2, 8, 30)
"""Seconds to wait after each failed attempt; there is one more attempt than waits."""

WORKER_LOST = "the worker was lost during the last attempt"

CALL_SECONDS = 2 * RETRY_TIMEOUT_SECONDS
"""How long a handler may take, whatever its own time-outs: servers may answer byte by byte."""

FINISH_SECONDS = 6.0
"""How long a consumer that stops lets the jobs under way go on: to end one takes less than to do it
again elsewhere. Those that take longer are released."""

POSTPONED = "postponed: our own database is away"
"""The outcome of an attempt that does not count: it is made again later."""

MakeAttempt = Callable[[Job, int], Awaitable[str | None]]
"""`attempt_job` for a job and its number."""


async def attempt_job(
    job: Job, number: int, *, max_attempts: int, handler: JobHandler, lost: JobHandler | None
) -> str | None:
    """Make attempt `number` of `max_attempts` at a job. Returns the error, or None on success.

    While our own database is down the attempt is repeated, for ten minutes; then returns POSTPONED.
    Raises only when itself cancelled.

    `max_attempts` + 1 as the number means that the worker of the last attempt was lost. Then `lost`
    is called, if given, but only once, so that a crashing `lost` handler cannot kill one worker
    after another.
    """
    if number <= max_attempts:
        return await _hand_over(handler, JobAttempt(job, number, last=number == max_attempts))
    error = None
    if lost is not None and number == max_attempts + 1:
        error = await _hand_over(lost, JobAttempt(job, max_attempts, last=True))
    if error == POSTPONED:
        return error
    return f"{WORKER_LOST}; then {error}" if error else WORKER_LOST


async def _hand_over(handler: JobHandler, attempt: JobAttempt) -> str | None:
    try:
        await outlast(partial(_bounded, handler, attempt))
    except Exception as error:
        return POSTPONED if is_away(error) else described(error)
    except asyncio.CancelledError as error:
        stop_if_cancelled()
        return described(error)  # the handler's own task was cancelled, not the worker
    return None


async def _bounded(handler: JobHandler, attempt: JobAttempt) -> None:
    async with asyncio.timeout(CALL_SECONDS):
        await handler(attempt)


async def finish(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Let the attempts of a consumer that stops end, within FINISH_SECONDS; then cancel them."""
    await let_end(tasks, FINISH_SECONDS)
