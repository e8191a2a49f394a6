"""Builds read models as they were for an API process's queries, each build in a process of its own:
folding would take this one's time."""

import asyncio
import logging
import sys
from collections.abc import Sequence

import msgspec

from queries.past import AsOfBeingBuilt, AsOfUnavailable
from runtime.past_building import Bounds, Outcome, Wanted
from runtime.settings import Settings

logger = logging.getLogger(__name__)

MAX_WAITING = 8
"""How many builds an API process has under way or waiting; further queries are told to come
later."""

MIB = 1024 * 1024


def bounds_of(settings: Settings) -> Bounds:
    """The operator's bounds on what queries of the past leave behind."""
    return Bounds(settings.as_of_schemas, settings.as_of_mib * MIB, settings.as_of_minutes * 60.0)


class PastBuilder:
    """Starts builds, one after another, and lets queries wait for them."""

    def __init__(self, url: str, bounds: Bounds, patience_seconds: float) -> None:
        self._url = url
        self._bounds = bounds
        self._patience = patience_seconds
        self._tasks: dict[tuple[int, tuple[str, ...]], asyncio.Task[Outcome]] = {}
        self._turn = asyncio.Lock()

    async def build(self, position: int, models: Sequence[str]) -> None:
        """As `queries.past.Build`: waits for a bounded time."""
        key = position, tuple(models)
        task = self._tasks.get(key)
        if task is None:
            if len(self._tasks) >= MAX_WAITING:
                raise AsOfBeingBuilt("other moments are being built: try again later")
            task = self._tasks[key] = asyncio.create_task(self._run(position, models))
            task.add_done_callback(lambda _: self._tasks.pop(key, None))
        try:
            outcome = await asyncio.wait_for(asyncio.shield(task), self._patience)
        except TimeoutError:
            raise AsOfBeingBuilt(
                f"the read models as of position {position} are being built: try again later"
            ) from None
        if outcome.error:
            raise AsOfUnavailable(outcome.error)

    async def close(self) -> None:
        """End the builds that are under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, position: int, models: Sequence[str]) -> Outcome:
        wanted = Wanted(self._url, position, models, self._bounds)
        async with self._turn:
            logger.info("building %s as of position %s", ", ".join(models), position)
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "runtime.past_building"),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                )
            except OSError as error:
                return Outcome(f"no process could be started to build the read models: {error}")
            try:
                said, complaint = await process.communicate(msgspec.json.encode(wanted))
            except asyncio.CancelledError:
                process.kill()
                await process.wait()
                raise
        try:
            return msgspec.json.decode(said, type=Outcome)
        except msgspec.DecodeError:
            logger.error("a build failed: %s", complaint.decode(errors="replace")[-2_000:])
            return Outcome("the process that built the read models failed; its error is logged")
