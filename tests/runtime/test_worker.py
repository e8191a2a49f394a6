"""What the worker does around its jobs."""

from contextlib import suppress
from uuid import uuid4

import pytest

from commands.ports.queue import Job, JobAttempt
from eventstore.log import LogUnavailable
from kit.metrics import REGISTRY
from runtime.processes.worker import WritableLog, observed


class Shaky:
    """A log, and jobs that record in it; both fail while it is `down`."""

    def __init__(self) -> None:
        self.down = False
        self.proofs = self.started = 0

    async def prove(self) -> None:
        self.proofs += 1
        if self.down:
            raise LogUnavailable("down")

    async def job(self, _: JobAttempt) -> None:
        self.started += 1
        if self.down:
            raise LogUnavailable("down")


def attempt() -> JobAttempt:
    return JobAttempt(Job(uuid4(), "mail"), 1, last=False)


async def test_jobs_that_start_together_share_a_proof_that_the_log_can_be_written() -> None:
    log = Shaky()
    handle = WritableLog(log.prove, seconds=3600).before(log.job)
    await handle(attempt())
    await handle(attempt())
    assert (log.proofs, log.started) == (1, 2)


async def test_once_a_job_failed_none_starts_until_the_log_can_be_written_again() -> None:
    log = Shaky()
    handle = WritableLog(log.prove, seconds=3600).before(log.job)
    await handle(attempt())
    log.down = True
    for _ in range(3):
        with pytest.raises(LogUnavailable):
            await handle(attempt())
    assert log.started == 2  # the first since, which failed
    log.down = False
    await handle(attempt())
    assert log.started == 3


def attempts_counted(queue: str, outcome: str) -> float:
    labels = {"queue": queue, "outcome": outcome}
    return REGISTRY.get_sample_value("ludoteca_job_seconds_count", labels) or 0.0


@pytest.mark.parametrize(
    ("error", "last", "outcome"),
    [
        (None, False, "done"),
        (ValueError("odd"), False, "failed"),
        (ValueError("odd"), True, "dead"),
        (LogUnavailable("down"), True, "postponed"),
    ],
    ids=["done", "failed", "dead", "postponed"],
)
async def test_attempts_are_counted_by_their_outcome(
    error: Exception | None, last: bool, outcome: str
) -> None:
    async def job(_: JobAttempt) -> None:
        if error is not None:
            raise error

    queue = f"ludoteca.{outcome}"
    handle = observed(queue, job)
    with suppress(ValueError, LogUnavailable):
        await handle(JobAttempt(Job(uuid4(), "mail"), 1, last=last))
    assert attempts_counted(queue, outcome) == 1
