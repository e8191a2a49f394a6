"""Memory that several processes of this machine share, without a file that could stay behind, or
whose disk could be full."""

import mmap
import os
import struct
import time
import zlib
from typing import NamedTuple

_COUNT_BYTES = 8
_HEAD = struct.Struct("<dII")
"""The time of a message (of the monotonic clock, which all processes share), its length and
checksum."""


class Message(NamedTuple):
    """What a process has put up, and how many seconds ago."""

    age: float
    text: bytes


def create_memory(size: int) -> int:
    """New memory, all zeros, as a file descriptor for child processes to inherit. A page takes room
    once it is written to."""
    descriptor = os.memfd_create("ludoteca")
    os.truncate(descriptor, size)
    return descriptor


def map_memory(descriptor: int) -> memoryview:
    """The memory behind a descriptor."""
    return memoryview(mmap.mmap(descriptor, os.fstat(descriptor).st_size))


class NoticeBoard:
    """A place for each of several processes, where it puts up a message that all can read.

    A place has one writer. It writes beside the message that is up, and then lets the new one
    count: readers find a whole message, even if the writer is killed.
    """

    HALF_BYTES = 8 << 20

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        # `struct` zeroes the place first and then writes byte by byte: a reader would find no
        # message, or that of a number in between. A cast view stores the eight bytes at once.
        self._counts = memory.cast("Q")

    @classmethod
    def size(cls, places: int) -> int:
        """The bytes that a board of so many places needs."""
        return places * cls._place_bytes()

    @classmethod
    def _place_bytes(cls) -> int:
        return mmap.PAGESIZE + 2 * cls.HALF_BYTES

    @property
    def places(self) -> int:
        """How many places it has."""
        return len(self._memory) // self._place_bytes()

    def put(self, place: int, text: bytes) -> None:
        """Put up a message in place of the one before. Raises ValueError for one that is too
        long."""
        if _HEAD.size + len(text) > self.HALF_BYTES:
            raise ValueError(f"a message of {len(text)} bytes does not fit")
        start = place * self._place_bytes()
        count = self._count(start) + 1
        half = self._half(start, count)
        end = half + _HEAD.size + len(text)
        self._memory[half + _HEAD.size : end] = text
        _HEAD.pack_into(self._memory, half, time.monotonic(), len(text), zlib.crc32(text))
        self._counts[start // _COUNT_BYTES] = count

    def read(self, place: int) -> Message | None:
        """The message of a place; None before the first one."""
        start = place * self._place_bytes()
        while count := self._count(start):
            half = self._half(start, count)
            then, length, checksum = _HEAD.unpack_from(self._memory, half)
            text = bytes(self._memory[half + _HEAD.size :][:length])
            if zlib.crc32(text) == checksum:  # else two newer messages came meanwhile
                return Message(time.monotonic() - then, text)
        return None

    def _count(self, start: int) -> int:
        return int(self._counts[start // _COUNT_BYTES])

    def _half(self, start: int, count: int) -> int:
        return start + mmap.PAGESIZE + count % 2 * self.HALF_BYTES
