"""A worker process that takes a job, reports it and hangs, until it is killed: python
dying_worker.py KIND URL NAME"""

import asyncio
import sys

from psycopg_pool import AsyncConnectionPool

from adapters.queues.postgres import PostgresQueue
from adapters.queues.rabbitmq import RabbitQueue, connect
from commands.ports.queue import JobAttempt, WorkQueue
from tests.support.queues import LEASE_SECONDS


async def hang(attempt: JobAttempt) -> None:
    print(f"attempt {attempt.number}", flush=True)
    await asyncio.Event().wait()


async def main(kind: str, url: str, name: str) -> None:
    queue: WorkQueue
    if kind == "postgres":
        pool = AsyncConnectionPool(url, open=False)
        await pool.open()
        queue = PostgresQueue(pool, name, backoff=(0.05,), lease_seconds=LEASE_SECONDS)
    else:
        queue = RabbitQueue(await connect(url), name, backoff=(0.05,))
    await queue.consume(hang)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
