"""A board in shared memory: each process reads whole messages of the others, whenever they are
killed."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from kit.shared_memory import NoticeBoard, create_memory, map_memory


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = create_memory(NoticeBoard.size(2))
    yield descriptor
    os.close(descriptor)


def test_each_place_shows_its_latest_message(memory: int) -> None:
    board, other = NoticeBoard(map_memory(memory)), NoticeBoard(map_memory(memory))
    assert (board.places, board.read(0), board.read(1)) == (2, None, None)
    for n in range(5):
        board.put(0, b"x" * n)
        message = other.read(0)
        assert message is not None
        assert message.text == b"x" * n
        assert 0 <= message.age < 60
    assert other.read(1) is None


def test_the_longest_message_fits_and_no_longer_one(memory: int) -> None:
    board = NoticeBoard(map_memory(memory))
    longest = bytes(NoticeBoard.HALF_BYTES - 16)
    board.put(1, longest)
    board.put(1, longest)
    assert board.read(0) is None
    with pytest.raises(ValueError, match="does not fit"):
        board.put(1, longest + b"x")
    message = board.read(1)
    assert message is not None
    assert message.text == longest


def test_a_writer_that_is_killed_leaves_a_whole_message(memory: int) -> None:
    board = NoticeBoard(map_memory(memory))
    for _ in range(5):
        before = board.read(0)
        pid = os.fork()
        if pid == 0:
            own, n = NoticeBoard(map_memory(memory)), 0
            while True:
                n += 1
                own.put(0, b"%d," % n * 20_000)
        began = time.monotonic()
        while (message := board.read(0)) is None or message == before:
            assert time.monotonic() - began < 60
        seen = [board.read(0) for _ in range(50)]  # while it writes
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for found in [*seen, board.read(0)]:
            assert found is not None
            number, *rest = found.text.removesuffix(b",").split(b",")
            assert set(rest) == {number}
            assert len(rest) == 19_999


def test_a_reader_always_finds_a_message_while_another_process_writes(memory: int) -> None:
    board = NoticeBoard(map_memory(memory))
    board.put(0, b"first")
    pid = os.fork()
    if pid == 0:
        own = NoticeBoard(map_memory(memory))
        while True:
            own.put(0, b"next")
    try:
        assert all(board.read(0) is not None for _ in range(100_000))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
