"""The double as a process, which a test may kill, hang and start again."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.support.servers.shared import free_port


class KurrentProcess:
    """A server of one node, which keeps its log in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"kurrentdb://127.0.0.1:{self._port}?Tls=false"
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Start it, also again. Returns when it answers."""
        command = [sys.executable, "-m", "tests.support.servers.kurrent"]
        command += ["--port", str(self._port), "--folder", str(self._folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == self.url

    def kill(self) -> None:
        """Kill it by SIGKILL."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.communicate()

    def hang(self) -> None:
        """Pause it, until `go_on`."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
