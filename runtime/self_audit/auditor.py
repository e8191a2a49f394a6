"""Looks at all invariants: at samples that move on through the log, or at everything."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import msgspec
import psycopg

from eventstore.codec import Codec
from kit.clock import Clock
from projections.engine.advancing import Registered
from runtime.self_audit.chained import ChainContinues
from runtime.self_audit.holds import HoldsHaveHolders
from runtime.self_audit.invariant import WINDOW, Invariant, Looked, Suspect
from runtime.self_audit.moment import Followed, Moment, NotReady, Part, Range, moment_of
from runtime.self_audit.posted import PaymentsArePosted
from runtime.self_audit.replayed import RowsAreReplays
from runtime.self_audit.rows import (
    CAPTURE,
    GRANT,
    LEDGER_TRANSACTION,
    OVERDUE,
    OWNED,
    RECEIPT,
    SIGNED,
    STOCK,
    TRIAL_BALANCE,
    WALLET,
)

logger = logging.getLogger(__name__)

ROLLED = 2_000
"""Positions of the old log that a sample looks at, besides what has just settled."""

MAX_VIOLATIONS = 100
"""The most violations of an invariant that one look reports; those left are seen by a later one."""

MAX_RECHECKED = 500
"""The most open findings that a sample looks at again, the oldest first."""

SETTLE_SECONDS = 0.2
"""How often `whole` looks whether what it suspects has settled."""

PATIENCE_SECONDS = 60.0
"""How long it waits for that."""

_OPEN = f"""
SELECT finding_id, invariant, subject FROM @findings WHERE status = 'OPEN'
ORDER BY created_position LIMIT {MAX_RECHECKED}
"""

Progress = Callable[[str, int, int], None]
"""Called with an invariant's name, how much of it is done, and how much there is to do."""


class Outcome(msgspec.Struct, frozen=True):
    """What a look at one invariant found. `checked` counts subjects; `gone` are open findings that
    no longer hold; `unsettled` counts suspects that could not be judged yet; `failure` tells why it
    could not be looked at."""

    invariant: str
    meaning: str
    checked: int = 0
    violations: Sequence[Suspect] = ()
    gone: Sequence[UUID] = ()
    unsettled: int = 0
    seconds: float = 0.0
    failure: str = ""


class Report(msgspec.Struct, frozen=True):
    """A look at all invariants, at log position `head`, over the positions of `ranges`. What
    follows from events up to `settled` had followed. `known` are the findings that were open."""

    head: int
    settled: int
    ranges: Sequence[Range]
    outcomes: Sequence[Outcome]
    known: Mapping[tuple[str, str], UUID] = {}


