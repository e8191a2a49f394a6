"""Load real games and purchases from CSV files, through the same commands as the API.

The command id of every row is derived from its content. A load that was killed can be repeated:
rows that are already in the log are recognised and counted, never loaded twice. Broken rows are
reported with their line numbers, and the others are loaded. docs/loading.md describes the columns,
and the price of games that have none.
"""

from runtime.load.games import load_games
from runtime.load.purchases import Stalled, load_purchases
from runtime.load.rows import BrokenRow, LoadReport, Progress, UnreadableFile

__all__ = [
    "BrokenRow",
    "LoadReport",
    "Progress",
    "Stalled",
    "UnreadableFile",
    "load_games",
    "load_purchases",
]
