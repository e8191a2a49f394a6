"""The double of KurrentDB behaves as the real server is documented to, as far as we rely on it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from kurrentdbclient import (
    AsyncKurrentDBClient,
    NewEvent,
    NewEvents,
    NewRecord,
    RecordedEvent,
    StreamState,
    StreamStateCheck,
)
from kurrentdbclient.exceptions import (
    ConsistencyChecksFailedError,
    GrpcError,
    NodeIsNotLeaderError,
    NotFoundError,
    StreamIsDeletedError,
    StreamTombstonedError,
    TransactionMaxSizeExceededError,
    UnauthenticatedError,
    WrongCurrentVersionError,
)

from tests.support.servers.kurrent import KurrentDouble
from tests.support.servers.tls import Authority

NO_STREAM = StreamState.NO_STREAM


@pytest.fixture
def kurrent() -> Iterator[KurrentDouble]:
    with KurrentDouble() as started:
        yield started


@pytest.fixture
async def client(kurrent: KurrentDouble) -> AsyncIterator[AsyncKurrentDBClient]:
    async with AsyncKurrentDBClient(kurrent.url) as connected:
        yield connected


def event(text: str) -> NewEvent:
    return NewEvent("said", text.encode(), b'{"who": "ana"}')


def record(stream: str, text: str) -> NewRecord:
    return NewRecord(stream, "said", text.encode())


async def texts(client: AsyncKurrentDBClient, stream: str) -> list[str]:
    return [each.data.decode() for each in await client.get_stream(stream)]


async def next_texts(subscription: AsyncIterator[RecordedEvent], count: int) -> list[str]:
    async with asyncio.timeout(10):
        return [(await anext(subscription)).data.decode() for _ in range(count)]


async def test_an_append_to_a_stream_is_at_the_version_it_expects(
    client: AsyncKurrentDBClient,
) -> None:
    await client.append_to_stream("s", events=[event("a"), event("b")], current_version=NO_STREAM)
    await client.append_to_stream("s", events=[event("c")], current_version=1)
    for wrong in (NO_STREAM, 0, 7):
        with pytest.raises(WrongCurrentVersionError):
            await client.append_to_stream("s", events=[event("no")], current_version=wrong)
    found = await client.get_stream("s")
    assert [(e.stream_position, e.type, e.data, e.metadata) for e in found] == [
        (n, "said", text, b'{"who": "ana"}') for n, text in enumerate([b"a", b"b", b"c"])
    ]
    positions = [e.commit_position for e in found]
    assert positions == sorted(set(positions))


async def test_an_append_that_is_repeated_succeeds_and_adds_nothing(
    client: AsyncKurrentDBClient,
) -> None:
    events = [event("a"), event("b")]
    for _ in range(2):
        await client.append_to_stream("s", events=events, current_version=NO_STREAM)
    assert await texts(client, "s") == ["a", "b"]


async def test_an_append_to_several_streams_is_whole_or_absent(
    client: AsyncKurrentDBClient,
) -> None:
    await client.append_to_stream("taken", events=[event("a")], current_version=NO_STREAM)
    with pytest.raises(WrongCurrentVersionError):
        await client.multi_append_to_stream(
            [NewEvents("one", [event("b")], NO_STREAM), NewEvents("taken", [event("c")], NO_STREAM)]
        )
    with pytest.raises(NotFoundError):
        await texts(client, "one")
    await client.multi_append_to_stream(
        [NewEvents("one", [event("b")], NO_STREAM), NewEvents("taken", [event("c")], 0)]
    )
    assert (await texts(client, "one"), await texts(client, "taken")) == (["b"], ["a", "c"])


async def test_an_append_may_rest_on_streams_that_it_does_not_add_to(
    client: AsyncKurrentDBClient,
) -> None:
    await client.append_to_stream("read", events=[event("a")], current_version=NO_STREAM)
    await client.append_records([record("s", "b")], [StreamStateCheck("read", 0)])
    for wrong in (1, NO_STREAM):
        with pytest.raises(ConsistencyChecksFailedError) as refused:
            await client.append_records(
                [record("s", "no")], [StreamStateCheck("s", 0), StreamStateCheck("read", wrong)]
            )
    (failure,) = refused.value.failures
    assert failure.check_index == 1
    assert failure.stream_state_failure is not None
    assert failure.stream_state_failure.actual_state == 0
    assert await texts(client, "s") == ["b"]


async def test_before_26_1_there_are_no_checks() -> None:
    with KurrentDouble(version="25.1") as kurrent:
        async with AsyncKurrentDBClient(kurrent.url) as client:
            with pytest.raises(GrpcError, match="UNIMPLEMENTED"):
                await client.append_records([record("s", "a")])
            await client.multi_append_to_stream([NewEvents("s", [event("a")], NO_STREAM)])


async def test_an_append_has_its_size(client: AsyncKurrentDBClient) -> None:
    with pytest.raises(TransactionMaxSizeExceededError):
        await client.append_records([record("s", "x" * (1 << 19))] * 33)


async def test_a_deleted_stream_may_begin_again_and_a_tombstoned_one_not(
    client: AsyncKurrentDBClient,
) -> None:
    for stream in ("deleted", "ended"):
        await client.append_to_stream(
            stream, events=[event("a"), event("b")], current_version=NO_STREAM
        )
    with pytest.raises(WrongCurrentVersionError):
        await client.delete_stream("deleted", current_version=0)
    await client.delete_stream("deleted", current_version=1)
    with pytest.raises(NotFoundError):
        await texts(client, "deleted")
    await client.append_records([record("deleted", "c")], [StreamStateCheck("deleted", NO_STREAM)])
    (again,) = await client.get_stream("deleted")
    assert (again.data, again.stream_position) == (b"c", 2)

    await client.tombstone_stream("ended", current_version=1)
    with pytest.raises(StreamIsDeletedError):
        await texts(client, "ended")
    with pytest.raises(StreamTombstonedError):
        await client.append_records([record("ended", "c")])


async def test_everything_is_read_in_the_order_of_its_commits(
    client: AsyncKurrentDBClient,
) -> None:
    for n in range(5):
        await client.append_to_stream(
            f"s{n % 2}", events=[event(str(n))], current_version=StreamState.ANY
        )
    found = [each async for each in await client.read_all()]
    assert [each.data.decode() for each in found] == list("01234")
    at = found[2].commit_position
    forwards = [each.data.decode() async for each in await client.read_all(commit_position=at)]
    assert forwards == list("234")
    backwards = await client.read_all(commit_position=at, backwards=True)
    assert [each.data.decode() async for each in backwards] == list("10")
    some = await client.read_all(
        filter_include=["s1"], filter_by_stream_name=True, filter_by_prefix=True
    )
    assert [each.data.decode() async for each in some] == list("13")


async def test_a_subscription_begins_after_its_position_and_filters(
    kurrent: KurrentDouble, client: AsyncKurrentDBClient
) -> None:
    for text in "ab":
        kurrent.append_foreign("other", "said", text.encode())
    at = kurrent.append_foreign("mine-1", "said", b"c")
    subscription = await client.subscribe_to_all(
        commit_position=kurrent.store.log[0].position,
        filter_include=["mine-"],
        filter_by_stream_name=True,
        filter_by_prefix=True,
        include_caught_up=True,
        include_checkpoints=True,
        window_size=1,
        checkpoint_interval_multiplier=2,
    )
    found = [await anext(subscription) for _ in range(2)]
    assert (found[0].data, found[0].commit_position) == (b"c", at)
    assert found[1].is_caught_up
    for _ in range(2):
        checkpoint = kurrent.append_foreign("other", "said", b"d")
    kurrent.append_foreign("mine-2", "said", b"e")
    found = [await anext(subscription) for _ in range(2)]
    assert (found[0].is_checkpoint, found[0].commit_position) == (True, checkpoint)
    assert found[1].data == b"e"
    await subscription.stop()


async def test_the_leader_is_found_and_followed() -> None:
    with KurrentDouble(3) as kurrent:
        async with AsyncKurrentDBClient(kurrent.url) as client:
            await client.append_records([record("s", "a")])
            kurrent.change_leader()
            await client.append_records([record("s", "b")])
            kurrent.change_leader()
            await client.append_to_stream("s", events=[event("c")], current_version=1)
            assert await texts(client, "s") == ["a", "b", "c"]
        async with AsyncKurrentDBClient(kurrent.url_of(0)) as client:
            with pytest.raises(NodeIsNotLeaderError) as refused:
                await client.append_records([record("s", "d")])
            assert refused.value.port == kurrent.leader_port()


async def test_a_subscription_may_fall_silent_at_a_change_of_leader() -> None:
    with KurrentDouble(2) as kurrent:
        async with AsyncKurrentDBClient(kurrent.url) as client:
            kurrent.append_foreign("s", "said", b"a")
            subscription = await client.subscribe_to_all()
            assert await next_texts(subscription, 1) == ["a"]
            kurrent.change_leader(silent=True)
            kurrent.append_foreign("s", "said", b"b")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await anext(subscription)
            async with AsyncKurrentDBClient(kurrent.url) as other:
                again = await other.subscribe_to_all()
                assert await next_texts(again, 2) == ["a", "b"]
                await again.stop()


async def test_a_frozen_server_answers_when_it_goes_on(
    kurrent: KurrentDouble, client: AsyncKurrentDBClient
) -> None:
    await client.append_records([record("s", "a")])
    kurrent.freeze()
    with pytest.raises(GrpcError):
        await client.append_records([record("s", "b")], timeout=0.2)
    kurrent.thaw()
    assert (await texts(client, "s"))[0] == "a"  # "b" may have come, too, as with a real one


@pytest.mark.parametrize("committed", [True, False])
async def test_a_connection_is_cut_in_the_middle_of_an_append(
    kurrent: KurrentDouble, client: AsyncKurrentDBClient, committed: bool
) -> None:
    kurrent.cut_next_append(committed=committed)
    append = client.append_records([record("s", "a")], [StreamStateCheck("s", NO_STREAM)])
    if committed:  # the package tries again, and then it is there already
        with pytest.raises(ConsistencyChecksFailedError):
            await append
    else:
        await append
    assert await texts(client, "s") == ["a"]
    assert kurrent.calls["AppendRecords"] == 2


async def test_what_it_had_it_has_after_a_restart(tmp_path: Path) -> None:
    with KurrentDouble(folder=tmp_path) as kurrent:
        async with AsyncKurrentDBClient(kurrent.url) as client:
            await client.append_records([record("s", "a"), record("t", "b")])
            await client.delete_stream("t", current_version=0)
            kurrent.stop()
            kurrent.start()
            assert await texts(client, "s") == ["a"]
    with (tmp_path / "records").open("ab") as file:
        file.write(b"\x00\x00\x01\x00 cut off")
    with KurrentDouble(folder=tmp_path) as kurrent:
        async with AsyncKurrentDBClient(kurrent.url) as client:
            assert await texts(client, "s") == ["a"]
            with pytest.raises(NotFoundError):
                await texts(client, "t")
            await client.append_records([record("s", "c")], [StreamStateCheck("s", 0)])
            assert await texts(client, "s") == ["a", "c"]


async def test_a_log_may_go_back(kurrent: KurrentDouble, client: AsyncKurrentDBClient) -> None:
    kept = kurrent.append_foreign("s", "said", b"a")
    kurrent.append_foreign("s", "said", b"b")
    kurrent.go_back(kept)
    assert await texts(client, "s") == ["a"]
    await client.append_records([record("s", "c")], [StreamStateCheck("s", 0)])
    assert await texts(client, "s") == ["a", "c"]


async def test_who_comes_over_tls_must_have_a_login(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.pair("127.0.0.1")
    with KurrentDouble(tls=pair, ca_file=authority.file, login="ana:secret") as kurrent:
        async with AsyncKurrentDBClient(kurrent.url) as client:
            await client.append_records([record("s", "a")])
            assert await texts(client, "s") == ["a"]
        wrong = kurrent.url.replace("secret", "wrong")
        async with AsyncKurrentDBClient(wrong) as client:
            with pytest.raises(UnauthenticatedError):
                await client.append_records([record("s", "b")])
