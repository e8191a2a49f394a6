"""The mirror: copies our events from KurrentDB, the log of record, into PostgreSQL's log, from
which everything else reads.

It follows `$all`, whose order is KurrentDB's, and gives each of our events the next position and
hash: these follow from the order alone. Events, idempotency keys and checkpoint are committed
together. Now and then it appends a *seal* to KurrentDB: the hash at a position. Each mirror checks
every seal that it comes by; so a mirror that is built anew is known to be as the one before.

PostgreSQL may have events beyond the checkpoint, or KurrentDB may have gone back and lack the
checkpoint. Then all events are compared from the first one on. While PostgreSQL has what KurrentDB
lacks, the mirror stands still and says why (`Halted`).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing
from time import monotonic

import msgspec
from kurrentdbclient import AsyncKurrentDBClient, NewEvent, RecordedEvent, StreamState
from kurrentdbclient.exceptions import (
    InvalidCommitPositionError,
    NotFoundError,
    StreamIsDeletedError,
    StreamTombstonedError,
)

from adapters.kurrentdb import following, wire
from adapters.kurrentdb.client import open_client
from adapters.kurrentdb.following import CALL_SECONDS, Inbox
from adapters.kurrentdb.mirror_table import Checkpoint, MirrorMoved, MirrorTable, OtherEvent
from adapters.kurrentdb.wire import Copied, CopiedOnce
from eventstore.database.postgres import AT_FAULT, AWAY, connect_async
from kit.cancellation import stop_if_cancelled

logger = logging.getLogger(__name__)

MIRROR = "mirror"
"""The name under which one of several leads."""

SEAL = "ludoteca.seal.v1"
SEAL_EVENTS, SEAL_SECONDS = 1_000, 60.0
"""A seal is due after so many events, and for the last events after so many seconds."""

SILENT_SECONDS = 3.0
"""A subscription that delivers nothing for so long is compared with KurrentDB's end, and opened
anew if it lags behind: it may end without a word when another node becomes the leader."""

RETRY_SECONDS, HALTED_SECONDS = 0.5, 3.0
"""How long it waits before it tries again: after a failure, and while it stands still."""

PAGE_BYTES = 8 << 20

FAILURES = (*following.FAILURES, MirrorMoved, *AWAY)
"""Failures after which it connects anew, and goes on from its checkpoint."""


class Halted(Exception):
    """The two logs do not agree, and an operator has to decide. The message says what to do."""


class Seal(msgspec.Struct, frozen=True):
    """The chain's hash (hex) after our event at `position`, whose place in KurrentDB was
    `commit_position`."""

    position: int
    commit_position: int
    hash: str


class Mirror:
    """One mirror. Several may run: each notices when another one has moved on, so that nothing is
    copied twice."""

    def __init__(
        self,
        kurrentdb_url: str,
        url: str,
        kinds: Mapping[str, str] | None = None,
        *,
        seal_events: int = SEAL_EVENTS,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        """`url` is PostgreSQL's; `kinds`: the kind of stream of each wire name."""
        self._kurrentdb_url = kurrentdb_url
        self._url = url
        self._kinds = kinds or {}
        self._seal_events = seal_events
        self._silent_seconds = silent_seconds
        self._said = ""

    async def run(self) -> None:
        """Copy until cancelled, whatever fails."""
        while True:
            stop_if_cancelled()
            try:
                await self._follow()
            except Halted as fault:
                self._say(logging.ERROR, f"the mirror stands still: {fault}")
                await asyncio.sleep(HALTED_SECONDS)
            except FAILURES as error:
                self._say(logging.WARNING, f"the mirror connects anew: {error!r}")
                await asyncio.sleep(RETRY_SECONDS)

    async def catch_up(self, progress: Callable[[int, int], None]) -> Checkpoint:
        """Copy or compare what KurrentDB has now. Returns where that ends. `progress` gets the
        number of bytes of KurrentDB that are done, and of all.

        Raises Halted, and one of FAILURES; called again, it goes on.
        """
        return await self._follow(progress)

    def _say(self, level: int, message: str) -> None:
        if message != self._said:
            logger.log(level, message)
        self._said = message

    async def _follow(self, progress: Callable[[int, int], None] | None = None) -> Checkpoint:
        """For ever; with `progress`, to KurrentDB's end."""
        async with (
            await connect_async(self._url, "ludoteca mirror") as conn,
            open_client(self._kurrentdb_url) as client,
        ):
            table = await MirrorTable.open(conn, self._kinds)
            copying = _Copying(client, table, self._seal_events, self._silent_seconds)
            try:
                await copying.begin()
                end = await following.end(client) if progress else 0
                async with following.following(client, copying.reached) as inbox:
                    while not (copying.caught_up and progress):
                        await copying.step(inbox)
                        if progress:
                            progress(min(copying.reached, end), end)
                        if copying.caught_up:
                            self._said = ""
                return copying.checkpoint or Checkpoint()
            except OtherEvent as error:
                fault = Halted(
                    f"PostgreSQL has another event at position {error.position} than KurrentDB:"
                    " these are two histories. Keep one: point one of them to an empty database"
                )
                await table.halt(str(fault))
                raise fault from error
            except AT_FAULT as error:
                fault = Halted(f"PostgreSQL cannot store a record of KurrentDB's: {error}")
                await table.halt(str(fault))
                raise fault from error
            except Halted as fault:
                await table.halt(str(fault))
                raise


