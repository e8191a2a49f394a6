"""How the outcomes of appends are named in metrics."""

from collections.abc import Mapping

from eventstore.log import (
    AlreadyDone,
    ClocksDiffer,
    LogUnavailable,
    PredecessorFailed,
    VersionConflict,
)

_OUTCOMES: Mapping[type[Exception], str] = {
    PredecessorFailed: "predecessor_failed",
    VersionConflict: "conflict",
    AlreadyDone: "already_done",
    ClocksDiffer: "clocks_differ",
    LogUnavailable: "unavailable",
}
"""The special ones come before the general."""


def outcome_of(error: Exception) -> str:
    """The outcome of an append that failed so."""
    return next((name for kind, name in _OUTCOMES.items() if isinstance(error, kind)), "failed")
