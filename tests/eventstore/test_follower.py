"""Those who wait for certain streams are woken by their events, also after a connection was
lost."""

import asyncio
from uuid import uuid4

import pytest

from eventstore.consumers.stream_watcher import StreamFollower
from eventstore.log import StreamAppend
from eventstore.postgres_log import PostgresLog
from tests.support.events.notes import admin, new_stream, noted

SOON = 10


async def test_who_watches_a_stream_is_woken_by_its_events_alone(postgres_log: PostgresLog) -> None:
    follower, stream = StreamFollower(postgres_log), uuid4()
    async with (
        follower.watching([stream]) as news,
        follower.watching([stream, uuid4()]) as other_news,
    ):
        everything = postgres_log.subscribe()
        await postgres_log.append([new_stream("elsewhere")])
        await asyncio.wait_for(anext(everything), SOON)
        assert not news.is_set()
        await postgres_log.append([StreamAppend(stream, 0, noted("here"))])
        await asyncio.wait_for(asyncio.gather(news.wait(), other_news.wait()), SOON)
    assert not follower._waiting
    await follower.close()


async def test_who_watches_is_woken_though_connections_were_lost(
    postgres_log: PostgresLog, database: str
) -> None:
    follower, stream = StreamFollower(postgres_log), uuid4()
    async with follower.watching([stream]) as news:
        admin(
            database,
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'ludoteca%'",
        )
        await postgres_log.append([StreamAppend(stream, 0, noted("here"))])
        await asyncio.wait_for(news.wait(), SOON)
    await follower.close()


async def test_while_nobody_watches_the_log_is_not_followed(
    postgres_log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower, stream = StreamFollower(postgres_log), uuid4()
    async with follower.watching([stream]):
        pass
    looks, look = [], postgres_log.watcher.beyond

    async def counted(position: int, generation: int | None = None) -> int:
        looks.append(position)
        return await look(position, generation)

    monkeypatch.setattr(postgres_log.watcher, "beyond", counted)
    for _ in range(20):
        await postgres_log.append([new_stream("elsewhere")])
    assert len(looks) <= 1  # it may have been about to wait when the last watcher left
    async with follower.watching([stream]) as news:
        await postgres_log.append([StreamAppend(stream, 0, noted("here"))])
        await asyncio.wait_for(news.wait(), SOON)
    await follower.close()
