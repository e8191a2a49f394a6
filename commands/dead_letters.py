"""Discarding dead letters: jobs that failed for good, and that nobody shall do any more."""

import re
from collections.abc import Collection, Sequence
from uuid import UUID

from commands.acts import ActCommands, Asked
from commands.caller import Caller
from commands.ports.queue import DeadLetter, WorkQueue

AT_ONCE = 100
"""How many are recorded and discarded together."""

_OF_FLOW = frozenset({"correlation_id", "traceparent"})
_MASKED = re.compile(r"\S+@\S+|\d{9,}")
"""What may belong to a person: an address, the number of a card or a telephone. Jobs have ids, and
errors no addresses, but a message in a broker may be anybody's."""


async def discard(
    acts: ActCommands,
    caller: Caller,
    reason: str,
    queues: Collection[WorkQueue],
    letters: Sequence[DeadLetter],
) -> list[UUID]:
    """Discard these dead letters, each recorded as an act of its own with what is left of it: its
    job's id, its name and what it was about. Returns the ids of those that were still there. Raises
    Invalid, and whatever the queue and an append raise."""
    gone: list[UUID] = []
    for queue in queues:
        of_queue = [each for each in letters if each.queue == queue.name]
        for start in range(0, len(of_queue), AT_ONCE):
            chunk = of_queue[start : start + AT_ONCE]
            asked = [Asked(str(each.job.id), _summary(each)) for each in chunk]
            async with acts.all_recorded(caller, "dead_letter.discard", reason, *asked) as begun:
                done = await queue.discard([each.job.id for each in chunk])
                for act, letter in zip(begun, chunk, strict=True):
                    if letter.job.id in done:
                        act.affected = 1
                    else:
                        act.error = "dead_letter_not_found"
            gone += done
    return gone


def _summary(letter: DeadLetter) -> dict[str, str]:
    """What is kept of a dead letter."""
    about = {
        name: text if _is_id(text) else _MASKED.sub("…", text)
        for name, text in letter.job.body.items()
        if name not in _OF_FLOW
    }
    return {
        **about,
        "queue": letter.queue,
        "kind": letter.job.kind,
        "attempts": str(letter.attempts),
        "error": _MASKED.sub("…", letter.error),
        **({} if letter.died_at is None else {"died_at": f"{letter.died_at:%Y-%m-%dT%H:%M:%SZ}"}),
    }


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
