"""Load purchases from a CSV file: their people are registered, and buy through the same commands as
everybody else."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

import msgspec

from commands.caller import IMPORTER
from domain.catalog import (
    GameCreated,
    GamePublished,
    GameResumed,
    GameRetired,
    GameSuspended,
    GameUpdated,
)
from domain.errors import Refused
from domain.ids import derived
from domain.library import LibraryGameAdded
from domain.orders import OrderCancelled
from domain.payments import Method
from domain.text import unescaped
from eventstore.log import AlreadyDone, IdempotencyKey
from kit.cancellation import stop_if_cancelled
from runtime.load.rows import (
    PAGE,
    BrokenRow,
    LoadReport,
    Progress,
    each_new,
    key_of,
    no_progress,
    read_rows,
    run_concurrently,
)
from runtime.wiring.core import Core

METHOD = Method("card", "pm_card_visa")

STALLED_SECONDS = 120.0
"""After so long without a grant, no worker seems to be running."""


class Stalled(Exception):
    """Orders were placed, but nobody grants them: no worker seems to be running. Repeat the load
    later."""


COLUMNS = ("user_id", "title")


class Purchase(msgspec.Struct, frozen=True):
    """A row of the file. `occurrence` distinguishes a person's repeated purchases of one game."""

    line: int
    person: str
    title: str
    occurrence: int
    game_id: UUID


def person_id_of(person: str) -> UUID:
    """The account id of an imported person."""
    return derived("import.person", person)


async def load_purchases(core: Core, path: Path, progress: Progress = no_progress) -> LoadReport:
    """Let the people of a CSV file buy their games. Returns when every grant is in the log.

    People are registered without a password. A person's second purchase of a game is refused, as by
    the API. A worker and a payment provider must be running. Raises UnreadableFile, OSError,
    Stalled.
    """
    report = LoadReport()
    rows = list(read_rows(path, COLUMNS, report))
    games = await _games(core)
    purchases = _purchases(rows, games, report)
    purchases = await _with_registered_people(core, purchases, report, progress)
    outcomes = await _outcomes_so_far(core)
    placed: dict[Purchase, UUID] = {}
    placed_now: set[Purchase] = set()
    new = await _unknown_purchases(core, purchases, outcomes, placed)
    tried = len(purchases) - len(new)

    async def one(purchase: Purchase) -> None:
        nonlocal tried
        if await _buy(core, purchase, outcomes, placed, report):
            placed_now.add(purchase)
        tried += 1
        if tried % 100 == 0 or tried == len(purchases):
            progress("orders", tried, len(purchases))

    # Wave by wave, so that of two purchases of a game by one person the first is the one that
    # counts.
    for wave in _waves(new):
        await run_concurrently(wave, one)
    await _granted(core, set(placed.values()), outcomes, report, progress)
    settled = {purchase for purchase, order_id in placed.items() if order_id in outcomes.granted}
    report.loaded = len(settled & placed_now)
    report.known = len(settled - placed_now)
    report.refused += Counter(payment_failed=len(placed) - len(settled))
    report.broken.sort(key=lambda broken: broken.line)
    return report


def _purchases(
    rows: Sequence[tuple[int, dict[str, str]]], games: dict[str, UUID], report: LoadReport
) -> list[Purchase]:
    seen: Counter[tuple[str, str]] = Counter()
    purchases = []
    for line, fields in rows:
        person, title = fields["user_id"].strip(), fields["title"]
        if not person or len(person) > 64 or not (person.isascii() and person.isalnum()):
            report.broken.append(BrokenRow(line, f"user_id {person[:80]!r} is not an id"))
        elif (game_id := games.get(title) or games.get(unescaped(title))) is None:
            report.broken.append(BrokenRow(line, f"no game is called {title[:200]!r}"))
        else:
            seen[person, title] += 1
            purchases.append(Purchase(line, person, title, seen[person, title], game_id))
    return purchases


def _waves(purchases: Sequence[Purchase]) -> Iterator[list[Purchase]]:
    by_occurrence: dict[int, list[Purchase]] = {}
    for purchase in purchases:
        by_occurrence.setdefault(purchase.occurrence, []).append(purchase)
    for occurrence in sorted(by_occurrence):
        yield by_occurrence[occurrence]


async def _with_registered_people(
    core: Core, purchases: Sequence[Purchase], report: LoadReport, progress: Progress
) -> list[Purchase]:
    """Register the people. Purchases of people who cannot be registered are refused for the same
    reason."""
    people = {person_id_of(p.person): p.person for p in purchases}
    report.people = len(people)
    refused: dict[str, str] = {}

    async def one(user_id: UUID) -> None:
        person = people[user_id]
        try:
            await core.commands.accounts.register(
                IMPORTER,
                email=f"{person}@import.invalid",
                password=None,
                name=f"Player {person}",
                once=IdempotencyKey(key_of(user_id)),
                user_id=user_id,
            )
        except AlreadyDone:
            pass
        except Refused as refusal:
            refused[person] = refusal.code

    await each_new(core, list(people), key_of, one, "people", progress)
    report.refused.update(refused[p.person] for p in purchases if p.person in refused)
    return [p for p in purchases if p.person not in refused]


