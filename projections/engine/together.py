"""Rebuilds several read models in one pass over the log: each page is read and decoded once.

They share nothing else. Each has a storage, a comparison and a switch of its own, as
`projections.engine.rebuild` has them for one, and fails alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from itertools import permutations

import psycopg

from eventstore.codec import Codec
from eventstore.consumers.reader import Page, Reader, collector_paused
from eventstore.database.postgres import AWAY
from projections.engine import replaying
from projections.engine.advancing import Registered
from projections.engine.dropping import exclusively
from projections.engine.rebuild import Begun, Rebuilt, begin, looking_up
from projections.engine.replaying import Progress

READING = 0.5
"""What it costs to read and decode an event, as a multiple of folding it once."""

_SAMPLE = "SELECT name, count(*) FROM log.events TABLESAMPLE SYSTEM (1) GROUP BY name"


def grouped(
    conn: psycopg.Connection, codec: Codec, models: Sequence[Registered], count: int
) -> list[list[Registered]]:
    """Divide read models into at most `count` groups that take about as long to rebuild, and fold
    the same events where they can."""
    events: dict[str, int] = dict(conn.execute(_SAMPLE).fetchall())
    names = [set(codec.names_of(model.projection.folds)) for model in models]

    def size(of: Iterable[str]) -> int:
        return sum(events.get(name, 0) for name in of) + 1

    def cost(group: AbstractSet[int]) -> float:
        each = [names[number] for number in group]
        return sum(map(size, each)) + READING * size(set[str]().union(*each))

    groups: list[set[int]] = [set() for _ in range(count)]
    for number in sorted(range(len(models)), key=lambda number: -size(names[number])):
        min(groups, key=lambda group: cost(group | {number})).add(number)
    while better := next(_better(groups, cost), None):
        one, other, *changed = better
        groups[one], groups[other] = changed
    return [[models[number] for number in sorted(group)] for group in groups if group]


def _better(
    groups: Sequence[set[int]], cost: Callable[[AbstractSet[int]], float]
) -> Iterator[tuple[int, int, set[int], set[int]]]:
    """Two groups, by their numbers, as they would be after one gives a member to the other, or they
    swap two, if that makes the longer of them shorter."""
    for one, other in permutations(range(len(groups)), 2):
        mine, theirs = groups[one], groups[other]
        longer = max(cost(mine), cost(theirs))
        for given in mine:
            for taken in [set[int](), *({each} for each in theirs)]:
                changed = (mine - {given}) | taken, (theirs - taken) | {given}
                if max(map(cost, changed)) < longer:
                    yield one, other, *changed


def rebuild_together(
    conn: psycopg.Connection,
    codec: Codec,
    models: Iterable[Registered],
    progress: Progress,
    *,
    replace: bool,
) -> Iterator[tuple[Registered, Rebuilt | Exception]]:
    """Rebuild read models in one pass. Yields each when it is done, with what `rebuild` would
    return or raise. Raises what leaves the connection unusable."""
    begun: list[Begun] = []
    with ExitStack() as stack:
        stack.enter_context(looking_up(conn))
        for model in models:
            try:
                stack.enter_context(exclusively(conn, model.projection.name))
                begun.append(begin(conn, codec, model))
            except AWAY:
                raise
            except Exception as error:
                yield model, error
            else:
                stack.enter_context(begun[-1].dropped_on_failure(conn))
        failed = _fold(conn, codec, begun, progress)
        end = max((each.upto for each in begun), default=0)
        for each in begun:
            progress(end, end)
            try:
                with each.dropped_on_failure(conn):
                    if each.name in failed:
                        raise failed[each.name]
                    result = each.finish(conn, replace=replace)
            except Exception as error:
                yield each.registered, error
            else:
                yield each.registered, result


def _fold(
    conn: psycopg.Connection, codec: Codec, begun: Sequence[Begun], progress: Progress
) -> dict[str, Exception]:
    """Fold the log into each, up to where its live subscription was. Returns what failed, by the
    name of the new subscription."""
    failed: dict[str, Exception] = {}
    position, weighed, end = 0, 0, max((each.upto for each in begun), default=0)
    for upto in sorted({each.upto for each in begun}):
        folding = [each for each in begun if each.upto >= upto and each.name not in failed]
        names = {name for each in folding for name in each.replay.reader.names}
        reader = Reader(codec, list(names))
        while folding and position < upto:
            position, found = _page(conn, reader, folding, position, upto)
            if position - weighed >= replaying.PAGE:
                found |= _spill([each for each in folding if each.name not in found])
                weighed = position
            if found:
                failed |= found
                folding = [each for each in folding if each.name not in failed]
            progress(position, end)
    return failed


@collector_paused()
def _page(
    conn: psycopg.Connection, reader: Reader, folding: Sequence[Begun], after: int, upto: int
) -> tuple[int, dict[str, Exception]]:
    """Fold the next page into each. Returns where it ends, and what failed."""
    page, end = reader.next_page(conn, after, min(upto, after + replaying.PAGE))
    failed: dict[str, Exception] = {}
    for each, events in zip(folding, _shares(page, folding), strict=True):
        try:
            each.replay.fold(events, end)
        except AWAY:
            raise
        except Exception as error:
            failed[each.name] = error
    return end, failed


def _shares(page: Page, folding: Sequence[Begun]) -> list[Page]:
    """The events of a page that each folds."""
    shares: list[Page] = [[] for _ in folding]
    takers: dict[str, list[Page]] = {}
    for each, share in zip(folding, shares, strict=True):
        for name in each.replay.reader.names:
            takers.setdefault(name, []).append(share)
    for found in page:
        for share in takers[found[0].name]:
            share.append(found)
    return shares


def _spill(folding: Sequence[Begun]) -> dict[str, Exception]:
    """Have those with most rows in memory write some, while all of them take more than one may.
    Returns what failed."""
    failed: dict[str, Exception] = {}
    held = {each.name: each.replay.held() for each in folding}
    total = sum(held.values())
    for each in sorted(folding, key=lambda each: -held[each.name]):
        if total <= replaying.HELD_BYTES:
            break
        try:
            each.replay.spill()
        except AWAY:
            raise
        except Exception as error:
            failed[each.name] = error
        total -= held[each.name] // 2
    return failed
