"""Dead letters: jobs that exhausted their attempts."""

from dataclasses import replace
from datetime import datetime

import msgspec

from web.console.entering import console_router
from web.console.selecting import Selectable, add_pages

router = console_router()


class Queue(msgspec.Struct, frozen=True):
    name: str
    depth: int
    dead: int


ENVELOPE = frozenset({"causation_id", "correlation_id", "traceparent"})
"""What a job's body has for its tracing, beside what the job is about."""


class Letter(msgspec.Struct, frozen=True):
    """A job that exhausted its attempts."""

    id: str
    queue: str
    kind: str
    body: dict[str, str]
    error: str
    attempts: int
    died_at: datetime | None
    undone: str

    @property
    def subject(self) -> dict[str, str]:
        """What the job is about."""
        return {name: text for name, text in self.body.items() if name not in ENVELOPE}

    @property
    def envelope(self) -> dict[str, str]:
        """Its id, and what traces it."""
        return {"id": self.id, **{name: self.body[name] for name in self.body if name in ENVELOPE}}


class Letters(msgspec.Struct, frozen=True):
    """What a filter shows. `before` is handed back as it is."""

    count: int
    more: bool
    before: str
    queues: list[Queue]
    items: list[Letter]


REDRIVE = Selectable(
    path="/console/dead-letters",
    template="console/dead_letters.html",
    listed="/api/v1/ops/dead-letters/selection",
    acted="/api/v1/ops/dead-letters/redrive",
    selection=Letters,
    fields=("queue", "kind", "error", "id"),
    one="dead letter",
    many="dead letters",
    act="redriven",
    label="Redrive",
    done="redriven",
    effect="Each goes back into its queue with fresh attempts. This is safe: what was settled"
    " meanwhile is recognised.",
)

DISCARD = replace(
    REDRIVE,
    acted="/api/v1/ops/dead-letters/discard",
    act="discarded",
    label="Discard",
    done="discarded",
    effect="Nobody does these jobs any more, and this cannot be undone. The log keeps what each was"
    " about, with your reason.",
    at="discard",
    tells_undone=True,
)

add_pages(router, REDRIVE, or_else=DISCARD)
