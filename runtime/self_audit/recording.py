"""Records what an audit found: a finding opens and is resolved by an event, with a line in the log
of the process; the last look at each invariant is a row of consumers.self_audit."""

import logging

from psycopg_pool import AsyncConnectionPool

from commands.findings import FindingCommands
from runtime.self_audit.auditor import Outcome, Report

logger = logging.getLogger(__name__)

_NOTE = """
INSERT INTO consumers.self_audit AS s (invariant, scope, meaning, looked_at, seconds, head, after,
    upto, settled, checked, violations, unsettled, failure)
VALUES (%s, %s, %s, clock_timestamp(), %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (invariant, scope) DO UPDATE SET
    meaning = excluded.meaning, looked_at = excluded.looked_at, seconds = excluded.seconds,
    head = excluded.head, after = excluded.after, upto = excluded.upto,
    settled = excluded.settled, checked = excluded.checked, violations = excluded.violations,
    unsettled = excluded.unsettled, failure = excluded.failure
"""

_FORGET = "DELETE FROM consumers.self_audit WHERE scope = %s AND invariant <> ALL (%s)"


async def record(
    pool: AsyncConnectionPool,
    findings: FindingCommands,
    report: Report,
    scope: str,
    *,
    complete: bool = True,
) -> None:
    """Record a report of a scope; with `complete`, invariants that it does not have are forgotten.
    Raises as an append."""
    for outcome in report.outcomes:
        await _record_findings(findings, report, outcome)
    first = min((after for after, _ in report.ranges), default=report.head)
    last = max((upto for _, upto in report.ranges), default=report.head)
    async with pool.connection() as conn, conn.transaction():
        if complete:
            await conn.execute(_FORGET, (scope, [each.invariant for each in report.outcomes]))
        for each in report.outcomes:
            at = (report.head, first, last, report.settled)
            found = (each.checked, len(each.violations), each.unsettled, each.failure)
            values = (each.invariant, scope, each.meaning, each.seconds, *at, *found)
            await conn.execute(_NOTE, values)


async def _record_findings(findings: FindingCommands, report: Report, outcome: Outcome) -> None:
    for each in outcome.violations:
        if (outcome.invariant, each.subject) in report.known:
            continue  # it is open
        if await findings.open(outcome.invariant, each.subject, each.detail, report.head):
            logger.error(
                "the invariant %s does not hold for %s: %s",
                outcome.invariant,
                each.subject,
                each.detail,
            )
    for finding_id in outcome.gone:
        if await findings.resolve(finding_id, report.head):
            logger.info("the invariant %s holds again: %s", outcome.invariant, finding_id)
