"""Whether any game has changed between two positions of the log: if not, what was made of all games
is still right."""

MAX_SCANNED_POSITIONS = 1000
"""Events that are looked through for a change of a game; after more, one is taken for granted."""

ANY_CHANGE = """EXISTS (
    SELECT FROM log.events
    WHERE position > %(after)s AND position <= %(upto)s AND name LIKE 'game.%%'
)"""
"""SQL: whether one changed after a position, up to another one, at most MAX_SCANNED_POSITIONS
later."""
