"""Load real games and purchases from CSV files, through the same commands as the API.

Every row has a command id of its own, derived from what it says, so a load that was killed may be
run again: what is in the log already is recognised and counted, never doubled. Broken rows are
reported with their line numbers; the rest is loaded. See docs/loading.md for the columns and for
the price of games that have none.
"""

from runtime.load.games import load_games
from runtime.load.purchases import Stalled, load_purchases
from runtime.load.rows import BrokenRow, LoadReport, Progress, Unreadable

__all__ = [
    "BrokenRow",
    "LoadReport",
    "Progress",
    "Stalled",
    "Unreadable",
    "load_games",
    "load_purchases",
]
