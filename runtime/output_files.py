"""Files that commands write: whole or not at all where that is possible, and never in the place of
something else."""

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
    """A file to write to; None is standard output.

    A regular file appears under its name when the block ends well, with the rights of the one
    before; a symbolic link stays, and leads to it. Anything else that has the name (a device, a
    FIFO, standard output) is written to as it is. Raises OSError.
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
    """The number of an open file that the path means, such as /dev/stdout: where that stands is to
    be gone on from."""
    name = os.path.normpath(os.path.abspath(path))
    streams = {"/dev/stdout": 1, "/dev/stderr": 2}
    found = re.fullmatch(rf"/dev/fd/(\d+)|/proc/(?:self|{os.getpid()})/fd/(\d+)", name)
    return int(found[1] or found[2]) if found else streams.get(name)


def _is_regular(path: Path) -> bool:
    """Whether the file, or the one that is to be made, is a regular one."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True


@contextlib.contextmanager
def _replacing(named: Path, path: Path) -> Iterator[BinaryIO]:
    """`path` is where the name leads that was given: errors speak of the name."""
    before = path.stat() if path.exists() else None
    if before and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(named))
    partial = path.with_name(f".{path.name[:200]}.{token_hex(4)}.partial")
    try:
        with by_its_name(partial, named), open(partial, "xb") as file:
            if before:
                _take_over(file.fileno(), before)
            yield file
            file.flush()
            os.fsync(file.fileno())
        with by_its_name(partial, named):
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def by_its_name(path: Path, named: Path) -> Iterator[None]:
    """Whatever the system says of a path that we chose, or of what is in it, it is said of what the
    user named."""
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
    with contextlib.suppress(PermissionError):  # only root may give a file away
        os.fchown(file, before.st_uid, before.st_gid)
    os.fchmod(file, stat.S_IMODE(before.st_mode))