class _Copying:
    """Copies over one pair of connections."""

    def __init__(
        self,
        client: AsyncKurrentDBClient,
        table: MirrorTable,
        seal_events: int,
        silent_seconds: float,
    ) -> None:
        self._client = client
        self._table = table
        self._seal_events = seal_events
        self._silent_seconds = silent_seconds
        self.checkpoint: Checkpoint | None = None
        """Where to go on; None: at the first event."""
        self._noted: Checkpoint | None = (
            None  # the checkpoint in PostgreSQL, unless another moves it
        )
        self.caught_up = False
        """Whether everything was seen that KurrentDB had when the subscription was opened."""
        self.reached = 0
        """The commit position of the last of our records that was seen."""
        self._searched = 0  # that of the last record of anybody's before which none of ours is left
        self._sealed = self._tried = 0  # the positions of the last seal, and of the last try
        self._tried_at = self._heard_at = monotonic()
        self._records: list[Copied | CopiedOnce] = []
        self._due = 0  # the number of the next event in its append
        self._bytes = 0

    async def begin(self) -> None:
        """Find where to go on: behind the checkpoint, or at the first event if KurrentDB does not
        have the checkpoint."""
        checkpoint, _ = await self._table.state()
        self._noted = checkpoint
        if checkpoint is not None and not await self._has(checkpoint):
            await self._table.halt("KurrentDB went back: its events are compared with PostgreSQL's")
            logger.error("KurrentDB went back: position %s is not there", checkpoint.position)
            checkpoint = None
        self.checkpoint = checkpoint
        self.reached = self._searched = checkpoint.commit_position if checkpoint else 0
        self._sealed = self._tried = await self._last_seal()

    async def step(self, inbox: Inbox) -> None:
        """Copy what has arrived, or wait for it a while; seal if it is time. Raises Halted,
        OtherEvent, and one of FAILURES."""
        try:
            page = await inbox.take(min(1.0, self._silent_seconds))
        except TimeoutError:
            if monotonic() - self._heard_at > self._silent_seconds:
                await self._must_be_at_the_end()
                if self.caught_up:
                    await self._note_the_end()
        else:
            self._heard_at = monotonic()
            for recorded in page:
                await self._receive(recorded)
            await self._copy()
        if self.caught_up:
            await self._seal_if_due()

    async def _receive(self, recorded: RecordedEvent) -> None:
        if recorded.is_caught_up:
            await self._end_reached()
            return
        if recorded.commit_position < self.reached:
            raise ConnectionError("KurrentDB went back")
        self._searched = max(self._searched, recorded.commit_position)
        if recorded.is_checkpoint:
            return
        self.reached = recorded.commit_position
        record = _read(recorded)
        if isinstance(record, Seal):
            await self._copy()
            await self._check(record)
            return
        if record is None:
            return
        if isinstance(record, Copied):
            if record.number != self._due:
                raise Halted(
                    f"the records of the append before {recorded.commit_position} of KurrentDB are"
                    " not in their order"
                )
            self._due = (record.number + 1) % record.of
        self._records.append(record)
        self._bytes += len(recorded.data)
        if self._bytes > PAGE_BYTES:
            await self._copy()

    async def _copy(self) -> None:
        """Copy the appends that have arrived whole."""
        whole = following.whole(self._records)
        if not whole:
            return
        records, self._records = self._records[:whole], self._records[whole:]
        self._bytes = 0
        self.checkpoint = self._noted = await self._table.copy(
            self.checkpoint,
            records[-1].commit_position,
            [record for record in records if isinstance(record, Copied)],
            [record for record in records if isinstance(record, CopiedOnce)],
        )

    async def _end_reached(self) -> None:
        """All of KurrentDB's events were seen: PostgreSQL must not have more."""
        await self._copy()
        there, head = await self._table.state()
        if there != self._noted:
            raise MirrorMoved
        position = self.checkpoint.position if self.checkpoint else 0
        if position < head:
            raise Halted(
                f"PostgreSQL has events {position + 1} to {head}, which KurrentDB lacks:"
                " `ludoteca log copy --from postgresql --to kurrentdb` copies them there"
            )
        await self._note_the_end()
        self.caught_up = True

    async def _note_the_end(self) -> None:
        """Note that PostgreSQL has everything, and that nothing is halted any more."""
        upto = self.checkpoint.commit_position if self.checkpoint else 0
        self.checkpoint = self._noted = await self._table.copy(self.checkpoint, upto, ())

    # -- seals -------------------------------------------------------------------------------------

    async def _check(self, seal: Seal) -> None:
        found = await self._table.hash(seal.position)
        copied = (self.checkpoint or Checkpoint()).position
        if seal.position > copied or found is None or found.hex() != seal.hash:
            raise Halted(
                f"the seal of position {seal.position} is broken: what KurrentDB has up to there is"
                " not what was sealed. Restore KurrentDB from a backup, or copy a good log into an"
                " empty one"
            )
        self._sealed = max(self._sealed, seal.position)
        self._tried, self._tried_at = max(self._tried, self._sealed), monotonic()

    async def _seal_if_due(self) -> None:
        checkpoint = self.checkpoint
        assert checkpoint is not None
        if checkpoint.position - self._tried >= self._seal_events or (
            checkpoint.position > self._sealed and monotonic() - self._tried_at > SEAL_SECONDS
        ):
            await self._seal(checkpoint)

    async def _seal(self, checkpoint: Checkpoint) -> None:
        """Append a seal. Without it the mirror goes on, and tries again when the next one is due,
        which covers as much."""
        digest = await self._table.hash(checkpoint.position)
        assert digest is not None
        seal = Seal(checkpoint.position, checkpoint.commit_position, digest.hex())
        event = NewEvent(type=SEAL, data=msgspec.json.encode(seal))
        append = self._client.append_to_stream(
            wire.SEALS, current_version=StreamState.ANY, events=[event], timeout=CALL_SECONDS
        )
        try:
            await following.answer(append)
            self._sealed = checkpoint.position
        except following.FAILURES as error:
            logger.warning("KurrentDB does not take the seal of %s: %r", checkpoint.position, error)
        self._tried, self._tried_at = checkpoint.position, monotonic()

    async def _last_seal(self) -> int:
        """The position of the last seal; 0 when there is none."""
        try:
            found = await self._client.get_stream(
                wire.SEALS, backwards=True, limit=1, timeout=CALL_SECONDS
            )
        except (NotFoundError, StreamIsDeletedError, StreamTombstonedError):
            return 0
        seal = _read(found[0]) if found else None
        return seal.position if isinstance(seal, Seal) else 0

    # -- KurrentDB's history -----------------------------------------------------------------------

    async def _has(self, checkpoint: Checkpoint) -> bool:
        """Whether the checkpoint's event is still where it was."""
        if not checkpoint.position:
            return True
        try:
            records = following.records(self._client, commit_position=checkpoint.commit_position)
            async with aclosing(records):
                async for recorded in records:
                    if recorded.commit_position > checkpoint.commit_position:
                        break
                    if recorded.id == checkpoint.event_id:
                        return True
        except InvalidCommitPositionError:
            pass
        return False

    async def _must_be_at_the_end(self) -> None:
        """Raises ConnectionError if KurrentDB has more of ours than the subscription delivered,."""
        newer = following.records(self._client, commit_position=self._searched)
        async with aclosing(newer):
            async for recorded in newer:
                if recorded.commit_position > self.reached:
                    raise ConnectionError("the subscription has fallen silent")
        self._heard_at = monotonic()


def _read(recorded: RecordedEvent) -> Copied | CopiedOnce | Seal | None:
    """What a record of ours holds. Raises Halted for one that is damaged."""
    try:
        if recorded.stream_name == wire.SEALS and not recorded.is_system_event:
            return msgspec.json.decode(recorded.data, type=Seal)
        return wire.read(recorded)
    except ValueError as error:
        raise Halted(
            f"the record at {recorded.commit_position} of KurrentDB, in {recorded.stream_name}, is"
            f" none of ours: {error}"
        ) from error