class _Outcomes(msgspec.Struct):
    """Orders that have reached their end, up to a position of the log."""

    position: int = 0
    granted: set[UUID] = msgspec.field(default_factory=set)
    cancelled: set[UUID] = msgspec.field(default_factory=set)


_OUTCOME_NAMES = [LibraryGameAdded.NAME, OrderCancelled.NAME]


async def _outcomes_so_far(core: Core) -> _Outcomes:
    outcomes, head = _Outcomes(), await core.log.head()
    while outcomes.position < head:
        await _look(core, outcomes, head)
    return outcomes


async def _look(core: Core, outcomes: _Outcomes, head: int) -> set[UUID]:
    """Read the next page. Returns the orders that reached their end in it."""
    found: set[UUID] = set()
    page, end = await core.log.read_page(outcomes.position, head, names=_OUTCOME_NAMES, limit=5000)
    for recorded in await core.log.decode(page):
        if isinstance(recorded.event, LibraryGameAdded):
            order_id = recorded.event.order_id
            outcomes.granted.add(order_id)
        else:
            order_id = recorded.env.stream_id
            outcomes.cancelled.add(order_id)
        found.add(order_id)
    outcomes.position = end
    return found


def _once(purchase: Purchase, tries: int) -> IdempotencyKey:
    return IdempotencyKey(
        derived("import.purchase", purchase.person, purchase.title, purchase.occurrence, tries)
    )


async def _unknown_purchases(
    core: Core, purchases: Sequence[Purchase], outcomes: _Outcomes, placed: dict[Purchase, UUID]
) -> list[Purchase]:
    """The purchases that are not in the log yet, or have failed. Looked up in batches, for repeated
    loads."""
    new = []
    for start in range(0, len(purchases), PAGE):
        page = purchases[start : start + PAGE]
        done = await core.log.done_many(_once(purchase, 0).key for purchase in page)
        for purchase in page:
            before = done.get(_once(purchase, 0).key)
            order_id = None if before is None else UUID(before.result_ids["order_id"])
            if order_id is None or order_id in outcomes.cancelled:
                new.append(purchase)
            else:
                placed[purchase] = order_id
    return new


async def _buy(
    core: Core,
    purchase: Purchase,
    outcomes: _Outcomes,
    placed: dict[Purchase, UUID],
    report: LoadReport,
) -> bool:
    """Place the order of a row. Returns whether it was placed now. An earlier order of the row
    counts, unless it failed; it is then tried again."""
    user_id = person_id_of(purchase.person)
    buyer = msgspec.structs.replace(IMPORTER, user_id=user_id, account_type="BUYER")
    tries = 0
    while True:
        try:
            result = await core.commands.orders.place(
                buyer, purchase.game_id, METHOD, once=_once(purchase, tries)
            )
        except AlreadyDone as before:
            order_id = UUID(before.done.result_ids["order_id"])
            if order_id in outcomes.cancelled:
                tries += 1
                continue
            placed[purchase] = order_id
            return False
        except Refused as refusal:
            # Of a game that the file has twice for a person: whether the order before is paid by
            # now is chance.
            code = "already_owned" if refusal.code == "order_pending" else refusal.code
            report.refused[code] += 1
            return False
        placed[purchase] = result.value.order_id
        return True


async def _granted(
    core: Core, orders: set[UUID], outcomes: _Outcomes, report: LoadReport, progress: Progress
) -> None:
    """Wait until each of these orders is granted or cancelled."""
    wanted, waiting = len(orders), orders - outcomes.granted - outcomes.cancelled
    now = asyncio.get_running_loop().time
    before, since = wanted, now()
    while True:
        stop_if_cancelled()
        progress("grants", wanted - len(waiting), wanted)
        if not waiting:
            report.granted = len(orders & outcomes.granted)
            return
        if len(waiting) < before:
            before, since = len(waiting), now()
        if now() - since > STALLED_SECONDS:
            raise Stalled(f"{before} of {wanted} orders wait: is a worker running?")
        try:
            async with asyncio.timeout(5):
                head = await core.log.watcher.beyond(outcomes.position)
        except TimeoutError:
            continue
        await asyncio.sleep(0.1)  # check many in one look
        waiting -= await _look(core, outcomes, head)


async def _games(core: Core) -> dict[str, UUID]:
    """Every game on sale, by its exact title. Read from the log, so that no read model needs to be
    up to date."""
    titles: dict[UUID, str] = {}
    on_sale: set[UUID] = set()
    names = [
        cls.NAME
        for cls in (
            GameCreated,
            GameUpdated,
            GamePublished,
            GameSuspended,
            GameResumed,
            GameRetired,
        )
    ]
    after, head = 0, await core.log.head()
    while after < head:
        page, after = await core.log.read_page(after, head, names=names, limit=5000)
        for recorded in await core.log.decode(page):
            game_id, event = recorded.env.stream_id, recorded.event
            if isinstance(event, GameCreated | GameUpdated) and event.title is not None:
                titles[game_id] = event.title
            if isinstance(event, GamePublished | GameResumed) or (
                isinstance(event, GameCreated) and event.status == "ACTIVE"
            ):
                on_sale.add(game_id)
            elif isinstance(event, GameSuspended | GameRetired):
                on_sale.discard(game_id)
    return {titles[game_id]: game_id for game_id in sorted(on_sale)}
