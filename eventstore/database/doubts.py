"""Finds connections that fell silent: the server is not working on their statements, and no bytes
move.

A large message may take seconds, during which the server waits for the client, or has finished. So
this counts the bytes that the other end has acknowledged and sent, according to the kernel.
"""

import fcntl
import select
import socket
import struct
import sys
import termios
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from weakref import WeakKeyDictionary

from eventstore.database.connections import AsyncConnection

STILL_SECONDS = 0.2
"""How long no bytes move before a connection counts as silent."""

SLOWEST = 1_000_000
"""Bytes per second: the assumed speed of a proxy on the way that still holds sent bytes."""

LARGE_SECONDS = 1.0
"""How much longer that is in the middle of a large answer, since a slow network moves in bursts."""

LARGE = 100_000
"""Bytes."""

UNKNOWN_SECONDS = 2.0
"""How long it is when the kernel does not count bytes, as for Unix sockets."""

_INFO = 136
"""The size of Linux' struct tcp_info up to tcpi_bytes_received (include/uapi/linux/tcp.h)."""

_moved_of = struct.Struct("=QQ").unpack_from  # tcpi_bytes_acked, tcpi_bytes_received
_waiting_of = struct.Struct("=i").unpack

Moved = tuple[int, int] | None
"""Bytes acknowledged and received so far; None when the kernel does not count them."""


@dataclass(slots=True)
class _Seen:
    """What the last looks showed of a connection."""

    waits_since: float | None
    before: Moved  # at the last look before it began to wait
    moved: Moved
    idle_since: float | None = None  # since when the server is idle and no bytes move


class Doubts:
    """What earlier looks showed of the connections."""

    def __init__(self) -> None:
        self._seen: WeakKeyDictionary[AsyncConnection, _Seen] = WeakKeyDictionary()
        self._doubtful: set[AsyncConnection] = set()

    def __bool__(self) -> bool:
        return bool(self._doubtful)

    def clear(self) -> None:
        """Forget earlier looks."""
        for conn in self._doubtful:
            self._seen[conn].idle_since = None
        self._doubtful = set()

    def __contains__(self, conn: AsyncConnection) -> bool:
        return conn in self._doubtful

    def look(
        self, idle: Mapping[AsyncConnection, float], conns: Collection[AsyncConnection] = ()
    ) -> list[AsyncConnection]:
        """The connections that fell silent. `idle`: those whose statement the server is not working
        on, and since when they wait. `conns`: all connections."""
        lost = []
        self._doubtful = set()
        for conn in {*conns, *idle}:
            if conn.closed:
                continue
            seen, still = self._look_at(conn)
            if conn.waits_since is None or idle.get(conn) != conn.waits_since or has_come(conn):
                seen.idle_since = None
                continue
            now = monotonic()
            if not still or seen.idle_since is None:
                seen.idle_since = now
            elif now - seen.idle_since > _patience(conn, seen):
                lost.append(conn)
            self._doubtful.add(conn)
        return lost

    def _look_at(self, conn: AsyncConnection) -> tuple[_Seen, bool]:
        """What is seen of a connection now, and whether it waits as at the last look without a byte
        moved."""
        moved, since = _moved(conn), conn.waits_since
        seen = self._seen.get(conn)
        if seen is None:
            nothing = None if moved is None else (0, 0)
            seen = self._seen[conn] = _Seen(since, moved if since is None else nothing, moved)
            return seen, False
        still = seen.moved == moved and seen.waits_since == since
        if since is None:
            seen.before = moved
        elif since != seen.waits_since:
            seen.before = seen.moved
        seen.waits_since = since
        seen.moved = moved
        return seen, still


def has_come(conn: AsyncConnection) -> bool:
    """Whether there are received bytes that nobody has read."""
    poll = select.poll()
    poll.register(conn.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))


def _patience(conn: AsyncConnection, seen: _Seen) -> float:
    if seen.moved is None or seen.before is None:
        return UNKNOWN_SECONDS
    sent, received = (now - before for now, before in zip(seen.moved, seen.before, strict=True))
    return STILL_SECONDS + (sent + _unsent(conn)) / SLOWEST + LARGE_SECONDS * (received > LARGE)


def _moved(conn: AsyncConnection) -> Moved:
    if sys.platform == "linux":
        with suppress(OSError), conn.borrowed_socket() as sock:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO)
            if len(info) == _INFO:
                acknowledged, received = _moved_of(info, _INFO - 16)
                return acknowledged, received
    return None


def _unsent(conn: AsyncConnection) -> int:
    """Bytes that the other end has not acknowledged."""
    with suppress(OSError):
        return int(_waiting_of(fcntl.ioctl(conn.pgconn.socket, termios.TIOCOUTQ, bytes(4)))[0])
    return 0
