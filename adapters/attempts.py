"""What every work queue does alike: how often a job is tried, how one attempt is made, how its failure is worded."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from tenacity import before_sleep_log, retry, retry_if_exception_type, stop_after_delay, wait_exponential

from commands.ports import Delivery, Job, JobHandler
from eventstore.cancellation import stop_if_cancelled

log = logging.getLogger(__name__)

BACKOFF: Sequence[float] = (0.5, 2, 8, 30)
"""Seconds to wait after each failed attempt; a job is attempted once more than there are waits."""

WORKER_LOST = "the worker was lost during the last attempt"

PATIENCE_SECONDS = 600
_ERROR_LENGTH = 2000

MakeAttempt = Callable[[Job, int], Awaitable[str | None]]
"""`attempt` with all but the job and its number given."""


async def attempt(job: Job, number: int, *, most: int, handler: JobHandler, lost: JobHandler | None) -> str | None:
    """Make the `number`-th attempt at a job, of `most`. Returns what went wrong, None when nothing did.

    Raises only when itself cancelled.
    One more than that means that the worker of the last attempt was lost: then `lost` is told, if there is one, but
    only once, lest the telling cost worker after worker.
    """
    if number <= most:
        return await _hand_over(handler, Delivery(job, number, last=number == most))
    error = None
    if lost is not None and number == most + 1:
        error = await _hand_over(lost, Delivery(job, most, last=True))
    return f"{WORKER_LOST}; then {error}" if error else WORKER_LOST


def patient(handler: JobHandler, unavailable: tuple[type[Exception], ...]) -> JobHandler:
    """The handler, waiting for what no job can do without: while that is unavailable, an attempt is begun again, and
    still counts as one. Not for longer than ten minutes.
    """
    return retry(
        retry=retry_if_exception_type(unavailable),
        wait=wait_exponential(0.2, max=5),
        stop=stop_after_delay(PATIENCE_SECONDS),
        before_sleep=before_sleep_log(log, logging.WARNING),
        reraise=True,
    )(handler)


async def _hand_over(handler: JobHandler, delivery: Delivery) -> str | None:
    try:
        await handler(delivery)
    except Exception as error:
        return describe(error)
    except asyncio.CancelledError as error:
        stop_if_cancelled()
        return describe(error)  # something within the handler was cancelled, not the worker
    return None


def describe(error: BaseException) -> str:
    """An error in a line or a few, fit for any store: no NUL, no lone surrogates, at most 2,000 characters."""
    text = f"{type(error).__name__}: {error}".encode("utf-8", "replace").decode()
    return text.replace("\x00", "�")[:_ERROR_LENGTH]
