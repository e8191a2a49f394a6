"""Up to which position everything has followed, told from earlier moments."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.findings import MAX_DETAIL, FindingOpened, evolve, open_finding, resolve
from eventstore.consumers import checkpoints
from eventstore.database.postgres import connect
from kit.clock import SYSTEM_CLOCK
from projections.registry import read_models
from runtime.self_audit.auditor import Auditor
from runtime.self_audit.invariant import Judged, Looked, Moments, Progress
from runtime.self_audit.moment import DEPTH, REACTORS, Followed, Moment, Part
from runtime.self_audit.rows import OVERDUE
from runtime.settings import Settings
from runtime.wiring.codec import codec
from runtime.wiring.core import open_core
from runtime.wiring.work import open_queues, reactors_of
from tests.support.events.history import ORDER, order_created
from tests.support.shops.commands import Shop


async def test_the_reactors_that_it_waits_for_are_those_of_a_worker(
    database: str, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, database_url=database)
    async with open_core(settings) as core, open_queues(core) as queues:
        assert set(REACTORS) <= {each.name for each in reactors_of(core, queues)}


def test_at_rest_everything_has_followed() -> None:
    assert Followed().upto(head=40, reacted=40, shown=40) == 40


def test_what_no_read_model_shows_yet_has_not_followed() -> None:
    followed = Followed()
    assert followed.upto(head=40, reacted=40, shown=39) == 0
    assert followed.upto(head=60, reacted=50, shown=45) == 40


def test_a_reactor_that_stands_still_holds_up_what_has_followed() -> None:
    followed = Followed()
    assert followed.upto(head=10, reacted=10, shown=10) == 10
    assert [followed.upto(head, 10, head) for head in (20, 30, 40)] == [10, 10, 10]
    assert followed.upto(head=50, reacted=50, shown=50) == 50


def test_of_another_history_nothing_is_remembered() -> None:
    followed = Followed()
    followed.upto(head=40, reacted=40, shown=40)
    followed.forget()
    assert followed.upto(head=45, reacted=20, shown=44) == 0


@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
def test_whatever_settled_has_all_that_follows_from_it(seed: int, steps: int) -> None:
    """A log in which an event may set off another, up to DEPTH in a row; a reactor handles events
    in order, some at a time, and a read model lags. Whatever counts as settled has everything that
    was to follow in what the read model shows."""
    chance, followed = random.Random(seed), Followed()
    log: list[tuple[int, int]] = []  # of each event: its origin's position, its distance from it
    reacted = shown = 0
    for _ in range(steps):
        for _ in range(chance.randrange(4)):
            log.append((len(log) + 1, 0))
        for _ in range(chance.randrange(6)):
            if reacted < len(log):
                origin, distance = log[reacted]
                reacted += 1
                if distance < DEPTH:
                    log.append((origin, distance + 1))
        shown = chance.randint(shown, len(log))
        settled = followed.upto(len(log), reacted, shown)
        depths = {position: 0 for position in range(1, settled + 1) if log[position - 1][1] == 0}
        for origin, distance in log[:shown]:
            if origin in depths:
                depths[origin] = max(depths[origin], distance)
        assert set(depths.values()) <= {DEPTH}


def test_a_finding_opens_once_and_again_after_it_was_resolved() -> None:
    opened = open_finding(None, invariant="x", subject="y", detail="z", at=3)
    assert opened == [FindingOpened(invariant="x", subject="y", detail="z", at=3)]
    state = evolve(None, opened[0])
    assert open_finding(state, invariant="x", subject="y", detail="other", at=4) == []
    (gone,) = resolve(state, 5)
    assert resolve(evolve(state, gone), 6) == []
    assert open_finding(evolve(state, gone), invariant="x", subject="y", detail="z", at=7)
    assert resolve(None, 5) == []


def test_a_long_detail_is_shortened() -> None:
    (opened,) = open_finding(None, invariant="x", subject="y", detail="z" * 5000, at=3)
    assert isinstance(opened, FindingOpened)
    assert len(opened.detail) == MAX_DETAIL


# -- looking ---------------------------------------------------------------------------------------


@contextmanager
def auditing(shop: Shop) -> Iterator[Auditor]:
    """An auditor of a shop at rest, whose reactors have reacted to everything."""
    shop.project()
    with connect(shop.url, "test") as conn:
        for name in REACTORS:
            checkpoints.register(conn, name, 1, "", checkpoints.head(conn))
        yield Auditor(conn, codec(), read_models(), SYSTEM_CLOCK, timedelta(days=1))


class Failing:
    """An invariant whose query the server cannot answer."""

    name, meaning = "failing", "It cannot be looked at."

    def sample(self, moment: Moment, part: Part) -> Looked:
        moment.conn.execute("SELECT 1 / 0")
        raise AssertionError(part)

    def whole(self, moments: Moments, progress: Progress) -> Looked:
        progress(0, 1)
        with moments() as moment:
            return self.sample(moment, moment.part())

    def again(self, moment: Moment, subjects: Sequence[str]) -> Judged:
        raise AssertionError(moment, subjects)


def test_an_invariant_that_cannot_be_looked_at_does_not_stop_the_others(database: str) -> None:
    shop = Shop(database)
    shop.list_games(3)
    with auditing(shop) as auditor:
        auditor.invariants = [Failing(), *auditor.invariants]
        for report in (auditor.sample(), auditor.whole(lambda _what, _done, _all: None)):
            failing, *others = report.outcomes
            assert "division by zero" in failing.failure
            assert not any(each.failure or each.violations for each in others)
            assert sum(each.checked for each in others) > 0


def test_what_a_read_model_has_in_quarantine_is_no_finding(database: str) -> None:
    shop = Shop(database)
    shop.list_games(3)
    shop.poison()
    with auditing(shop) as auditor:
        for report in (auditor.sample(), auditor.whole(lambda _what, _done, _all: None)):
            assert [each for each in report.outcomes if each.violations or each.failure] == []


def test_samples_go_round_the_whole_log(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.self_audit.auditor.ROLLED", 4)
    monkeypatch.setattr("runtime.self_audit.auditor.WINDOW", 3)
    shop = Shop(database)
    shop.list_games(10)
    with auditing(shop) as auditor:
        ranges = [tuple(auditor.sample().ranges) for _ in range(5)]
    assert ranges == [
        ((0, 3), (0, 4)),
        ((3, 6), (4, 8)),
        ((6, 9), (8, 10)),
        ((9, 10), (0, 4)),
        ((4, 8),),
    ]


def test_a_worker_catches_up_before_anything_is_late(database: str) -> None:
    """A shop that stood still for an hour, whose worker has just begun."""
    shop = Shop(database)
    shop.append(ORDER, 0, order_created(expires_at=SYSTEM_CLOCK.now() - timedelta(hours=1)))
    shop.project()
    grace = timedelta(minutes=10)

    def late(auditor: Auditor) -> list[str]:
        found = {each.invariant: each for each in auditor.sample().outcomes}
        assert not found["nothing_due_is_undone"].failure
        return [each.subject for each in found["nothing_due_is_undone"].violations]

    with auditing(shop), connect(shop.url, "test") as conn:
        begun = [SYSTEM_CLOCK.now() - timedelta(minutes=minutes) for minutes in (0, 11)]
        fresh, old = (
            Auditor(conn, codec(), read_models(), SYSTEM_CLOCK, grace, since=since)
            for since in begun
        )
        assert late(fresh) == []
        (subject,) = late(old)
        with fresh.moment() as moment:  # a finding that is open stays so
            assert OVERDUE.again(moment, [subject])[subject] is not None
