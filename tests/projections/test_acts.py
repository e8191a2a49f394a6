"""The timeline of what operators did."""

from typing import Any

from domain.acts import ActBegun, ActEnded
from domain.amendments import AmendmentDeclared
from domain.disclosures import DisclosureMade
from domain.identity import UserDeactivated, UserReactivated
from domain.named_texts import NamedText
from domain.wallets import FundsAdded, FundsDeducted, WalletDeactivated
from projections.models.acts import Act, Acts
from tests.support.events.history import (
    BUYER,
    ORDER,
    PAYMENT,
    SELLER,
    History,
    at,
    registered,
    some_id,
)

ACT, WALLET, AMENDMENTS, DISCLOSURE = map(some_id, ("act", "wallet", "amendments", "disclosure"))


def test_an_act_is_under_way_until_it_has_ended() -> None:
    asked, became = (NamedText("jobs", "4"),), (NamedText("storage", "orders_2"),)
    story = History().happened(
        ACT, ActBegun(act="projection.rebuild", target="orders", reason="why", details=asked)
    )
    begun = Act(
        stream_id=ACT,
        stream_version=1,
        position=1,
        act="projection.rebuild",
        target="orders",
        reason="why",
        status="BEGUN",
        affected=None,
        error=None,
        details={"jobs": "4"},
        at=at(1),
        ended_at=None,
    )
    assert story.row(Acts(), (ACT, 1)) == begun

    story.happened(ACT, ActEnded(affected=7, details=became))
    done = story.row(Acts(), (ACT, 1))
    assert done is not None
    assert (done.status, done.affected, done.position, done.ended_at) == ("DONE", 7, 1, at(2))
    assert done.details == {"jobs": "4", "storage": "orders_2"}


def test_an_act_that_nobody_saw_end_is_told_from_one_that_failed() -> None:
    story = History().happened(ACT, ActBegun(act="keys.rotate"), ActEnded(error="interrupted"))
    given_up = story.row(Acts(), (ACT, 1))
    assert given_up is not None
    assert (given_up.status, given_up.ended_at) == ("INTERRUPTED", at(2))

    story.happened(ACT, ActEnded(affected=2))
    seen = story.row(Acts(), (ACT, 1))
    assert seen is not None
    assert (seen.status, seen.affected, seen.error) == ("DONE", 2, None)


def test_an_act_that_failed_says_why() -> None:
    story = History().happened(ACT, ActBegun(act="keys.rotate"), ActEnded(error="no such file"))
    failed = story.row(Acts(), (ACT, 1))
    assert failed is not None
    assert (failed.status, failed.error, failed.affected) == ("FAILED", "no such file", None)


def test_what_is_an_event_of_its_own_is_there_by_it() -> None:
    added: dict[str, Any] = {"amount_cents": 5, "currency": "USD", "balance_cents": 5}
    history = (
        History()
        .happened(BUYER, registered(), UserDeactivated(reason="fraud"), UserReactivated())
        .happened(SELLER, registered(user_id=SELLER, account_type="AUDITOR"))
        .happened(
            WALLET,
            FundsAdded(**added, payment_id=PAYMENT),
            FundsAdded(**added, reason="gift"),
            FundsDeducted(**added, transaction_id=ORDER),
            FundsDeducted(**added, reason="mistake"),
            WalletDeactivated(reason="asked"),
        )
        .happened(AMENDMENTS, AmendmentDeclared(3, ORDER, ORDER, "x.v1", "skip", "a test"))
        .happened(DISCLOSURE, DisclosureMade("order", ORDER, (BUYER,), "a court"))
    )
    rows = sorted(Acts().fold(history.events).all(), key=lambda row: row.position)
    assert [(row.act, row.target, row.reason) for row in rows] == [
        ("account.close", str(BUYER), "fraud"),
        ("account.reopen", str(BUYER), None),
        ("account.create", str(SELLER), None),
        ("wallet.adjust", str(WALLET), "gift"),
        ("wallet.adjust", str(WALLET), "mistake"),
        ("wallet.deactivate", str(WALLET), "asked"),
        ("amendment.declare", "3", "a test"),
        ("disclosure.make", str(ORDER), "a court"),
    ]
    assert [row.details.get("amount_cents") for row in rows[3:5]] == ["5", "-5"]
    assert {(row.status, row.affected) for row in rows} == {("DONE", 1)}
