"""What an invariant is: its name, what it says, and how it is looked at."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol
from uuid import UUID

import msgspec

from runtime.self_audit.moment import Moment, Part

Moments = Callable[[], AbstractContextManager[Moment]]
"""Opens the database as it is now."""

Progress = Callable[[int, int], None]
"""Called with how much is done, and how much there is to do."""

WINDOW = 5_000
"""Positions that are looked at in one snapshot."""


class Suspect(msgspec.Struct, frozen=True):
    """A subject for which the invariant does not hold at a moment. It is a violation once nothing
    happened to the `streams` since all has followed; without streams, it is one at any moment."""

    subject: str
    detail: str
    streams: Sequence[UUID] = ()


Judged = Mapping[str, Suspect | None]
"""By subject, how the invariant does not hold, or None where it does."""


class Looked(msgspec.Struct, frozen=True):
    """How many subjects were looked at, and those for which the invariant does not hold: some of
    them, unless `names_all`."""

    checked: int
    suspects: Sequence[Suspect] = ()
    names_all: bool = True


class Invariant(Protocol):
    """Something that always holds. Its methods raise NotReady while a read model that they need
    cannot be read."""

    @property
    def name(self) -> str: ...
    @property
    def meaning(self) -> str: ...

    def sample(self, moment: Moment, part: Part) -> Looked:
        """Look at what a part of the log touches."""
        ...

    def whole(self, moments: Moments, progress: Progress) -> Looked:
        """Look at everything."""
        ...

    def again(self, moment: Moment, subjects: Sequence[str]) -> Judged:
        """Look at these subjects again. Those that only `whole` can judge are left out."""
        ...


def judged(subjects: Sequence[str], suspects: Iterable[Suspect]) -> Judged:
    """What all these subjects are, where only the suspects among them violate the invariant."""
    found = {each.subject: each for each in suspects}
    return {subject: found.get(subject) for subject in subjects}


def windows(moments: Moments, progress: Progress) -> Iterator[tuple[Moment, Part]]:
    """The whole log in parts, each with a moment of its own: a long snapshot would keep dead rows
    from being removed."""
    after, upto = 0, 1
    while after < upto:
        with moments() as moment:
            upto = moment.head
            end = min(after + WINDOW, upto)
            yield moment, moment.part((after, end))
            after = end
        progress(after, upto)
