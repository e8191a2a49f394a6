"""Bring a process into a state that the program can rely on, however it was started."""

import contextlib
import io
import os
import resource
import signal
import sys
from types import FrameType

from runtime.host.addresses import direct_hosts

OPEN_FILES = 65_536
"""The limit of open files to ask for; each connection takes one."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def prepare_process() -> None:
    """Prepare the process. Call this first, before anything is opened."""
    _open_standard_streams()
    _speak_to_this_machine_directly()
    # never log the TLS keys of connections that move money
    os.environ.pop("SSLKEYLOGFILE", None)
    _allow_many_open_files()
    # without a handler, the first process of a container ignores it
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    """Exit in order, so that no half-written file stays. Long-running processes install handlers of
    their own."""
    raise SystemExit(128 + number)


def _open_standard_streams() -> None:
    """Open standard streams that are closed (`2>&-`). Otherwise the next file to be opened would
    take their number, and get what is printed. Writing to a closed stdout stays an error, as in
    other programs."""
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, mode)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
    # titles may have any characters; a terminal with LC_ALL=C shows those that it can
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _speak_to_this_machine_directly() -> None:
    """Let no proxy of the environment come between this machine's own processes, and make NO_PROXY
    readable to all libraries."""
    for name in ("no_proxy", "NO_PROXY"):
        given = list(direct_hosts(os.environ.get(name, "")))
        if "*" not in given:
            os.environ[name] = ",".join([*given, *(host for host in LOOPBACK if host not in given)])


def _allow_many_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
