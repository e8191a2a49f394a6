"""Questions asked at the same time share one statement, and no answer is older than its
question."""

import asyncio
from collections.abc import Mapping

import pytest

from eventstore.gathering import MAX_QUESTIONS, Gatherer


class Asked:
    """When released, answers each question with the number of the call that answered it."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.errors: list[Exception | None] = []
        self.begun = asyncio.Condition()
        self.go = asyncio.Semaphore(0)
        self.gatherer = Gatherer(self._ask)

    async def _ask(self, questions: list[str]) -> Mapping[str, int]:
        async with self.begun:
            self.calls.append(questions)
            self.begun.notify_all()
        number = len(self.calls)
        await self.go.acquire()
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        return dict.fromkeys(questions, number)

    def later(self, *questions: str) -> asyncio.Task[Mapping[str, int]]:
        return asyncio.create_task(self.gatherer.get(questions))

    async def called(self, times: int) -> None:
        """Wait until this many calls have begun."""
        async with self.begun:
            await self.begun.wait_for(lambda: len(self.calls) >= times)


async def test_questions_of_one_moment_share_a_call_and_each_is_asked_once() -> None:
    asked = Asked()
    one, other = asked.later("a", "b"), asked.later("b", "c")
    asked.go.release()
    assert (await one)["a"] == (await other)["c"] == 1
    assert asked.calls == [["a", "b", "c"]]


async def test_a_question_asked_during_a_call_is_answered_by_a_later_one() -> None:
    asked = Asked()
    before = asked.later("a")
    await asked.called(1)
    during, too = asked.later("a"), asked.later("b")
    asked.go.release()
    assert (await before)["a"] == 1
    await asked.called(2)
    assert not during.done()
    asked.go.release()
    assert (await during)["a"] == (await too)["b"] == 2


async def test_a_failed_call_fails_its_callers_and_no_others() -> None:
    asked = Asked()
    asked.errors = [ValueError("no")]
    before = asked.later("a")
    await asked.called(1)
    during = asked.later("a")
    asked.go.release()
    asked.go.release()
    with pytest.raises(ValueError, match="no"):
        await before
    assert (await during)["a"] == 2


async def test_a_caller_who_is_cancelled_takes_nobody_along() -> None:
    asked = Asked()
    one, other = asked.later("a"), asked.later("a")
    await asked.called(1)
    one.cancel()
    asked.go.release()
    assert (await other)["a"] == 1
    with pytest.raises(asyncio.CancelledError):
        await one


async def test_many_questions_are_asked_in_several_calls() -> None:
    asked = Asked()
    callers = [asked.later(f"{n}") for n in range(MAX_QUESTIONS + 1)]
    whole = asked.later(*(f"x{n}" for n in range(MAX_QUESTIONS + 1)))
    for _ in range(3):
        asked.go.release()
    await asyncio.gather(*callers, whole)
    assert [len(call) for call in asked.calls] == [MAX_QUESTIONS, 1, MAX_QUESTIONS + 1]


async def test_nobody_waits_for_a_gatherer_that_was_closed() -> None:
    asked = Asked()
    before = asked.later("a")
    await asked.called(1)
    during = asked.later("b")
    await asyncio.sleep(0)
    await asked.gatherer.close()
    await asyncio.wait([before, during])
    assert before.cancelled()
    assert during.cancelled()


async def test_nobody_waits_for_a_gatherer_that_was_closed_before_it_asked() -> None:
    asked = Asked()
    waiting = asked.later("a")
    await asyncio.sleep(0)  # the question is queued, and the call has not begun
    assert not asked.calls
    await asked.gatherer.close()
    await asyncio.wait([waiting], timeout=5)
    assert waiting.cancelled()


async def test_a_gatherer_that_was_closed_asks_nothing_when_its_call_fails_instead() -> None:
    calls: list[list[str]] = []
    begun = asyncio.Event()

    async def fail_when_cancelled(questions: list[str]) -> Mapping[str, int]:
        calls.append(questions)
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError from None
        raise AssertionError("unreachable")

    gatherer = Gatherer(fail_when_cancelled)
    before = asyncio.create_task(gatherer.get(["a"]))
    await begun.wait()
    during = asyncio.create_task(gatherer.get(["b"]))
    await asyncio.sleep(0)
    await asyncio.wait_for(gatherer.close(), 5)
    with pytest.raises(ConnectionError):
        await before
    await asyncio.wait([during])
    assert during.cancelled()
    assert calls == [["a"]]
