"""Acknowledged means committed: a commit may fail after its statement succeeded, and then the
append is not acknowledged."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from adapters.postgres.embedded import EmbeddedPostgres
from adapters.queues.postgres import PostgresQueue
from commands.ports.queue import Job, JobAttempt
from eventstore.append import writer
from eventstore.database.postgres import open_pool
from eventstore.log import IdempotencyKey, LogUnavailable, StreamAppend
from eventstore.postgres_log import PostgresLog
from runtime.release.migrate import migrate
from tests.support.events.notes import CODEC, admin, new_stream, texts_of

REFUSED_AT_COMMIT = """
CREATE FUNCTION log.refuse_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'not at commit' USING ERRCODE = '{code}'; END $$;
CREATE CONSTRAINT TRIGGER refuse_at_commit AFTER INSERT ON log.events DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (convert_from(NEW.payload, 'UTF8') LIKE '%poison%')
EXECUTE FUNCTION log.refuse_at_commit()"""


@contextmanager
def _refusing_at_commit(database: str, code: str) -> Iterator[None]:
    admin(database, REFUSED_AT_COMMIT.format(code=code))
    try:
        yield
    finally:
        admin(database, "DROP TRIGGER refuse_at_commit ON log.events")
        admin(database, "DROP FUNCTION log.refuse_at_commit()")


@pytest.mark.parametrize("code", ["23514", "23505", "53100", "40001", "54000"])
async def test_an_append_whose_commit_fails_is_not_acknowledged(
    postgres_log: PostgresLog, database: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Because of a deferred constraint, a full disk, a serialization failure, a limit: for any
    reason."""
    monkeypatch.setattr(writer, "APPEND_TIMEOUT_SECONDS", 0.3)
    once = IdempotencyKey(uuid4())
    with _refusing_at_commit(database, code):
        with pytest.raises((psycopg.Error, LogUnavailable)):
            await postgres_log.append([new_stream("poison")], once=once)
        assert await postgres_log.read() == []
        assert await postgres_log.done(once.key) is None


async def test_of_many_at_once_only_those_that_are_committed_are_acknowledged(
    postgres_log: PostgresLog, database: str
) -> None:
    texts = [f"poison {n}" if n % 7 == 3 else f"fine {n}" for n in range(100)]
    with _refusing_at_commit(database, "23514"):
        outcomes = await asyncio.gather(
            *(postgres_log.append([new_stream(text)]) for text in texts), return_exceptions=True
        )
    acknowledged = [
        text
        for text, outcome in zip(texts, outcomes, strict=True)
        if not isinstance(outcome, Exception)
    ]
    assert acknowledged == [text for text in texts if text.startswith("fine")]
    assert sorted(texts_of(await postgres_log.read())) == sorted(acknowledged)


async def test_a_stream_goes_on_after_a_commit_that_failed(
    postgres_log: PostgresLog, database: str
) -> None:
    stream = uuid4()
    appends = [
        StreamAppend(stream, 0, [each])
        for text in ("poison", "fine")
        for each in new_stream(text).events
    ]
    with _refusing_at_commit(database, "23514"):
        with pytest.raises(psycopg.Error):
            await postgres_log.append(appends[:1])
        await postgres_log.append(appends[1:])
    assert texts_of(await postgres_log.read_stream(stream)) == ["fine"]


@pytest.mark.parametrize(
    ("databases", "writers"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")]
)
async def test_an_append_is_as_durable_as_promised_whatever_the_database_is_set_to(
    database: str, databases: str, writers: str
) -> None:
    ((name,),) = admin(database, "SELECT current_database()")
    admin(database, f'ALTER DATABASE "{name}" SET synchronous_commit = {databases}')
    with _noting_durability(database):
        async with PostgresLog.open(database, CODEC) as log:
            await log.append([new_stream("x")])
    admin(database, f'ALTER DATABASE "{name}" RESET synchronous_commit')
    assert admin(database, "SELECT DISTINCT setting FROM public.noted") == [(writers,)]
    admin(database, "DROP TABLE public.noted")


@contextmanager
def _noting_durability(database: str) -> Iterator[None]:
    admin(database, "CREATE TABLE public.noted (setting text)")
    admin(
        database,
        """CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO public.noted SELECT current_setting('synchronous_commit'); RETURN NULL;
        END $$""",
    )
    admin(database, "CREATE TRIGGER note AFTER INSERT ON log.events EXECUTE FUNCTION public.note()")
    try:
        yield
    finally:
        admin(database, "DROP TRIGGER note ON log.events")
        admin(database, "DROP FUNCTION public.note()")


@pytest.mark.server
def test_a_full_notification_queue_stops_no_append_and_no_job_and_hides_none(
    tmp_path: Path,
) -> None:
    """A listener stays in a transaction: the server then refuses every commit that notifies."""
    server = EmbeddedPostgres(tmp_path, settings={"fsync": "off", "max_notify_queue_pages": "64"})
    server.start()
    try:
        migrate(server.url)
        with (
            psycopg.connect(server.url, autocommit=True) as deaf,
            psycopg.connect(server.url) as noisy,
        ):
            deaf.execute("LISTEN ludoteca_log")
            deaf.execute("BEGIN")
            deaf.execute("SELECT 1")
            with pytest.raises(psycopg.errors.ProgramLimitExceeded):
                _make_noise(noisy)
            asyncio.run(_appends_and_is_seen(server.url))
            asyncio.run(_publishes_and_is_seen(server.url))
    finally:
        server.stop()


def _make_noise(conn: psycopg.Connection) -> None:
    for n in range(1000):
        conn.execute("SELECT pg_notify('noise', %s)", [f"{n:07000}"])
        conn.commit()


async def _appends_and_is_seen(url: str) -> None:
    async with PostgresLog.open(url, CODEC) as log:
        seen = asyncio.create_task(anext(log.subscribe()))
        await asyncio.gather(*(log.append([new_stream(f"{n}")]) for n in range(50)))
        async with asyncio.timeout(10):
            assert await seen
        assert len(await log.read()) == 50


async def _publishes_and_is_seen(url: str) -> None:
    done = asyncio.Event()

    async def handle(_: JobAttempt) -> None:
        done.set()

    async with open_pool(url, 4) as pool:
        queue = PostgresQueue(pool, "q", poll_seconds=0.1)
        consuming = asyncio.create_task(queue.consume(handle))
        await asyncio.wait_for(queue.publish([Job(uuid4(), "kind", {})]), 10)
        await asyncio.wait_for(done.wait(), 10)
        consuming.cancel()
        await asyncio.wait([consuming])
