"""The processes that `ludoteca run` starts, and keeps alive."""

import logging
import subprocess
import sys
import time
from collections.abc import Mapping

from kit.children import command_that_ends_with_parent

logger = logging.getLogger(__name__)


class Child:
    """One process of the instance. Of several of a kind, each has a `number` from 1 on; 0 is the
    only one of its kind. `memory` is the descriptor of what they share."""

    def __init__(
        self,
        command: str,
        environment: Mapping[str, str],
        *,
        number: int = 0,
        memory: int | None = None,
    ) -> None:
        self.name = numbered(command, number)
        self._inherited = [] if memory is None else [memory]
        self._arguments = [
            command,
            *([f"--number={number}"] if number else []),
            *(f"--memory={descriptor}" for descriptor in self._inherited),
        ]
        self._environment = dict(environment)
        self.process = self._spawn()
        self.started = time.monotonic()
        self.failures = 0
        self.start_at: float | None = None

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            # -P: files in the current folder must not shadow the program's modules.
            command_that_ends_with_parent(
                [sys.executable, "-P", "-m", "runtime.cli", *self._arguments]
            ),
            env=self._environment,
            pass_fds=self._inherited,
            # Ctrl-C must reach only the supervisor, which stops the others in order
            process_group=0,
        )

    def revive(self) -> None:
        """Restart the process if it died, with growing delays if it keeps dying at once."""
        if self.start_at is None:
            if self.process.poll() is None:
                return
            lived = time.monotonic() - self.started
            self.failures = 0 if lived > 30 else self.failures + 1
            pause = min(10.0, 0.5 * 2**self.failures)
            logger.warning(
                "%s ended with %s; it starts again in %.1f s",
                self.name,
                self.process.returncode,
                pause,
            )
            self.start_at = time.monotonic() + pause
        elif time.monotonic() >= self.start_at:
            self.process = self._spawn()
            self.started = time.monotonic()
            self.start_at = None

    def stop(self, deadline: float) -> None:
        """Wait until it has ended; kill it when the time is over."""
        try:
            self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            logger.warning("%s did not stop in time", self.name)
            self.process.kill()
            self.process.wait()


def numbered(command: str, number: int) -> str:
    """The name of a process in logs and metrics: `api.2`, or `api` if it is the only one."""
    return f"{command}.{number}" if number else command
