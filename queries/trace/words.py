"""What a flow waits for, in plain words."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from commands.ports.queue import JobState
from queries.trace.model import Consumer, Trace

STILL = timedelta(seconds=10)
"""A consumer that has not moved for so long is probably not running."""

PATIENCE = timedelta(seconds=5)
"""What is overdue for so long is probably not worked on."""

_OPEN = {
    ("order", "PENDING_PAYMENT"): "its payment",
    ("order", "CONFIRMED"): "its library entry, or its shipments",
    ("order", "PROCESSING"): "its sellers to send it",
    ("order", "SHIPPED"): "its delivery to be reported",
    ("payment", "REQUESTED"): "a method of payment, or for a worker to tell the provider",
    ("payment", "PROCESSING"): "the provider's answer",
    ("payment", "REQUIRES_ACTION"): "the payer to confirm it at the provider",
    ("shipment", "PROVISIONAL"): "the order's payment",
    ("shipment", "PENDING"): "its seller to process it",
    ("shipment", "PROCESSING"): "its seller to send it",
    ("shipment", "SHIPPED"): "its delivery to be reported",
    ("transaction", "PENDING"): "its money",
    ("transaction", "PROCESSING"): "its money",
    ("notification", "REQUESTED"): "a worker to send it",
    ("receipt", "REQUESTED"): "the fiscal operator",
    ("webhook", "PENDING"): "the merchant's endpoint to take it",
}
"""By kind and status of a stream: what it waits for. In other statuses it waits for nothing."""


def waits_for(trace: Trace, now: datetime) -> Iterator[str]:
    """A sentence for each thing that the flow waits for; none when it is done."""
    for held in trace.quarantine:
        asked = ", which was asked for" if held.retry else ""
        yield (
            f"{held.feed} could not apply {held.name} at position {held.position} ({held.error}),"
            f" and leaves out the rest of {held.stream_id} until `ludoteca quarantine retry"
            f" {held.id}`{asked}, or `skip` or `amend` if the event itself is at fault"
        )
    for job in trace.jobs:
        yield _job(job, now)
    for queue, count in trace.unseen_jobs.items():
        yield (
            f"{count} jobs of {queue} wait or are in progress: RabbitMQ does not show which; one of"
            " this flow may be among them"
        )
    for queue, error in trace.unanswered.items():
        yield f"{queue} does not answer, so its jobs are not known: {error}"
    last = trace.events[-1].position
    for consumer in trace.consumers:
        if not consumer.passed:
            yield _consumer(consumer, last, now)
    for deadline in trace.deadlines:
        yield _deadline(deadline.kind, deadline.due_at, now)
    for stream in trace.streams:
        if (what := _OPEN.get((stream.kind, stream.status or ""))) is not None:
            yield f"{stream.kind} {stream.stream_id} is {stream.status}: it waits for {what}"


def _job(job: JobState, now: datetime) -> str:
    what = f"the job {job.job.kind} of {job.queue} ({job.job.id})"
    error = f"; last error: {job.error}" if job.error else ""
    if job.state == "dead":
        return (
            f"{what} failed {job.attempts} times and is a dead letter, until `ludoteca dlq redrive"
            f" {job.job.id}`{error}"
        )
    if job.state == "held":
        if job.due_at is not None and job.due_at < now:
            return f"{what} has lost its worker, and begins again as soon as there is one{error}"
        return f"{what} is in progress, attempt {job.attempts} of {job.max_attempts}{error}"
    number = f"attempt {job.attempts + 1} of {job.max_attempts}"
    if job.due_at is not None and job.due_at > now:
        return f"{what} is tried again at {_time(job.due_at)}, {number}{error}"
    if job.due_at is not None and job.due_at < now - PATIENCE:
        return f"{what} has waited for a worker since {_time(job.due_at)}, {number}: does one run?"
    return f"{what} is due, {number}{error}"


def _consumer(consumer: Consumer, last: int, now: datetime) -> str:
    where = f"{consumer.feed} is at position {consumer.position}, and has to read up to {last}"
    if consumer.paused:
        return f"{where}: it is paused, until `ludoteca projections resume`"
    if consumer.updated_at < now - STILL:
        since = _time(consumer.updated_at)
        return f"{where}: it has not moved since {since}; does its process run?"
    return where


def _deadline(kind: str, due_at: datetime, now: datetime) -> str:
    if due_at < now - PATIENCE:
        return (
            f"the deadline {kind} is overdue since {_time(due_at)}: a worker has to carry it out;"
            " does one run?"
        )
    return f"the deadline {kind} is at {_time(due_at)}: what has not happened by then ends"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"
