"""A log that counts the events read from it."""

from uuid import UUID

from eventstore.log import Recorded
from eventstore.postgres_log import PostgresLog


class CountedReads:
    """Wraps a log and counts in `events` how many events of streams were read."""

    def __init__(self, log: PostgresLog) -> None:
        self._log = log
        self.events = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    async def read_stream(
        self, stream_id: UUID, after_version: int = 0, **said: object
    ) -> list[Recorded]:
        found = await self._log.read_stream(stream_id, after_version, **said)  # type: ignore[arg-type]
        self.events += len(found)
        return found

    async def read_stream_page(
        self, stream_id: UUID, after_version: int = 0, **said: object
    ) -> tuple[list[Recorded], bool]:
        found, more = await self._log.read_stream_page(stream_id, after_version, **said)  # type: ignore[arg-type]
        self.events += len(found)
        return found, more

    async def read_first_events(
        self, stream_id: UUID, after_version: int = 0, **said: object
    ) -> tuple[list[Recorded], bool]:
        found, more = await self._log.read_first_events(stream_id, after_version, **said)  # type: ignore[arg-type]
        self.events += len(found)
        return found, more
