"""What a process was started with, put into a state that the program can rely on, whoever started
it and how."""

import contextlib
import io
import os
import resource
import signal
import sys
from types import FrameType

from runtime.addresses import direct_hosts

OPEN_FILES = 65_536
"""As many as we let ourselves have open, where the system permits: each connection takes one."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def settle() -> None:
    """To be called first, before anything is opened."""
    _open_standard_streams()
    _speak_to_this_machine_directly()
    # who writes down keys of connections that money goes through?
    os.environ.pop("SSLKEYLOGFILE", None)
    _allow_many_open_files()
    # without a handler the first process of a container is deaf to it
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    """In order, so that no half of a file stays; processes that go on for long have handlers of
    their own."""
    raise SystemExit(128 + number)


def _open_standard_streams() -> None:
    """One that is closed (`2>&-`) would become the next file that is opened: what somebody prints
    goes into it then.

    Closed standard output is put in place such that writing to it is an error, as it is for any
    program.
    """
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
    # titles are in all languages; a terminal of LC_ALL=C shows what it can
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _speak_to_this_machine_directly() -> None:
    """No proxy of the environment comes between our own processes; what says so for others is made
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
