"""Files that commands write. They appear complete or not at all where that is possible, and never
replace anything that is not a regular file."""

import contextlib
import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO


@contextlib.contextmanager
def writing(path: Path | None) -> Iterator[BinaryIO]:
    """Open a file for writing; None is standard output.

    A regular file gets its name only when the block ends without an error, and keeps the
    permissions of the file that it replaces. A symbolic link is followed. Anything else (a device,
    a FIFO, standard output) is written to directly. Raises OSError.
    """
    descriptor = None if path is None else _descriptor(path)
    if path is None or descriptor == 1:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif descriptor is not None:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            yield file
    elif _is_regular(path):
        with _replacing(path, path.resolve()) as file:
            yield file
    else:
        with path.open("wb") as file:
            yield file


def _descriptor(path: Path) -> int | None:
    """The number of the open file that a path such as /dev/stdout means. Writing must continue at
    that file's position."""
    name = os.path.normpath(os.path.abspath(path))
    streams = {"/dev/stdout": 1, "/dev/stderr": 2}
    found = re.fullmatch(rf"/dev/fd/(\d+)|/proc/(?:self|{os.getpid()})/fd/(\d+)", name)
    return int(found[1] or found[2]) if found else streams.get(name)


def _is_regular(path: Path) -> bool:
    """Whether the path is, or would become, a regular file."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True


@contextlib.contextmanager
def _replacing(named: Path, path: Path) -> Iterator[BinaryIO]:
    """`path` is the resolved target of the given `name`; errors mention the name."""
    before = path.stat() if path.exists() else None
    if before and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(named))
    partial = path.with_name(f".{path.name[:200]}.{token_hex(4)}.partial")
    try:
        with errors_naming(partial, named), open(partial, "xb") as file:
            if before:
                _take_over(file.fileno(), before)
            yield file
            file.flush()
            os.fsync(file.fileno())
        with errors_naming(partial, named):
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def errors_naming(path: Path, named: Path) -> Iterator[None]:
    """Replace paths that we chose by the name that the user gave, in the errors of the block."""
    try:
        yield
    except OSError as error:
        found = str(error.filename)
        if found == str(path) or found.startswith(f"{path}{os.sep}"):
            raise OSError(
                error.errno, error.strerror, f"{named}{found.removeprefix(str(path))}"
            ) from error
        raise


def _take_over(file: int, before: os.stat_result) -> None:
    with contextlib.suppress(PermissionError):  # only root can change a file's owner
        os.fchown(file, before.st_uid, before.st_gid)
    os.fchmod(file, stat.S_IMODE(before.st_mode))
