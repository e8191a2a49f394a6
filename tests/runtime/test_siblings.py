"""When the API processes that share a port count as serving."""

import asyncio
import os

from psycopg_pool import AsyncConnectionPool

from api.middleware.metrics import Metrics
from eventstore.clock_watch import ClockWatch
from kit.clock import SYSTEM_CLOCK
from runtime.processes.siblings import all_serve, create_shared, showing, siblings_of


async def test_a_process_serves_once_it_listens() -> None:
    memory, listening = create_shared(1), asyncio.Event()
    watch = ClockWatch(AsyncConnectionPool(open=False), SYSTEM_CLOCK, None)
    async with showing(Metrics(siblings_of(1, memory)), watch, listening):
        await asyncio.sleep(0)
        assert not all_serve(memory)
        listening.set()
        for _ in range(3):  # until it has been woken
            await asyncio.sleep(0)
        assert all_serve(memory)
    os.close(memory)
