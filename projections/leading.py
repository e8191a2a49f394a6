"""Being the one process that does a thing: for what is neither a projection nor a reactor."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from eventstore.postgres import connect
from projections import feeds

RETRY_SECONDS = 1.0


@asynccontextmanager
async def leading(url: str, name: str) -> AsyncIterator[psycopg.Connection]:
    """Wait until nobody else leads `name`, then lead it as long as the connection that is given lives."""
    conn = await asyncio.to_thread(connect, url, "ludoteca leader")
    try:
        while not await asyncio.to_thread(feeds.try_lead, conn, name):  # noqa: ASYNC110 - nobody tells us when
            await asyncio.sleep(RETRY_SECONDS)
        yield conn
    finally:
        conn.close()
