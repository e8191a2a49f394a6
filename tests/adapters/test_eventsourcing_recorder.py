"""Our persistence module of the `eventsourcing` library, beyond the library's own test cases: what
our log adds, and where it says no."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from uuid import UUID, uuid4

import psycopg
import pytest
from eventsourcing.persistence import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    StoredEvent,
    Tracking,
)
from eventsourcing.utils import Environment

from adapters.eventsourcing_recorder import LogFactory
from adapters.eventsourcing_recorder.opaque_log import Opaque
from adapters.eventsourcing_recorder.recorders import LogApplicationRecorder
from eventstore.log import MAX_EVENT_BYTES, VersionConflict
from runtime.audit.chain import audit
from tests.support.library import environment

OpenFactory = Callable[..., LogFactory]


@pytest.fixture
def open_factory(empty_database: str) -> Iterator[OpenFactory]:
    """Opens the same database on each call, as another process of an application would."""
    with ExitStack() as stack:

        def open_it(name: str = "Shop", **more: str) -> LogFactory:
            factory = LogFactory(Environment(name, {**environment(empty_database), **more}))
            return stack.enter_context(closing(factory))

        yield open_it


@pytest.fixture
def recorder(open_factory: OpenFactory) -> LogApplicationRecorder:
    return open_factory().application_recorder()


def stored(stream_id: UUID, version: int, state: bytes = b"state") -> StoredEvent:
    return StoredEvent(stream_id, version, "shop:Ordered", state)


def opaque(stream_id: UUID, version: int) -> Opaque:
    return Opaque(stream_id, version, "shop:Ordered", b"state")


def end_connections(url: str, name: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = %s AND datname = current_database()",
            (name,),
        )


# -- appending -------------------------------------------------------------------------------------


def test_ids_are_in_the_order_given_also_when_streams_alternate(
    recorder: LogApplicationRecorder,
) -> None:
    one, other = uuid4(), uuid4()
    events = [stored(one, 1), stored(other, 0), stored(one, 2), stored(other, 1)]
    assert recorder.insert_events(events) == [1, 2, 3, 4]
    found = recorder.select_notifications(1, 10)
    assert [(n.originator_id, n.originator_version) for n in found] == [
        (event.originator_id, event.originator_version) for event in events
    ]


@pytest.mark.parametrize("first", [0, 1])
def test_a_gap_is_refused(recorder: LogApplicationRecorder, first: int) -> None:
    stream_id = uuid4()
    recorder.insert_events([stored(stream_id, first)])
    with pytest.raises(IntegrityError):
        recorder.insert_events([stored(stream_id, first + 2)])
    with pytest.raises(IntegrityError):
        recorder.insert_events([stored(stream_id, first + 1), stored(stream_id, first + 3)])
    assert recorder.max_notification_id() == 1


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_processes_one_continues_a_stream(open_factory: OpenFactory, first: int) -> None:
    recorders = [open_factory().application_recorder() for _ in range(2)]
    stream_id = uuid4()
    for version in range(first, first + 20):
        barrier = threading.Barrier(2)

        def insert(recorder: LogApplicationRecorder, version: int = version) -> bool:
            barrier.wait()  # noqa: B023
            try:
                return recorder.insert_events([stored(stream_id, version)]) is not None
            except IntegrityError:
                return False

        with ThreadPoolExecutor(2) as threads:
            assert sorted(threads.map(insert, recorders)) == [False, True]


def test_a_loser_does_not_take_others_of_its_commit_along(
    recorder: LogApplicationRecorder,
) -> None:
    taken = uuid4()
    recorder.insert_events([stored(taken, 0)])
    new = [uuid4() for _ in range(3)]

    async def at_once() -> list[list[int] | BaseException]:
        appends = [opaque(taken, 0), *(opaque(stream_id, n) for n, stream_id in enumerate(new[:2]))]
        inserts = (recorder.log.insert("Shop", [event]) for event in appends)
        return await asyncio.gather(*inserts, return_exceptions=True)

    loser, *others = recorder.thread.call(at_once())
    assert isinstance(loser, VersionConflict)
    assert sorted(map(str, others)) == ["[2]", "[3]"]
    shared = {env.recorded_at for env, _ in recorder.thread.call(recorder.log.read_raw(after=1))}
    assert len(shared) == 1, "they were not of one commit"


def test_the_chain_covers_what_the_library_appends(
    recorder: LogApplicationRecorder, empty_database: str
) -> None:
    for version in (0, 1):
        for _ in range(3):
            recorder.insert_events([stored(uuid4(), version)])

    finding = audit(empty_database, None, [], lambda *_: None)
    assert (finding.faults, finding.position) == ([], 6)


def test_what_was_acknowledged_is_there_however_often_the_connection_is_lost(
    recorder: LogApplicationRecorder, empty_database: str
) -> None:
    """A caller who is not told the outcome looks, and goes on from there."""

    def append(stream_id: UUID) -> list[int]:
        ids: list[int] = []
        for version in range(40):
            try:
                ids += recorder.insert_events([stored(stream_id, version)]) or []
            except OperationalError:
                if len(recorder.select_events(stream_id)) == version:
                    ids += recorder.insert_events([stored(stream_id, version)]) or []
            if stream_id == streams[0] and version % 8 == 7:
                end_connections(empty_database, "ludoteca writer")
        return ids

    streams = [uuid4() for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        acknowledged = list(threads.map(append, streams))
    for stream_id, ids in zip(streams, acknowledged, strict=True):
        versions = [event.originator_version for event in recorder.select_events(stream_id)]
        assert versions == list(range(40))
        there = {
            n.id for n in recorder.select_notifications(1, 200) if n.originator_id == stream_id
        }
        assert set(ids) <= there
    assert recorder.max_notification_id() == 160


def test_what_is_too_large_is_refused_and_says_so(recorder: LogApplicationRecorder) -> None:
    with pytest.raises(DataError, match=f"{MAX_EVENT_BYTES} at most"):
        recorder.insert_events([stored(uuid4(), 1, bytes(MAX_EVENT_BYTES + 1))])
    with pytest.raises(DataError, match="bytes of events at once"):
        recorder.insert_events([stored(uuid4(), 1, bytes(MAX_EVENT_BYTES)) for _ in range(17)])
    assert recorder.max_notification_id() is None


@pytest.mark.parametrize(
    "event",
    [
        StoredEvent("a text", 1, "topic", b""),
        StoredEvent(UUID(int=1), -1, "topic", b""),
        StoredEvent(UUID(int=1), 1, "a NUL: \0", b""),
    ],
    ids=["id", "version", "topic"],
)
def test_what_the_log_cannot_hold_is_refused(
    recorder: LogApplicationRecorder, event: StoredEvent
) -> None:
    with pytest.raises(DataError):
        recorder.insert_events([stored(uuid4(), 1), event])
    assert recorder.max_notification_id() is None


# -- notifications ---------------------------------------------------------------------------------


def test_a_page_has_as_many_as_asked_for_however_large_they_are(
    recorder: LogApplicationRecorder,
) -> None:
    for _ in range(20):
        recorder.insert_events([stored(uuid4(), 1, bytes(MAX_EVENT_BYTES))])
    assert [n.id for n in recorder.select_notifications(1, 500)] == list(range(1, 21))
    assert [n.id for n in recorder.select_notifications(1, 18)] == list(range(1, 19))


def test_a_subscription_sees_what_another_process_appends(open_factory: OpenFactory) -> None:
    here, there = (open_factory().application_recorder() for _ in range(2))
    with here.subscribe(topics=["wanted"]) as subscription:
        for round_ in range(1, 4):
            there.insert_events(
                [stored(uuid4(), 1), StoredEvent(uuid4(), 1, "wanted", b""), stored(uuid4(), 1)]
            )
            assert next(subscription).id == 3 * round_ - 1


def test_a_subscription_survives_a_lost_connection(
    open_factory: OpenFactory, empty_database: str
) -> None:
    here, there = (open_factory().application_recorder() for _ in range(2))
    with here.subscribe() as subscription:
        there.insert_events([stored(uuid4(), 1)])
        assert next(subscription).id == 1
        end_connections(empty_database, "ludoteca head")
        there.insert_events([stored(uuid4(), 1)])
        assert next(subscription).id == 2


def test_closing_ends_subscriptions_and_refuses_calls(open_factory: OpenFactory) -> None:
    factory = open_factory()
    recorder = factory.application_recorder()
    subscription = recorder.subscribe()
    with ThreadPoolExecutor(1) as threads, subscription:
        ended = threads.submit(list, subscription)
        factory.close()
        assert isinstance(ended.exception(timeout=10), OperationalError | None)
    with pytest.raises(InterfaceError):
        recorder.insert_events([stored(uuid4(), 1)])
    with pytest.raises(InterfaceError):
        recorder.subscribe()


def test_a_forked_process_gets_an_error_instead_of_waiting_for_ever(
    recorder: LogApplicationRecorder,
) -> None:
    child = os.fork()
    if child == 0:
        try:
            recorder.max_notification_id()
        except InterfaceError:
            os._exit(42)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


# -- process applications --------------------------------------------------------------------------


def test_a_tracking_is_no_notification(open_factory: OpenFactory) -> None:
    recorder = open_factory().process_recorder()
    recorder.insert_events([stored(uuid4(), 1)], tracking=Tracking("upstream", 7))
    for handled in (8, 9):
        recorder.insert_events([], tracking=Tracking("upstream", handled))
    assert recorder.max_notification_id() == 1
    assert [n.id for n in recorder.select_notifications(1, 10)] == [1]
    with recorder.subscribe() as subscription:
        assert next(subscription).id == 1
        recorder.insert_events([stored(uuid4(), 1)])
        assert next(subscription).originator_version == 1


def test_of_two_processes_one_handles_a_notification(open_factory: OpenFactory) -> None:
    recorders = [open_factory().process_recorder() for _ in range(2)]
    for handled in range(1, 20):
        barrier = threading.Barrier(2)

        def handle(number: int, handled: int = handled) -> bool:
            barrier.wait()  # noqa: B023
            try:
                recorders[number].insert_events(
                    [stored(uuid4(), 1)], tracking=Tracking("upstream", handled)
                )
            except IntegrityError:
                return False
            return True

        with ThreadPoolExecutor(2) as threads:
            assert sorted(threads.map(handle, range(2))) == [False, True]
    assert len(recorders[0].select_notifications(1, 100)) == 19


# -- databases -------------------------------------------------------------------------------------


def test_a_log_is_one_applications(open_factory: OpenFactory) -> None:
    open_factory("Shop").application_recorder().insert_events([stored(uuid4(), 1)])
    open_factory("Shop").application_recorder()
    with pytest.raises(ProgrammingError, match="OTHER_POSTGRES_DBNAME"):
        open_factory("Other").application_recorder()
    with pytest.raises(ProgrammingError, match="OTHER_POSTGRES_DBNAME"):
        open_factory("Other").process_recorder()


def test_a_database_that_the_program_has_prepared_is_taken_as_it_is(database: str) -> None:
    with closing(LogFactory(Environment("Shop", environment(database)))) as factory:
        assert factory.application_recorder().insert_events([stored(uuid4(), 1)]) == [1]


def test_without_tables_and_without_leave_to_create_them(open_factory: OpenFactory) -> None:
    with pytest.raises(DatabaseError, match="CREATE_TABLE"):
        open_factory(CREATE_TABLE="no").application_recorder()
    open_factory().application_recorder()
    open_factory(CREATE_TABLE="no").application_recorder()


def test_a_server_that_is_not_there(open_factory: OpenFactory) -> None:
    with pytest.raises(OperationalError):
        open_factory(POSTGRES_HOST="127.0.0.1", POSTGRES_PORT="1").application_recorder()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"ORIGINATOR_ID_TYPE": "text"}, "UUID"),
        ({"POSTGRES_GET_PASSWORD_TOPIC": "a:b"}, "POSTGRES_PASSWORD"),
    ],
    ids=["text ids", "rotating password"],
)
def test_unsupported_settings_are_refused(change: dict[str, str], complaint: str) -> None:
    with pytest.raises(OSError, match=complaint):
        LogFactory({**environment("postgresql://someone@nowhere/nothing"), **change})


def test_a_missing_setting_is_named() -> None:
    given = environment("postgresql://someone@nowhere/nothing")
    del given["POSTGRES_USER"]
    with pytest.raises(OSError, match="POSTGRES_USER"):
        LogFactory(given)
