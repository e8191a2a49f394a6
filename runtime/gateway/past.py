"""Builds read models as they were for an API process's queries, each build in a process of its own:
folding would take this one's time."""

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from kit.wording import reason
from queries.engine.past import AsOfBeingBuilt, AsOfUnavailable
from runtime.audit.past_building import Bounds, Outcome, Reached, Wanted
from runtime.host.module_process import module_process
from runtime.settings import Settings

logger = logging.getLogger(__name__)

MAX_WAITING = 8
"""How many builds an API process has under way or waiting; further queries are told to come
later."""

MIB = 1024 * 1024


def bounds_of(settings: Settings) -> Bounds:
    """The operator's bounds on what queries of the past leave behind."""
    return Bounds(settings.as_of_schemas, settings.as_of_mib * MIB, settings.as_of_minutes * 60.0)


class _UnderWay:
    """A build under way, and how far it is."""

    task: asyncio.Task[Outcome]
    percent = 0


class PastBuilder:
    """Starts builds, one after another, and lets queries wait for them."""

    def __init__(self, url: str, bounds: Bounds, patience_seconds: float) -> None:
        self._url = url
        self._bounds = bounds
        self._patience = patience_seconds
        self._under_way: dict[tuple[int, tuple[str, ...]], _UnderWay] = {}
        self._turn = asyncio.Lock()

    async def build(self, position: int, models: Sequence[str]) -> None:
        """As `queries.engine.past.Build`: waits for a bounded time."""
        key = position, tuple(models)
        under_way = self._under_way.get(key)
        if under_way is None:
            if len(self._under_way) >= MAX_WAITING:
                raise AsOfBeingBuilt("other moments are being built: try again later")
            under_way = self._under_way[key] = _UnderWay()
            under_way.task = asyncio.create_task(self._run(position, models, under_way))
            under_way.task.add_done_callback(lambda _: self._under_way.pop(key, None))
        try:
            outcome = await asyncio.wait_for(asyncio.shield(under_way.task), self._patience)
        except TimeoutError:
            raise AsOfBeingBuilt(
                f"the read models as of position {position} are being built, {under_way.percent} %"
                " so far: try again later"
            ) from None
        if outcome.error:
            raise AsOfUnavailable(outcome.error)

    async def close(self) -> None:
        """End the builds that are under way."""
        tasks = [each.task for each in self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, position: int, models: Sequence[str], under_way: _UnderWay) -> Outcome:
        wanted = Wanted(self._url, position, models, self._bounds)
        async with self._turn:
            logger.info("building %s as of position %s", ", ".join(models), position)
            try:
                told = msgspec.json.encode(wanted)
                async with module_process("runtime.audit.past_building", told) as process:
                    return await _followed(process, under_way)
            except OSError as error:
                return Outcome(
                    f"no process could be started to build the read models: {reason(error)}"
                )


async def _followed(process: asyncio.subprocess.Process, under_way: _UnderWay) -> Outcome:
    """Follow what a process says."""
    assert process.stdout is not None
    assert process.stderr is not None
    complaint = asyncio.create_task(process.stderr.read())
    try:
        async for line in process.stdout:
            said = _decoder.decode(line)
            if isinstance(said, Outcome):
                return said
            under_way.percent = said.percent
        logger.error("a build failed: %s", (await complaint).decode(errors="replace")[-2_000:])
        return Outcome("the process that built the read models failed; its error is logged")
    finally:
        complaint.cancel()


_decoder: msgspec.json.Decoder[Reached | Outcome] = msgspec.json.Decoder(Reached | Outcome)
