"""Tells whether any game has changed between two positions of the log. If not, results cached from
all games still hold."""

MAX_SCANNED_POSITIONS = 1000
"""How many positions are searched for a change of a game; beyond that, one is assumed."""

ANY_CHANGE = """EXISTS (
    SELECT FROM log.events
    WHERE position > %(after)s AND position <= %(upto)s AND name LIKE 'game.%%'
)"""
"""SQL: whether a game changed after one position and up to another, at most MAX_SCANNED_POSITIONS
later."""
