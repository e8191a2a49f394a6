"""A dependency that is away is left alone, tried by a single call now and then, and used again once
it is back."""

import asyncio
from typing import Any

import pytest

from kit import circuit
from kit.circuit import FAILURES_TO_OPEN, Circuit, CircuitOpen


class Dependency:
    """A dependency behind a circuit, which counts its calls."""

    def __init__(self, **options: Any) -> None:
        self.circuit = Circuit(
            "dependency", lambda error: isinstance(error, ConnectionError), **options
        )
        self.error: Exception | None = ConnectionError("refused")
        self.calls = 0

    async def call(self) -> None:
        async with self.circuit.calling():
            self.calls += 1
            if self.error is not None:
                raise self.error

    async def fail(self, times: int = FAILURES_TO_OPEN) -> None:
        for _ in range(times):
            with pytest.raises(ConnectionError):
                await self.call()


@pytest.fixture
def dependency() -> Dependency:
    return Dependency()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial is due as soon as the circuit opens."""
    monkeypatch.setattr(circuit, "OPEN_SECONDS", -1.0)


async def test_what_failed_a_few_times_in_a_row_is_not_called_for_a_while(
    dependency: Dependency,
) -> None:
    await dependency.fail()
    for _ in range(5):
        with pytest.raises(CircuitOpen):
            await dependency.call()
    assert dependency.calls == FAILURES_TO_OPEN


async def test_a_success_between_failures_keeps_the_circuit_closed(dependency: Dependency) -> None:
    for _ in range(3):
        dependency.error = ConnectionError("refused")
        await dependency.fail(FAILURES_TO_OPEN - 1)
        dependency.error = None
        await dependency.call()


async def test_an_error_of_the_caller_shows_no_outage(dependency: Dependency) -> None:
    dependency.error = ValueError("no such field")
    for _ in range(2 * FAILURES_TO_OPEN):
        with pytest.raises(ValueError, match="no such field"):
            await dependency.call()


@pytest.mark.usefixtures("impatient")
async def test_one_call_alone_tries_whether_it_is_back_and_then_all_go_through() -> None:
    dependency = Dependency()
    await dependency.fail()
    dependency.error = None
    began, answered = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with dependency.circuit.calling():
            began.set()
            await answered.wait()

    trial = asyncio.create_task(slow())
    await began.wait()
    with pytest.raises(CircuitOpen):
        await dependency.call()
    answered.set()
    await trial
    await dependency.call()


@pytest.mark.usefixtures("impatient")
async def test_a_trial_that_takes_long_does_not_keep_others_from_trying() -> None:
    dependency = Dependency(trial_seconds=0.0)
    await dependency.fail()
    dependency.error = None

    async with dependency.circuit.calling():
        await dependency.call()


@pytest.mark.usefixtures("impatient")
async def test_a_call_that_did_not_ask_shows_nothing() -> None:
    dependency = Dependency()
    for _ in range(FAILURES_TO_OPEN):
        await dependency.fail(1)
        async with dependency.circuit.calling() as call:
            call.asked = False

    for _ in range(2):  # it is open, and is so after a trial that did not ask
        async with dependency.circuit.calling() as trial:
            trial.asked = False
            with pytest.raises(CircuitOpen):
                await dependency.call()


@pytest.mark.usefixtures("impatient")
async def test_a_trial_that_is_given_up_leaves_the_circuit_open_and_another_may_try() -> None:
    dependency = Dependency()
    await dependency.fail()

    async def hang() -> None:
        async with dependency.circuit.calling():
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await hang()
    await dependency.fail(1)
    dependency.error = None
    await dependency.call()
    await dependency.call()
