"""A process that was asked to stop ends in time, even if it hangs where nothing interrupts it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 60.0
HANGS = """
import time
from runtime.processes.running import when_asked_to_stop

def hang_for_ever():
    while True:
        time.sleep(0.05)

when_asked_to_stop(lambda: print("asked", flush=True), seconds={seconds})
print("here", flush=True)
hang_for_ever()
"""


@contextmanager
def hanging(seconds: float) -> Iterator[subprocess.Popen[str]]:
    """A program that does nothing when it is asked to stop."""
    command = [sys.executable, "-c", HANGS.format(seconds=seconds)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        try:
            yield process
        finally:
            process.kill()


def test_it_ends_when_the_time_is_over_and_says_where_it_stood() -> None:
    with hanging(seconds=0.1) as process:
        process.terminate()
        said, error = process.communicate(timeout=PATIENCE)
    assert (said, process.returncode) == ("asked\n", 70)
    assert "hang_for_ever" in error


def test_signals_that_come_together_are_one() -> None:
    with hanging(seconds=0.5) as process:
        process.terminate()
        process.send_signal(signal.SIGINT)
        process.terminate()
        assert process.wait(PATIENCE) == 70


def test_a_later_signal_ends_it_at_once() -> None:
    with hanging(seconds=2 * PATIENCE) as process:
        while process.poll() is None:
            process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
