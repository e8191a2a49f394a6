"""The shop's audit of itself finds whatever is broken by hand, and finds nothing otherwise: each
invariant is broken in a running shop, as a superuser or by raw events, and the worker sees it."""

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest

from domain.amendments import AmendmentDeclared
from domain.ids import library_id
from domain.library import LibraryGameAdded
from eventstore import amendments
from kit.clock import SYSTEM_CLOCK
from tests.support.processes.instance import eventually, running
from tests.support.servers import shared
from tests.support.shops.broken import BREAKS, BROKEN, FOR_GOOD, Break, Shop, posted_twice, sold

SETTINGS = {"LUDOTECA_SELF_AUDIT_SECONDS": "0.2", "LUDOTECA_SELF_AUDIT_GRACE_SECONDS": "3"}

WITHIN = 60.0
"""Seconds within which the worker reports what does not hold."""


@pytest.fixture(scope="module")
def shop(
    postgres_url: str, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    database = shared.create_database(postgres_url, template=postgres_template)
    with running(tmp_path_factory.mktemp("home"), database, SETTINGS) as instance:
        yield Shop(instance, database, sold(instance))
    shared.drop_database(database)


def test_a_shop_in_which_nothing_is_broken_has_no_finding(shop: Shop) -> None:
    told = eventually(  # what was sold is still being dealt with
        lambda: json.loads(shop.instance.cli("audit", "self", "--json", check=False)),
        lambda told: all(each["checked"] for each in told["invariants"]),
    )
    assert told["holds"] is not bool(BROKEN)
    assert not any(each["failure"] for each in told["invariants"]), told
    assert {each["invariant"] for each in told["invariants"]} == {name for name, _ in BREAKS}
    assert {(each["invariant"], each["subject"]) for each in shop.findings()} <= BROKEN


@pytest.mark.parametrize(
    ("invariant", "breaking"), BREAKS, ids=[each.__name__ for _, each in BREAKS]
)
def test_what_is_broken_by_hand_is_found_and_what_is_mended_is_resolved(
    shop: Shop, invariant: str, breaking: Break
) -> None:
    with breaking(shop) as subject:
        eventually(lambda: shop.subjects(invariant), lambda found: subject in found, WITHIN)
    if breaking not in FOR_GOOD:
        eventually(lambda: shop.subjects(invariant), lambda found: subject not in found, WITHIN)
        resolved = [
            each for each in shop.findings("RESOLVED")
            if (each["invariant"], each["subject"]) == (invariant, subject)
        ]  # fmt: skip
        assert len(resolved) == 1


def test_an_event_is_judged_as_it_was_amended(shop: Shop) -> None:
    """A game that nobody bought, by an event that is then declared to be skipped."""
    owner, game = uuid4(), uuid4()
    shelf = library_id(owner)
    granted = LibraryGameAdded(owner, game, uuid4(), "Free", SYSTEM_CLOCK.now())
    shop.happened(shelf, granted)
    subject = f"{shelf} {game}"
    eventually(
        lambda: shop.subjects("owned_game_was_bought"), lambda found: subject in found, WITHIN
    )
    ((position, event_id),) = shop.run(
        "SELECT position, event_id FROM log.events WHERE stream_id = %s", shelf
    )
    shop.happened(
        amendments.STREAM,
        AmendmentDeclared(position, event_id, shelf, granted.NAME, "skip", "by hand"),
    )
    eventually(
        lambda: shop.subjects("owned_game_was_bought"), lambda found: subject not in found, WITHIN
    )
    assert shop.subjects("rows_equal_replay") == []


def test_what_stays_broken_is_told_by_command_page_and_metric(shop: Shop) -> None:
    with posted_twice(shop) as twice:
        told = shop.instance.cli("audit", "self", "--only", "payment_is_posted_once", check=False)
    assert f"{twice}: posts event" in told
    eventually(
        lambda: shop.subjects("payment_is_posted_once"), lambda found: twice in found, WITHIN
    )
    page = shop.instance.admin().get("/api/v1/audit/self").json()
    assert page["holds"] is False
    found = {each["invariant"]: each for each in page["invariants"]}
    assert found.keys() == {name for name, _ in BREAKS}
    count = len([name for name, _ in BROKEN if name == "payment_is_posted_once"])
    assert found["payment_is_posted_once"]["open_findings"] == count
    assert found["payment_is_posted_once"]["whole"]["violations"] == count
    assert found["wallet_equals_account"]["sample"]["failure"] == ""
    metrics = shop.instance.http().get("/metrics").text
    violations = "ludoteca_invariant_violations{invariant="
    assert f'{violations}"payment_is_posted_once"}} {count}.0' in metrics
    assert f'{violations}"stock_adds_up"}} 0.0' in metrics
    assert 'ludoteca_self_audit_age_seconds{scope="sample"}' in metrics


def test_a_worker_looks_at_everything_once_that_is_due(shop: Shop) -> None:
    """It was due while no worker ran."""
    shop.instance.cli("audit", "self", check=False)
    shop.instance.kill("worker")
    shop.run("UPDATE consumers.self_audit SET looked_at = looked_at - interval '2 days'")
    shop.instance.start("worker")
    lately = """
        SELECT 'yes' FROM consumers.self_audit WHERE scope = 'whole'
        HAVING min(looked_at) > now() - interval '1 day'"""
    eventually(lambda: shop.run(lately), patience=WITHIN)


def test_only_auditors_see_it(shop: Shop) -> None:
    for path in ("/api/v1/audit/self", "/api/v1/audit/findings"):
        assert shop.things.buyer.http.get(path).status_code == 403
