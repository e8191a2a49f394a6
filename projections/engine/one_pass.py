"""One pass over the log for several replays: each page is read and decoded once, and folded into
all of them.

They share nothing else: each quarantines streams of its own, and fails alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import permutations

import psycopg

from eventstore.codec import Codec
from eventstore.consumers.reader import Page, Reader, collector_paused
from eventstore.database.postgres import AWAY
from projections.engine import replaying
from projections.engine.advancing import Registered
from projections.engine.replaying import Progress, Replay

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


# -- the pass --------------------------------------------------------------------------------------


def fold_together(
    conn: psycopg.Connection, codec: Codec, replays: Mapping[Replay, int], progress: Progress
) -> dict[Replay, Exception]:
    """Fold the log into each replay, all of which are at its start, up to a position of its own.
    Returns those that failed, and why. Raises what leaves the connection unusable.

    Those that read events by other amendments need a pass of their own. `progress` gets the
    position, and the last one to reach. The rows of all replays together take as much memory as
    those of one alone may.
    """
    failed: dict[Replay, Exception] = {}
    passes = sorted({each.amended for each in replays})
    for number, amended in enumerate(passes):

        def report(done: int, end: int, number: int = number) -> None:
            progress((number * end + done) // len(passes), end)

        _pass(conn, codec, replays, amended, failed, report)
    return failed


def _pass(
    conn: psycopg.Connection,
    codec: Codec,
    replays: Mapping[Replay, int],
    amended: int,
    failed: dict[Replay, Exception],
    progress: Progress,
) -> None:
    position, weighed, end = 0, 0, max(replays.values())
    upto_of = {each: upto for each, upto in replays.items() if each.amended == amended}
    for upto in sorted(set(upto_of.values())):
        folding = [each for each, last in upto_of.items() if last >= upto and each not in failed]
        names = {name for each in folding for name in each.reader.names}
        reader = Reader(codec, list(names), amendments=next(iter(upto_of)).reader.amendments)
        while folding and position < upto:
            position, found = _page(conn, reader, folding, position, upto)
            failed |= found
            if position - weighed >= replaying.PAGE:
                failed |= _spill([each for each in replays if each not in failed])
                weighed = position
            if failed:
                folding = [each for each in folding if each not in failed]
            progress(position, end)


@collector_paused()
def _page(
    conn: psycopg.Connection, reader: Reader, folding: Sequence[Replay], after: int, upto: int
) -> tuple[int, dict[Replay, Exception]]:
    """Fold the next page into each. Returns where it ends, and what failed."""
    page, end = reader.next_page(conn, after, min(upto, after + replaying.PAGE))
    failed: dict[Replay, Exception] = {}
    for each, events in zip(folding, _shares(page, folding), strict=True):
        try:
            each.fold(events, end)
        except AWAY:
            raise
        except Exception as error:
            failed[each] = error
    return end, failed


def _shares(page: Page, folding: Sequence[Replay]) -> list[Page]:
    """The events of a page that each folds."""
    shares: list[Page] = [[] for _ in folding]
    takers: dict[str, list[Page]] = {}
    for each, share in zip(folding, shares, strict=True):
        for name in each.reader.names:
            takers.setdefault(name, []).append(share)
    for found in page:
        for share in takers[found[0].name]:
            share.append(found)
    return shares


def _spill(folding: Sequence[Replay]) -> dict[Replay, Exception]:
    """Have those with most rows in memory write some, while all of them take more than one may.
    Returns what failed."""
    failed: dict[Replay, Exception] = {}
    held = {each: each.held() for each in folding}
    total = sum(held.values())
    for each in sorted(folding, key=lambda each: -held[each]):
        if total <= replaying.HELD_BYTES:
            break
        try:
            each.spill()
        except AWAY:
            raise
        except Exception as error:
            failed[each] = error
        total -= held[each] // 2
    return failed
