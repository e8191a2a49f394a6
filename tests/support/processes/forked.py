"""Runs the command in a child of this process, with given standard streams.

Faster than a new process, as everything is already imported.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import runtime.backup.making
import runtime.backup.restoring
import runtime.wiring.core  # noqa: F401 - what is imported here need not be imported in each child
from runtime.cli import main

CLOSED = -1
"""In place of a descriptor: the stream is closed."""


@dataclass(frozen=True)
class Ended:
    """The exit code and the output of the command."""

    code: int
    errors: str

    @property
    def lines(self) -> list[str]:
        return self.errors.splitlines()


def ludoteca(
    folder: Path,
    *arguments: object,
    stdout: int,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    setup: Callable[[], None] = lambda: None,
) -> Ended:
    """Run the command to its end; `setup` is called in the child."""
    (folder / "stdin").write_text(stdin)
    with open(folder / "stdin") as given, open(folder / "stderr", "w+b") as errors:
        pid = os.fork()
        if pid == 0:
            # never return into the test's own frames
            with contextlib.suppress(BaseException):
                os.environ.update(environment or {})
                _streams(given.fileno(), stdout, errors.fileno())
                setup()
                os._exit(_run([str(each) for each in arguments]))
            os._exit(99)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        errors.seek(0)
        return Ended(code, errors.read().decode(errors="replace"))


def _streams(stdin: int, stdout: int, stderr: int) -> None:
    """Create the standard streams as the interpreter does when it starts."""
    os.dup2(stdin, 0)
    if stdout == CLOSED:
        os.close(1)
    else:
        os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = None if stdout == CLOSED else os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    sys.__stdout__ = sys.stdout  # type: ignore[misc]
    sys.__stderr__ = sys.stderr  # type: ignore[misc]


def _run(arguments: Sequence[str]) -> int:
    sys.argv = ["ludoteca", *arguments]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:  # as the interpreter does when it ends
        os.write(2, f"Exception ignored: {error!r}\n".encode())
        code = 120
    return code
