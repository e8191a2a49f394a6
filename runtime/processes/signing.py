"""Signs checkpoints of the log, in one process of all: every so many events, and at least hourly.
Each becomes a file, and is posted to the witness, if there is one."""

import asyncio
import logging
from datetime import timedelta

from eventstore.consumers.leadership import leading
from eventstore.database.postgres import AWAY
from eventstore.postgres_log import PostgresLog
from eventstore.proofs import heads
from eventstore.proofs.heads import Head, LogChanged
from eventstore.proofs.notes import of_others, parse
from eventstore.proofs.proving import consistency_path
from eventstore.proofs.signing import NothingToSign, sign_checkpoint
from eventstore.proofs.tree import TreeDamaged
from eventstore.proofs.witness import OtherSize, Witness, WitnessAway, WitnessRefused
from kit.cancellation import stop_if_cancelled
from kit.clock import Clock
from kit.error_groups import first_error
from runtime.audit.checkpoint_files import CheckpointFiles
from runtime.wiring.core import Core

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often it is looked at whether a checkpoint is due."""

ALERT_SECONDS = 300.0
"""How often it is said that no checkpoint can be signed, or that the witness is away."""

_EVER = 2**62
_FILES = 1_000
"""How many of the latest checkpoints are looked for at a start."""


class Signer:
    """Keeps checkpoints signed, written and posted."""

    def __init__(
        self,
        log: PostgresLog,
        clock: Clock,
        files: CheckpointFiles,
        *,
        events: int,
        age: timedelta,
        witness: Witness | None = None,
    ) -> None:
        self._log = log
        self._clock = clock
        self._files = files
        self._events = events
        self._age = age
        self._witness = witness
        self._held: int | None = None
        """The size that the witness has, once it has told."""
        self._written = 0
        """The number of the last checkpoint that is a file."""
        self._try_again = 0.0
        self._pause = LOOK_SECONDS

    async def run(self) -> None:
        """Until cancelled. Raises psycopg.Error, OSError."""
        await self.write_missing()
        while True:
            stop_if_cancelled()
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def write_missing(self) -> None:
        """Write the files that a crash, or another process that signed, left out."""
        async with self._log.pool.connection() as conn:
            known = await heads.page(conn, _EVER, _FILES)
        new = [head for head in known if head.number > self._written]
        await asyncio.to_thread(self._files.write, new)
        self._written = max((head.number for head in known), default=0)

    async def look(self) -> None:
        """Sign a checkpoint if one is due, and post the latest one unless the witness has it.
        Raises psycopg.Error."""
        try:
            head = await self._signed()
        except LogChanged as error:
            logger.error("no checkpoint is signed: %s", error)
            await asyncio.sleep(ALERT_SECONDS)
            return
        if head is None:
            return
        if head.number > self._written:
            await self.write_missing()
        await self._post(head)

    async def _signed(self) -> Head | None:
        """The latest checkpoint, made now if it is due."""
        end = await self._log.head()
        async with self._log.pool.connection() as conn:
            last = await heads.latest(conn)
        if last is not None and not self._is_due(last, end):
            return last
        try:
            return await sign_checkpoint(self._log)
        except NothingToSign:
            return None

    def _is_due(self, last: Head, end: int) -> bool:
        """Also when the log has gone back before it."""
        old = self._clock.now() - last.made_at >= self._age
        return end < last.size or end - last.size >= self._events or (end > last.size and old)

    async def _post(self, head: Head) -> None:
        """Post the latest checkpoint, which covers all earlier ones. The pause after a failure
        doubles, up to ALERT_SECONDS."""
        now = asyncio.get_running_loop().time()
        if self._witness is None or head.witnessed_at is not None or now < self._try_again:
            return
        try:
            lines = await self._added(self._witness, head)
        except (WitnessAway, WitnessRefused, TreeDamaged) as error:
            logger.warning("the witness does not have the latest checkpoint: %s", error)
            self._pause = min(ALERT_SECONDS, self._pause * 2)
            self._try_again = now + self._pause
            return
        self._pause, self._held = LOOK_SECONDS, head.size
        async with self._log.pool.connection() as conn:
            own = parse(head.note).checkpoint.origin
            await heads.witnessed(conn, head, head.note + of_others(lines, own))
            head = await heads.of_size(conn, head.size)
        await asyncio.to_thread(self._files.write, [head])

    async def _added(self, witness: Witness, head: Head) -> str:
        held = self._held or 0
        for _ in range(2):
            if held > head.size:
                raise WitnessRefused(
                    f"it has a checkpoint of {held} events, and the log's latest is of {head.size}:"
                    " the log went back"
                )
            try:
                return await witness.add_checkpoint(held, await self._path(held, head), head.note)
            except OtherSize as other:
                held = self._held = other.size
        raise WitnessAway("it names another size each time")

    async def _path(self, held: int, head: Head) -> list[str]:
        if held in {0, head.size}:
            return []
        async with self._log.pool.connection() as conn:
            return await consistency_path(conn, held, head.size)


def signer_of(core: Core) -> Signer:
    """The signer that the settings ask for."""
    settings = core.settings
    return Signer(
        core.log,
        core.clock,
        CheckpointFiles(settings.home),
        events=settings.checkpoint_events,
        age=timedelta(seconds=settings.checkpoint_seconds),
        witness=core.adapters.witness,
    )


async def keep_signing(core: Core) -> None:
    """Sign checkpoints while this process leads; another takes over when its connection ends."""

    async def lead() -> None:
        async with leading(core.url, "checkpoints"):
            await signer_of(core).run()

    while True:
        stop_if_cancelled()
        try:
            # not in this task, which a failure would leave marked as cancelled: kit.cancellation
            await asyncio.create_task(lead(), name="checkpoints")
        except* AWAY as errors:
            logger.warning("signing lost its database: %s", first_error(errors))
            await asyncio.sleep(1)
        except* Exception as errors:  # whatever it is, the worker has other things to do
            logger.error("no checkpoint is signed or written: %r", first_error(errors))
            await asyncio.sleep(ALERT_SECONDS)
