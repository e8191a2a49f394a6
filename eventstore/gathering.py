"""Gathers the questions of several callers, so that one statement answers them all.

The counterpart of the group-commit writer, for reads. An idle gatherer asks at once; while a
statement runs, questions gather and share the next one. So no question waits for others, and the
more callers there are, the fewer statements each of them costs. A statement begins after all
questions that it answers: an answer is never older than its question.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Generic, TypeVar

from kit.background import background_task
from kit.cancellation import stop_if_cancelled

K = TypeVar("K")
V = TypeVar("V")

MAX_QUESTIONS = 256
"""Questions per statement, except that those of one caller stay together."""


class Gatherer(Generic[K, V]):
    """Answers questions of one kind by calling `ask`, one call at a time. Used from one event loop.

    `ask` gets questions, each once, and returns the answers to those that have one. With a `pause`
    (seconds) before each call, more questions share it: for those that nobody is in a hurry for.
    """

    def __init__(
        self, ask: Callable[[list[K]], Awaitable[Mapping[K, V]]], *, pause: float = 0.0
    ) -> None:
        self._ask = ask
        self._pause = pause
        self._waiting: list[tuple[Collection[K], asyncio.Future[Mapping[K, V]]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def get(self, questions: Collection[K]) -> Mapping[K, V]:
        """The answers to these questions, perhaps among answers to others. Raises as `ask`."""
        answers: asyncio.Future[Mapping[K, V]] = asyncio.get_running_loop().create_future()
        self._waiting.append((questions, answers))
        if self._asking is None or self._asking.done():
            self._asking = background_task(self._ask_all(), "gathered reads")
        return await answers

    async def close(self) -> None:
        """Cancel what is under way, and whoever waits for it."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        for _, answers in self._waiting:  # the task may have ended before it began
            answers.cancel()
        self._waiting = []

    async def _ask_all(self) -> None:
        while self._waiting:
            if self._pause:
                await asyncio.sleep(self._pause)
            batch, questions = self._take()
            try:
                stop_if_cancelled()
                found = await self._ask(questions)
            except Exception as error:
                for _, answers in batch:
                    if not answers.done():
                        answers.set_exception(error)
            except BaseException:
                for _, answers in batch:
                    answers.cancel()
                raise
            else:
                for _, answers in batch:
                    if not answers.done():
                        answers.set_result(found)

    def _take(
        self,
    ) -> tuple[list[tuple[Collection[K], asyncio.Future[Mapping[K, V]]]], list[K]]:
        """The next callers, and their questions."""
        questions: dict[K, None] = {}
        taken = 0
        for asked, _ in self._waiting:
            if taken and len(questions) + len(asked) > MAX_QUESTIONS:
                break
            questions.update(dict.fromkeys(asked))
            taken += 1
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return batch, list(questions)
