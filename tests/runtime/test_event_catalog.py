"""The catalog of events tells what the running program does."""

from pathlib import Path

import pytest

from domain.events import EVENTS
from runtime.events.catalog import CatalogEntry, catalog
from runtime.settings import Settings
from runtime.wiring.core import open_core
from runtime.wiring.work import open_queues, reactors_of


@pytest.fixture(scope="module")
def entries() -> dict[str, CatalogEntry]:
    return {entry.event: entry for entry in catalog()}


def test_every_event_is_decided_somewhere_and_followed_by_something(
    entries: dict[str, CatalogEntry],
) -> None:
    assert entries.keys() == EVENTS.keys()
    assert [entry.event for entry in entries.values() if not entry.decided_by] == []
    followed = {name for name, entry in entries.items() if entry.folded_by or entry.reactors}
    assert EVENTS.keys() - followed == set()


async def test_its_reactors_are_those_of_a_worker(
    entries: dict[str, CatalogEntry], database: str, tmp_path: Path
) -> None:
    """The catalog makes them without a log; here they are made as a worker makes them."""
    settings = Settings(home=tmp_path, database_url=database)
    async with open_core(settings) as core, open_queues(core) as queues:
        running = {(cls, each.name) for each in reactors_of(core, queues) for cls in each.reactions}
    listed = {(EVENTS[name], each) for name, entry in entries.items() for each in entry.reactors}
    assert listed == running


def test_a_made_event_names_its_functions_methods_and_conversions(
    entries: dict[str, CatalogEntry],
) -> None:
    assert entries["webhook_endpoint.updated.v1"].decided_by == ["domain.webhook_endpoints.update"]
    assert entries["payment.notice_received.v1"].decided_by == [
        "commands.payments.PaymentCommands._following",
        "domain.payments.decisions.apply_notice",
        "domain.payments.decisions.apply_refund_notice",
    ]


def test_what_an_aggregate_ignores_it_does_not_fold(entries: dict[str, CatalogEntry]) -> None:
    assert "aggregate user" in entries["user.registered.v1"].folded_by
    assert "aggregate user" not in entries["user.logged_in.v1"].folded_by
