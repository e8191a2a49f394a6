"""Children that end when their parent does, also when it is killed and can no longer end them."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1

_BECOMES = """
import ctypes, os, signal, sys
parent, by, niceness, *command = sys.argv[1:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(by), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit(1)
os.nice(int(niceness))
for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and the next would, too
    signal.signal(number, signal.SIG_DFL)
os.execvp(command[0], command)
"""
"""A program that becomes another one."""


def command_that_ends_with_parent(
    command: Sequence[str | Path], *, by: signal.Signals = signal.SIGTERM, niceness: int = 0
) -> list[str]:
    """The same command, for `subprocess`: the child receives `by` when the thread that starts it
    ends (PR_SET_PDEATHSIG in prctl(2); on Linux only), and has its priority lowered. Its process id
    is that of the command.

    It is asked for by the child, after its start: `preexec_fn` runs Python in a fork of a process
    whose other threads hold locks, where gRPC's crash it.
    """
    settings = (str(os.getpid()), str(int(by)), str(niceness))
    return [sys.executable, "-I", "-S", "-c", _BECOMES, *settings, *map(str, command)]


def ending_with_parent(by: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """What a child that runs another program does between fork and exec, to receive `by` when the
    thread that started it ends. Only for a process without other threads, that changes the child's
    user: after that it has to be done again; others take `command_that_ends_with_parent`. Raises
    OSError in the child."""
    parent = os.getpid()

    def setup() -> None:
        if sys.platform != "linux":
            return
        if _LIBC.prctl(_PR_SET_PDEATHSIG, int(by), 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
        if os.getppid() != parent:  # died in between
            os._exit(1)

    return setup


def end_with_parent() -> None:
    """Have this process, which `multiprocessing` started, end at once when its parent does. Not by
    the kernel's signal: it would come when the thread that started this process ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "multiprocessing did not start this process"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="watches the parent", daemon=True).start()
