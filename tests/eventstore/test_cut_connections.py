"""A writer whose sessions are cut again and again, on the event loop that the program runs (uvloop)."""

import asyncio
import random
from uuid import UUID

import pytest
import uvloop
from notes import CODEC, admin, new_stream

from eventstore.log import LogUnavailable
from eventstore.postgres_log import PostgresLog

CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ludoteca writer' AND datname = current_database()"  # noqa: E501
CALLERS = 64


@pytest.mark.parametrize("cuts", [20, pytest.param(500, marks=pytest.mark.soak)])
def test_no_caller_hangs_and_nothing_acknowledged_is_lost_however_often_the_writer_is_cut(
    database: str, cuts: int
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_cut_again_and_again(database, cuts))


async def _cut_again_and_again(database: str, cuts: int) -> None:
    rng, acknowledged = random.Random(4), set[UUID]()
    async with PostgresLog.open(database, CODEC) as log:

        async def caller() -> None:
            while True:
                try:
                    acknowledged.update((await log.append([new_stream("x")])).event_ids)
                except LogUnavailable:
                    await asyncio.sleep(0.01)

        async def one_more_is_acknowledged() -> None:
            before = len(acknowledged)
            while len(acknowledged) == before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

        callers = [asyncio.create_task(caller()) for _ in range(CALLERS)]
        for _ in range(cuts):
            await asyncio.sleep(rng.uniform(0.01, 0.1))
            await asyncio.to_thread(admin, database, CUT)
            await asyncio.wait_for(one_more_is_acknowledged(), 10)
        for task in callers:
            task.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
    stored = {row[0] for row in admin(database, "SELECT event_id FROM log.events")}
    assert acknowledged <= stored
