"""Work queues: jobs, their attempts, and dead letters."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

import msgspec


class Job(msgspec.Struct, frozen=True):
    """A piece of work. A queue may drop a second job with the same id; handlers must be idempotent
    all the same."""

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


class JobState(msgspec.Struct, frozen=True):
    """A job in a queue: it is `waiting` until `due_at`, `held` by a worker, or `dead`. `attempts`
    have begun, of `max_attempts`; `error` is that of the last one that failed."""

    job: Job
    queue: str
    state: Literal["waiting", "held", "dead"]
    attempts: int
    max_attempts: int
    due_at: datetime | None
    error: str


class JobsFound(msgspec.Struct, frozen=True):
    """Jobs of a queue that are about something. `unseen` is how many further ones wait, or are in
    progress, which a broker does not show: they may be about it, too."""

    jobs: Sequence[JobState]
    unseen: int = 0


JobHandler = Callable[[JobAttempt], Awaitable[None]]


class JobWorker(ABC):
    """Does the jobs of one queue."""

    @abstractmethod
    async def handle(self, attempt: JobAttempt, /) -> None:
        """Do a job. After an exception it is retried, and dead after the last attempt."""

    async def lost(self, _: JobAttempt, /) -> None:
        """Called for a job whose last attempt lost its worker: see `WorkQueue.consume`. Does
        nothing unless overridden."""
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
        """Hand jobs to the handler until cancelled. After an exception a job is retried, and dead
        after the last attempt.

        `lost` is called for a job whose last attempt lost its worker; the job is dead afterwards in
        any case.
        """
        ...

    async def depth(self) -> int:
        """The number of jobs that wait or are in progress."""
        ...

    async def oldest_seconds(self) -> float:
        """For how many seconds, at least, a worker was free to take the job that waits for longest;
        0 when none waits."""
        ...

    async def dead(self) -> int:
        """The number of dead letters."""
        ...

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]: ...

    async def about(self, ids: Collection[UUID]) -> JobsFound:
        """The jobs with one of these ids, their own or one in their body."""
        ...

    async def delete_dead(self, before: datetime) -> int:
        """Delete dead letters that died before this time, perhaps not all at once. Returns their
        number."""
        ...

    async def redrive(self, job_id: UUID) -> bool:
        """Put a dead job back into the queue with fresh attempts. False when there is none with
        this id."""
        ...

    async def redrive_all(self, job_ids: Collection[UUID]) -> Collection[UUID]:
        """As `redrive`, for many jobs at the cost of one look at a broker's. Returns the ids of
        those that there were."""
        ...

    async def discard(self, job_ids: Collection[UUID]) -> Collection[UUID]:
        """Delete dead letters with these ids. Returns the ids of those that there were."""
        ...
