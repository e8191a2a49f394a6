"""What leads to the pages of the console."""

from collections.abc import Sequence
from typing import NamedTuple


class Entry(NamedTuple):
    """A line of a navigation."""

    path: str
    label: str


CONSOLE: Sequence[tuple[str, Sequence[Entry]]] = (
    ("Now", (Entry("/console", "Overview"), Entry("/console/alerts", "Alerts"))),
    (
        "The log",
        (
            Entry("/console/log", "Events"),
            Entry("/console/streams", "Streams"),
            Entry("/console/rows", "Rows, step by step"),
            Entry("/console/why", "Why"),
            Entry("/console/orders", "Orders"),
            Entry("/console/catalog", "Catalog"),
        ),
    ),
    (
        "Engine",
        (
            Entry("/console/projections", "Projections"),
            Entry("/console/quarantine", "Quarantine"),
            Entry("/console/amendments", "Amendments"),
            Entry("/console/dead-letters", "Dead letters"),
            Entry("/console/tasks", "Tasks"),
        ),
    ),
    (
        "Business",
        (
            Entry("/console/ledger", "Ledger"),
            Entry("/console/people", "People"),
        ),
    ),
    (
        "Proof",
        (
            Entry("/console/proofs", "Verify, checkpoints"),
            Entry("/console/bundles", "Evidence bundles"),
            Entry("/console/differences", "Differences"),
            Entry("/console/self-audit", "Self-audit"),
        ),
    ),
    (
        "The shop itself",
        (
            Entry("/console/acts", "Operators' acts"),
            Entry("/console/settings", "Settings"),
        ),
    ),
)
"""The console's pages by group. Pages of one thing, such as an event, have no entry: others lead to
them."""
