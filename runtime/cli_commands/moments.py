"""Past moments as people type them: a position of the log, or a time."""

from datetime import datetime
from typing import TYPE_CHECKING

from runtime.cli_commands.failures import Failure
from runtime.output.console import Code

if TYPE_CHECKING:
    from eventstore.postgres_log import PostgresLog


async def position_at(log: "PostgresLog", moment: str) -> int:
    """The position of a moment: that of the last event that had occurred by then. Raises Failure
    for one that is neither a position nor a time, and for a position beyond the log's end."""
    from domain.times import EARLIEST, LATEST

    if moment.isdecimal():
        position, head = int(moment), await log.head()
        if position > head:
            raise Failure(f"the log ends at position {head}, before {position}")
        return position
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise Failure(
            f"{moment} is neither a position of the log nor a time with its zone, such as"
            " 2026-01-31T12:00:00Z",
            Code.USAGE,
        )
    return await log.position_at(min(max(at, EARLIEST), LATEST))
