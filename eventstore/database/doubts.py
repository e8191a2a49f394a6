"""Which connections fell silent: the server is not at work for them, and nothing moves.

A large message may take seconds, during which the server waits for the client, or has finished. So
the bytes that the other end acknowledged and sent are counted, as the kernel knows them.
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
"""How long nothing moves on a connection that fell silent."""

SLOWEST = 1_000_000
"""Bytes a second. What was sent may lie in a proxy on the way, which passes it on as fast as
that."""

LARGE_SECONDS = 1.0
"""How much longer in the midst of a large answer: a narrow network moves by fits and starts."""

LARGE = 100_000
"""Bytes."""

UNKNOWN_SECONDS = 2.0
"""How long instead, where the kernel does not tell what moves, as of Unix sockets."""

_INFO = 136
"""The size of Linux' struct tcp_info up to tcpi_bytes_received (include/uapi/linux/tcp.h)."""

_moved_of = struct.Struct("=QQ").unpack_from  # tcpi_bytes_acked, tcpi_bytes_received
_waiting_of = struct.Struct("=i").unpack

Moved = tuple[int, int] | None
"""Bytes acknowledged and received so far; None where the kernel does not tell."""


@dataclass(slots=True)
class _Seen:
    """What was seen of a connection."""

    waits_since: float | None
    before: Moved  # at the last look before it began to wait
    moved: Moved
    idle_since: float | None = None  # of the server, with nothing that moved


class Doubts:
    """What was seen of connections at the looks before."""

    def __init__(self) -> None:
        self._seen: WeakKeyDictionary[AsyncConnection, _Seen] = WeakKeyDictionary()
        self._doubtful: set[AsyncConnection] = set()

    def __bool__(self) -> bool:
        return bool(self._doubtful)

    def clear(self) -> None:
        """Forget them."""
        for conn in self._doubtful:
            self._seen[conn].idle_since = None
        self._doubtful = set()

    def __contains__(self, conn: AsyncConnection) -> bool:
        return conn in self._doubtful

    def look(
        self, idle: Mapping[AsyncConnection, float], conns: Collection[AsyncConnection] = ()
    ) -> list[AsyncConnection]:
        """Which connections fell silent. `idle`: since when those wait for which the server is not
        at work. `conns`: all that there are."""
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
        """Returns also whether nothing moved, and the wait is the same, since the last look."""
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
    """Whether something was received that nobody has read."""
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
