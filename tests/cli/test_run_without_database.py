"""`ludoteca run`, when the PostgreSQL that it brought is killed."""

import os
import signal
import socket
from pathlib import Path

import httpx
import pytest

from tests.cli.shop import process, stop, until


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _pid(pid_file: Path) -> int | None:
    """The server's; None while the file is being written."""
    try:
        return int(pid_file.read_text().split()[0])
    except (FileNotFoundError, IndexError):
        return None


def test_a_killed_postgresql_is_started_again_and_the_shop_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    monkeypatch.setenv("LUDOTECA_PORT", port)
    monkeypatch.setenv("LUDOTECA_SAMPLE", "off")
    search = f"http://127.0.0.1:{port}/api/v1/games/search?q=witcher"
    pid_file = tmp_path / "home" / "postgres" / "postmaster.pid"

    with process("run") as running:
        assert running.stdout is not None
        for line in running.stdout:
            if "Stop it with Ctrl-C" in line:
                break
        assert _answers(search), "the link that was printed"
        killed = _pid(pid_file)
        assert killed
        os.kill(killed, signal.SIGKILL)
        until(lambda: _pid(pid_file) not in (None, killed, running.pid))
        until(lambda: _answers(f"http://127.0.0.1:{port}/health/ready") and _answers(search))
        code, errors = stop(running)

    assert code == 0
    assert "PostgreSQL ended; it starts again" in errors
