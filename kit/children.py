"""Children that end when their parent does, also when it is killed and can no longer end them."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def ending_with_parent(by: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """What a child that runs another program does between fork and exec, to receive `by` when the
    thread that started it ends: PR_SET_PDEATHSIG in prctl(2). Does nothing but on Linux. After a
    change of the user it has to be done again. Raises OSError in the child."""
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
