"""Run a child process of root as an ordinary user, bound to our lifetime. By Linux calls; elsewhere
only the user changes.

For the calls and their numbers see prctl(2), capset(2) and capabilities(7).
"""

import ctypes
import os
import pwd
import signal
from collections.abc import Callable
from pathlib import Path

from kit.children import ending_with_parent

_LIBC = ctypes.CDLL(None, use_errno=True)

_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def pick_user(*names: str) -> pwd.struct_passwd:
    """The first of these users that the system has. Raises KeyError when it has none."""
    for name in names:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise KeyError(f"this system has no user named {' or '.join(names)}")


def can_reach(user: pwd.struct_passwd, path: Path) -> bool:
    """Whether the user may traverse every directory above `path`, by its permission bits."""
    for directory in path.resolve().parents:
        found = directory.stat()
        if found.st_uid == user.pw_uid:
            allowed = found.st_mode & 0o100
        elif found.st_gid == user.pw_gid:
            allowed = found.st_mode & 0o010
        else:
            allowed = found.st_mode & 0o001
        if not allowed:
            return False
    return True


def child_setup(
    *, user: pwd.struct_passwd | None, reads_everything: bool, dies_by: signal.Signals
) -> Callable[[], None]:
    """The steps of a child between fork and exec: become `user` (None: stay), and receive `dies_by`
    when the thread that started it ends.

    With `reads_everything` it keeps one privilege of root, to traverse and read what others may
    not: root's own home is closed (0700), and opening it up would override its owner's choice.

    Raises OSError in the child when the kernel refuses.
    """
    end_with_parent = ending_with_parent(dies_by)
    capability = _CAP_DAC_READ_SEARCH if _holds(_CAP_DAC_READ_SEARCH) else _CAP_DAC_OVERRIDE

    def setup() -> None:
        # a Ctrl-C at the terminal reaches us only; we then stop the child in order
        os.setpgid(0, 0)
        if user:
            if reads_everything:
                # Without this bit the capability would not count in access(2), which PostgreSQL
                # calls.
                _check(_LIBC.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0))
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            if reads_everything:
                _keep_only(capability)
        end_with_parent()  # after setuid, which would clear it

    return setup


def _keep_only(capability: int) -> None:
    bit = 1 << capability
    sets = (_Sets * 2)(_Sets(bit, bit, bit))
    _check(_LIBC.capset(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), sets))
    _check(_LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0))


def _holds(capability: int) -> bool:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> capability & 1)


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
