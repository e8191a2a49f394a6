"""The past moment that a page shows, as it was typed."""

from dataclasses import dataclass
from urllib.parse import urlencode

from web.api_client import Problem
from web.visit import Visit
from web.words import sentence

_REFUSED = frozenset(
    {"invalid_as_of", "position_unknown", "as_of_being_built", "as_of_unavailable"}
)


@dataclass
class Moment:
    """A moment: `typed` as it is shown, `as_of` as the API takes it (None: now). `error` and
    `status` are those of its refusal."""

    typed: str
    as_of: str | None
    error: str = ""
    status: int = 200

    def concerns(self, problem: Problem) -> bool:
        """Whether a refusal is about the moment."""
        return problem.code in _REFUSED

    def refuse(self, problem: Problem) -> None:
        """Show the refusal beside the moment. Raises the problem if it is not about that."""
        if not self.concerns(problem):
            raise problem
        self.error, self.status = sentence(problem), problem.status

    def link(self, path: str, **query: str) -> str:
        """A page as of the same moment."""
        given = {**query, **({"as_of": self.typed} if self.typed else {})}
        return f"{path}?{urlencode(given)}" if given else path


def moment_of(visit: Visit) -> Moment:
    """The moment that the URL names by `as_of`: a position of the log, or a time, which is UTC
    unless it says otherwise."""
    typed = visit.query("as_of")
    return Moment(typed, in_utc(typed) if typed else None)


def in_utc(typed: str) -> str:
    """A position as it is; a time with its zone, UTC if none was typed."""
    if typed.isdecimal():
        return typed
    date, _, time = typed.replace(" ", "T", 1).partition("T")
    if not time:
        time = "00:00"
    has_zone = time.endswith(("Z", "z")) or "+" in time or "-" in time or " " in time
    return f"{date}T{time}" if has_zone else f"{date}T{time}Z"
