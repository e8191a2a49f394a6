"""Waiting for our own database, where giving up would cost more than waiting."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    before_sleep_log,
    retry_if_exception,
    stop_after_delay,
    wait_exponential,
)

from eventstore.database.postgres import is_away

logger = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_TIMEOUT_SECONDS = 600.0


async def outlast(act: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
    """Call `act` repeatedly while our own database is down, for `seconds` (RETRY_TIMEOUT_SECONDS);
    then raise its error.

    A worker may use this within an attempt that is itself outlasted (adapters/queues/attempts.py):
    restarting the attempt would send a message again that only has to be recorded. CALL_SECONDS
    bounds both.
    """
    try:
        return await act()
    except Exception as error:
        if not is_away(error):
            raise
        logger.warning("waiting for the database: %s", error)
    patience = AsyncRetrying(
        retry=retry_if_exception(is_away),
        wait=wait_exponential(0.2, max=5),
        stop=stop_after_delay(RETRY_TIMEOUT_SECONDS if seconds is None else seconds),
        before_sleep=before_sleep_log(logger, logging.WARNING),
        reraise=True,
    )

    async def once() -> T:  # tenacity awaits only what it recognises as a coroutine function
        return await act()

    return await patience(once)
