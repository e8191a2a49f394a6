"""Libraries, notifications, deadlines."""

from domain.events import Event
from domain.ids import library_id
from domain.library import LibraryGameRemoved
from domain.notifications import NotificationFailed, NotificationSent
from domain.orders import OrderCancelled, OrderCompleted, OrderConfirmed
from projections.models.deadlines import ORDER_PAYMENT, Deadline, Deadlines
from projections.models.library import OwnedGame, OwnedGames
from projections.models.notifications import Notification, Notifications
from tests.support.events.history import (
    BUYER,
    DUE,
    GAME,
    ORDER,
    PAYMENT,
    START,
    History,
    at,
    game_added,
    notice_requested,
    order_created,
    some_id,
)

LIBRARY, NOTICE = library_id(BUYER), some_id("notice")


def test_a_game_is_in_the_library_until_it_is_removed() -> None:
    other = some_id("other game")
    story = History().happened(LIBRARY, game_added(), game_added(game_id=other, title="Celeste"))
    assert story.row(OwnedGames(), (LIBRARY, GAME)) == OwnedGame(
        GAME, ORDER, "Hollow Knight", START, library_id=LIBRARY, user_id=BUYER
    )
    story.happened(LIBRARY, LibraryGameRemoved(game_id=GAME, order_id=ORDER, reason="refunded"))
    assert story.row(OwnedGames(), (LIBRARY, GAME)) is None
    assert story.row(OwnedGames(), (LIBRARY, other)) is not None


def notice_after(*events: Event) -> Notification:
    row = History().happened(NOTICE, *events).row(Notifications(), NOTICE)
    assert isinstance(row, Notification)
    return row


def test_a_notice_shows_its_delivery() -> None:
    asked = notice_after(notice_requested())
    assert (asked.status, asked.user_id, asked.template, asked.attempts) == (
        "REQUESTED",
        BUYER,
        "welcome",
        0,
    )
    sent = notice_after(notice_requested(), NotificationSent(provider_ref="queued as 7"))
    assert (sent.status, sent.attempts, sent.at, sent.settled_at) == ("SENT", 1, at(1), at(2))
    assert sent.provider_ref == "queued as 7"
    failed = notice_after(notice_requested(), NotificationFailed(code="mailbox_full", attempts=5))
    assert (failed.status, failed.code, failed.attempts) == ("FAILED", "mailbox_full", 5)
    after_all = notice_after(
        notice_requested(), NotificationFailed(code="unreachable", attempts=5), NotificationSent()
    )
    assert (after_all.status, after_all.code, after_all.attempts) == ("SENT", None, 6)


def test_what_a_notice_says_is_not_in_the_read_model() -> None:
    assert "Ana" not in str(notice_after(notice_requested()))


def test_an_order_has_a_deadline_as_long_as_it_awaits_payment() -> None:
    key = (ORDER, ORDER_PAYMENT)
    assert History().happened(ORDER, order_created()).row(Deadlines(), key) == Deadline(
        ORDER, ORDER_PAYMENT, ORDER, DUE, version=1
    )
    paid = History().happened(
        ORDER, order_created(), OrderConfirmed(payment_id=PAYMENT), OrderCompleted()
    )
    cancelled = History().happened(ORDER, order_created(), OrderCancelled(reason="buyer"))
    assert paid.row(Deadlines(), key) is None
    assert cancelled.row(Deadlines(), key) is None
