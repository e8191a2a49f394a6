"""Positions without a gap, and a hash chain that continues."""

from collections.abc import Sequence

from eventstore.chain import GENESIS, ChainVerifier, Fault
from eventstore.proofs.walking import Walk
from runtime.self_audit.invariant import (
    WINDOW,
    Judged,
    Looked,
    Moments,
    Progress,
    Suspect,
    judged,
)
from runtime.self_audit.moment import Moment, Part

_HASH = "SELECT hash FROM log.events WHERE position = %s"


class ChainContinues:
    """A sample takes the hash before its part on trust, so it finds what was changed alone; `whole`
    begins at the first event. What a chain cannot show, `audit verify` tells."""

    name = "log_is_chained"
    meaning = "Positions have no gap, and each event's hash follows from the one before it."

    def sample(self, moment: Moment, part: Part) -> Looked:
        faults = [_fault(moment, *between) for between in part.ranges]
        return Looked(
            sum(upto - after for after, upto in part.ranges),
            [_suspect(fault) for fault in faults if fault is not None],
        )

    def whole(self, moments: Moments, progress: Progress) -> Looked:
        verifier, upto = ChainVerifier(), 1
        while verifier.position < upto:
            with moments() as moment:
                upto = moment.head
                page_end = min(verifier.position + WINDOW, upto)
                if fault := _walk(moment, verifier, page_end):
                    return Looked(verifier.position, [_suspect(fault)])
            progress(verifier.position, upto)
        return Looked(verifier.position)

    def again(self, moment: Moment, subjects: Sequence[str]) -> Judged:
        positions = [int(subject.split(" ")[1]) for subject in subjects]
        faults = [_fault(moment, max(0, position - 2), position + 1) for position in positions]
        return judged(subjects, [_suspect(fault) for fault in faults if fault is not None])


def _suspect(fault: Fault) -> Suspect:
    return Suspect(f"position {fault.position}", fault.reason)


def _fault(moment: Moment, after: int, upto: int) -> Fault | None:
    """The first fault after a position whose own row, if it is there, is taken on trust."""
    row = moment.conn.execute(_HASH, (after,)).fetchone()
    if after and row is None:
        return Fault(after, "removed: there is no event at this position")
    verifier = ChainVerifier(after, row[0] if row else GENESIS)
    return _walk(moment, verifier, min(upto, moment.head))


def _walk(moment: Moment, verifier: ChainVerifier, upto: int) -> Fault | None:
    """Walk up to a position. Returns the first fault."""
    walk = Walk(verifier, upto)
    while not walk.done:
        with moment.conn.cursor(binary=True) as cursor:
            rows = cursor.execute(*walk.query).fetchall()
        if fault := walk.take(rows):
            return fault
    return None
