"""Work queues: jobs, their attempts, and the dead letters that they may end as."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec


class Job(msgspec.Struct, frozen=True):
    """A piece of work. Publishing the same id twice is publishing it once, as far as the queue can
    tell; handlers are idempotent all the same."""

    id: UUID
    kind: str
    body: Mapping[str, str] = {}


class JobAttempt(msgspec.Struct, frozen=True):
    """A job handed to a worker: which attempt this is, counted from 1, and whether it is the
    last."""

    job: Job
    number: int
    last: bool


class DeadLetter(msgspec.Struct, frozen=True):
    """A job that failed for good, and why."""

    job: Job
    queue: str
    error: str
    attempts: int
    died_at: datetime | None


JobHandler = Callable[[JobAttempt], Awaitable[None]]


class JobWorker(ABC):
    """Does the jobs of one queue."""

    @abstractmethod
    async def handle(self, attempt: JobAttempt, /) -> None:
        """Do a job. An exception means: again later, or dead after the last attempt."""

    async def lost(self, _: JobAttempt, /) -> None:
        """See `WorkQueue.consume`. Most workers do nothing about such a job."""
        return


class WorkQueue(Protocol):
    """A durable queue: at least once, retried with backoff, dead-lettered after the last
    attempt."""

    name: str

    async def publish(self, jobs: Sequence[Job]) -> None:
        """Returns when the jobs are safe."""
        ...

    async def consume(
        self, handler: JobHandler, *, concurrency: int = 4, lost: JobHandler | None = None
    ) -> None:
        """Hand jobs to the handler until cancelled. An exception means: again later, or dead after
        the last attempt.

        `lost` is told of a job whose worker was lost in the last attempt; whatever it does, the job
        is dead then.
        """
        ...

    async def depth(self) -> int:
        """Jobs that wait or are being worked on."""
        ...

    async def dead(self) -> int:
        """How many dead letters there are."""
        ...

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]: ...

    async def redrive(self, job_id: UUID) -> bool:
        """Put a dead job back to work with fresh attempts. False when there is none of that id."""
        ...
