"""What a comparison tells, as JSON."""

from collections.abc import Sequence

import msgspec

from runtime.what_if.ledger import LedgerChange
from runtime.what_if.notices import NoticeChange


def report_of(head: int, change: LedgerChange, told: Sequence[NoticeChange]) -> dict[str, object]:
    """The result of deciding again what the log has up to a position."""
    return {
        "position": head,
        "postings_decided_again": change.decided,
        "postings_that_differ": change.changed,
        "ledger": [
            {**msgspec.structs.asdict(each), "difference_cents": each.difference_cents}
            for each in change.differences
        ],
        "low_stock_notices": told,
    }