class Auditor:
    """Looks over one connection, which it has for itself (autocommit)."""

    def __init__(
        self,
        conn: psycopg.Connection,
        codec: Codec,
        models: Sequence[Registered],
        clock: Clock,
        grace: timedelta,
        followed: Followed | None = None,
        since: datetime | None = None,
    ) -> None:
        """`followed` remembers earlier moments. `since` is when the worker began, whose samples
        these are: what came due while none ran is late only once it has had the grace for it."""
        self._conn = conn
        self._codec = codec
        self._models = models
        self._clock = clock
        self._grace = grace
        self._since = since
        self._followed = followed or Followed()
        self._failed: set[str] = set()
        self.invariants: Sequence[Invariant] = (
            LEDGER_TRANSACTION,
            TRIAL_BALANCE,
            WALLET,
            STOCK,
            HoldsHaveHolders(),
            CAPTURE,
            PaymentsArePosted(),
            GRANT,
            OWNED,
            RECEIPT,
            RowsAreReplays(models, conn),
            ChainContinues(),
            SIGNED,
            OVERDUE,
        )
        self.rolled = 0
        """The old log was looked at up to this position, from there on next."""
        self.settled = 0
        """What settled up to this position was looked at."""

    @contextmanager
    def moment(self) -> Iterator[Moment]:
        """The database as it is now."""
        now = self._clock.now()
        with moment_of(
            self._conn,
            self._codec,
            self._models,
            self._followed,
            now,
            self._grace,
            self._since,
        ) as moment:
            yield moment

    def _timed(
        self,
        invariant: Invariant,
        context: AbstractContextManager[object],
        look: Callable[[], Outcome],
    ) -> Outcome:
        """The outcome of a look with its time. One that fails does not stop the others, and is
        logged once. Raises psycopg.OperationalError."""
        began = time.monotonic()
        try:
            with context:
                outcome = look()
        except NotReady as error:
            outcome = Outcome(invariant.name, invariant.meaning, failure=str(error))
        except psycopg.OperationalError:
            raise
        except Exception as error:  # whatever a broken row or event does to it
            if invariant.name not in self._failed:
                logger.exception("the invariant %s could not be looked at", invariant.name)
            self._failed.add(invariant.name)
            outcome = Outcome(invariant.name, invariant.meaning, failure=repr(error))
        else:
            self._failed.discard(invariant.name)
        return msgspec.structs.replace(outcome, seconds=time.monotonic() - began)

    # -- samples -----------------------------------------------------------------------------------

    def sample(self) -> Report:
        """Look at what has settled since the last time, at the next part of the old log, and at
        open findings. Raises psycopg.OperationalError."""
        with self.moment() as moment:
            ranges = self._next_ranges(moment)
            part = moment.part(*ranges)
            known = _open_findings(moment)
            outcomes = []
            for invariant in self.invariants:
                mine = {
                    subject: id for (name, subject), id in known.items() if name == invariant.name
                }
                look = partial(_sampled, moment, invariant, part, mine)
                outcomes.append(self._timed(invariant, moment.conn.transaction(), look))
            return Report(moment.head, moment.settled, ranges, outcomes, known)

    def _next_ranges(self, moment: Moment) -> list[Range]:
        if self.rolled >= moment.head:
            self.rolled = 0
        if self.settled > moment.head:
            self.settled = 0  # the log went back
        rolled = (self.rolled, min(self.rolled + ROLLED, moment.head))
        settled = (self.settled, min(self.settled + WINDOW, moment.settled))
        self.rolled = rolled[1]
        self.settled = max(settled)
        return [(after, upto) for after, upto in (settled, rolled) if after < upto]

    # -- everything --------------------------------------------------------------------------------

    def whole(self, progress: Progress, only: Sequence[str] = ()) -> Report:
        """Look at everything, or at everything of some invariants. Waits, for a while, until what
        it suspects has settled. Raises psycopg.OperationalError."""
        with self.moment() as moment:
            head, known = moment.head, _open_findings(moment)
        outcomes = []
        for invariant in self.invariants:
            if only and invariant.name not in only:
                continue
            look = partial(self._whole_of, invariant, known, progress)
            outcomes.append(self._timed(invariant, nullcontext(), look))
        with self.moment() as moment:
            return Report(head, moment.settled, [(0, head)], outcomes, known)

    def _whole_of(
        self, invariant: Invariant, known: Mapping[tuple[str, str], UUID], progress: Progress
    ) -> Outcome:
        looked = invariant.whole(
            self.moment, lambda done, all_: progress(invariant.name, done, all_)
        )
        violations = {each.subject: each for each in looked.suspects if not each.streams}
        pending = {each.subject: each for each in looked.suspects if each.streams}
        patient_until = time.monotonic() + PATIENCE_SECONDS
        while pending and time.monotonic() < patient_until:
            with self.moment() as moment:
                again = invariant.again(moment, list(pending))
                for subject, before in list(pending.items()):
                    suspect = again.get(subject, before)  # only `whole` can judge some
                    if suspect is None:
                        del pending[subject]
                    elif moment.is_settled(suspect.streams):
                        violations[subject] = suspect
                        del pending[subject]
            if pending:
                time.sleep(SETTLE_SECONDS)
        still = violations.keys() | pending.keys()
        gone = [
            finding_id
            for (name, subject), finding_id in known.items()
            if name == invariant.name and looked.names_all and subject not in still
        ]
        return _outcome(invariant, looked, list(violations.values()), gone, len(pending))


def _sampled(
    moment: Moment, invariant: Invariant, part: Part, known: Mapping[str, UUID]
) -> Outcome:
    looked = invariant.sample(moment, part)
    settled = [each for each in looked.suspects if moment.is_settled(each.streams)]
    again = invariant.again(moment, list(known)) if known else {}
    gone = [known[subject] for subject, suspect in again.items() if suspect is None]
    return _outcome(invariant, looked, settled, gone, len(looked.suspects) - len(settled))


def _outcome(
    invariant: Invariant,
    looked: Looked,
    violations: Sequence[Suspect],
    gone: Sequence[UUID],
    unsettled: int,
) -> Outcome:
    return Outcome(
        invariant.name,
        invariant.meaning,
        looked.checked,
        violations[:MAX_VIOLATIONS],
        gone,
        unsettled,
    )


def _open_findings(moment: Moment) -> dict[tuple[str, str], UUID]:
    """The open findings, by invariant and subject; none while their read model cannot be read."""
    try:
        rows = moment.rows(_OPEN)
    except NotReady:
        return {}
    return {(row["invariant"], row["subject"]): row["finding_id"] for row in rows}
