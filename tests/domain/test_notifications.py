import msgspec
import pytest

from domain import notification_texts, notifications
from domain.errors import Invalid
from domain.events import Event
from domain.notification_texts import MAILED, TEMPLATES, render
from domain.notifications import NotificationFailed, NotificationRequested, NotificationSent, evolve
from tests.support.given_when_then import an_id, fold, given, when

USER, CAUSE = an_id("user"), an_id("cause")
PARAMS = {"name": "Ana", "titles": "Chess", "total": "19.99 USD", "order_id": "7"}
REQUESTED = NotificationRequested(
    user_id=USER, channel="email", template="purchase", cause_event_id=CAUSE, params=PARAMS
)
SENT, FAILED = NotificationSent(provider_ref="m-1"), NotificationFailed(code="refused", attempts=5)
EVERY_PARAMETER = {
    "name": "Ana",
    "token": "t-o-k-e-n",
    "titles": "Chess",
    "total": "19.99 USD",
    "amount": "5.00 USD",
    "order_id": "order 7",
    "detail": "card declined",
    "transaction_id": "transaction 8",
    "refunded": "5.00 USD",
    "shipment_id": "shipment 9",
    "carrier": "Correios",
    "tracking_number": "BR123",
    "title": "Chess",
    "sku": "CH-1",
    "available": "3",
    "seller_id": "seller 10",
    "shipments": "shipment 9",
    "payment_id": "payment 12",
    "refund_id": "refund 11",
    "owed": "4.00 USD",
}


def request(
    notification: notifications.Notification | None, template: str = "purchase"
) -> list[Event]:
    return notifications.request(
        notification,
        user_id=USER,
        channel="email",
        template=template,
        cause_event_id=CAUSE,
        params=PARAMS,
    )


def test_a_notice_is_requested_once() -> None:
    when(lambda: request(None)).then(REQUESTED)
    given(evolve, REQUESTED).when(request).then_nothing()


def test_a_notice_that_could_never_be_written_is_not_requested() -> None:
    when(lambda: request(None, template="poem")).then_refused(Invalid, "unknown_template")
    when(lambda: request(None, template="welcome")).then_refused(Invalid, "missing_parameter")


def test_a_notice_is_sent_once() -> None:
    given(evolve, REQUESTED).when(lambda n: notifications.mark_sent(n, "m-1")).then(SENT)
    given(evolve, REQUESTED, SENT).when(lambda n: notifications.mark_sent(n, "m-2")).then_nothing()
    assert fold(evolve, REQUESTED, SENT).status == "SENT"


def test_a_notice_fails_once_for_good() -> None:
    given(evolve, REQUESTED).when(lambda n: notifications.mark_failed(n, "refused", 5)).then(FAILED)
    given(evolve, REQUESTED, FAILED).when(
        lambda n: notifications.mark_failed(n, "refused", 6)
    ).then_nothing()
    assert fold(evolve, REQUESTED, FAILED).status == "FAILED"


def test_a_sent_notice_does_not_fail_any_more() -> None:
    given(evolve, REQUESTED, SENT).when(
        lambda n: notifications.mark_failed(n, "refused", 5)
    ).then_nothing()


def test_a_failed_notice_can_still_be_sent() -> None:
    given(evolve, REQUESTED, FAILED).when(lambda n: notifications.mark_sent(n, "m-1")).then(SENT)


def test_the_parameters_are_kept_for_the_sending() -> None:
    notification = fold(evolve, REQUESTED)
    assert (notification.params, notification.status) == (PARAMS, "REQUESTED")
    assert fold(evolve, msgspec.structs.replace(REQUESTED, params=None)).params is None


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_every_template_has_a_subject_of_one_line_and_greets_by_name(template: str) -> None:
    subject, text = render(template, {**EVERY_PARAMETER, "titles": "Chess\nGo"})
    assert subject
    assert "\n" not in subject
    assert text.startswith("Hello Ana,\n")
    assert "None" not in text


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_no_template_is_written_without_its_parameters(template: str) -> None:
    with pytest.raises(Invalid, match="missing_parameter"):
        render(template, {})


@pytest.mark.parametrize("template", ["welcome", "verification", "password_reset"])
def test_a_token_is_shown_and_a_link_replaces_it(template: str) -> None:
    assert "t-o-k-e-n" in render(template, EVERY_PARAMETER)[1]
    text = render(template, {"link": "https://shop.example/verify?t=1"})[1]
    assert "https://shop.example/verify?t=1" in text
    assert text.startswith("Hello,\n")


@pytest.mark.parametrize("template", ["welcome", "password_reset", "email_changed"])
def test_with_a_token_and_a_link_the_text_has_both_each_on_a_line(template: str) -> None:
    link = "https://shop.example/verify-email?token=t-o-k-e-n"
    lines = render(template, {"token": "t-o-k-e-n", "link": link})[1].splitlines()
    assert {link, "t-o-k-e-n"} <= {*lines}


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_in_the_account_a_text_has_neither_token_nor_link(template: str) -> None:
    everything = {**EVERY_PARAMETER, "link": "https://shop.example/verify-email?token=t-o-k-e-n"}
    text = render(template, notification_texts.for_account(everything))[1]
    assert "t-o-k-e-n" not in text
    assert text == render(template, everything | {"link": "", "token": MAILED})[1]


@pytest.mark.parametrize(
    ("template", "facts"),
    [
        ("purchase", ["Chess", "19.99 USD", "order 7"]),
        ("order_cancelled", ["Chess", "order 7"]),
        ("shipment_processing", ["Chess", "order 7"]),
        ("shipment_shipped", ["Chess", "order 7", "Correios", "BR123"]),
        ("shipment_delivered", ["Chess", "order 7"]),
        ("shipment_to_process", ["Chess", "order 7", "shipment 9"]),
        ("shipment_cancelled", ["Chess", "order 7", "shipment 9"]),
        ("low_stock", ["Chess", "CH-1", "3"]),
        ("payment_failed", ["Chess", "order 7", "card declined"]),
        ("refund", ["5.00 USD", "order 7"]),
        ("refund_reversed", ["5.00 USD", "order 7", "card declined"]),
        ("refund_failed", ["5.00 USD", "order 7", "card declined", "payment 12", "refund 11"]),
        ("deposit_reversed", ["5.00 USD", "4.00 USD", "transaction 8"]),
        ("deposit_completed", ["5.00 USD", "transaction 8"]),
        ("deposit_failed", ["5.00 USD", "transaction 8", "card declined"]),
        ("transfer_sent", ["5.00 USD", "transaction 8"]),
        ("transfer_received", ["5.00 USD", "transaction 8"]),
        ("transfer_failed", ["5.00 USD", "transaction 8", "card declined", "back in your wallet"]),
    ],
)
def test_a_text_says_what_it_is_about(template: str, facts: list[str]) -> None:
    text = render(template, EVERY_PARAMETER)[1]
    assert [fact for fact in facts if fact not in text] == []


def test_a_refund_says_where_it_went_and_needs_no_order() -> None:
    assert "to you." in render("refund", {"amount": "5.00 USD"})[1]
    assert (
        "to your wallet, for your order 7."
        in render("refund", {"amount": "1", "to": "wallet", "order_id": "7"})[1]
    )


def test_the_end_of_what_cost_nothing_speaks_of_no_money() -> None:
    text = render("refund", {"amount": "", "order_id": "7"})[1]
    assert "cost nothing" in text
    assert "returned" not in text


def test_a_deposit_taken_back_that_was_still_there_is_not_owed() -> None:
    assert (
        "owed" not in render("deposit_reversed", {"amount": "5.00 USD", "transaction_id": "8"})[1]
    )


def test_a_transfer_that_took_nothing_says_so() -> None:
    assert (
        "Nothing was taken"
        in render("transfer_failed", {"amount": "5.00 USD", "transaction_id": "8"})[1]
    )


@pytest.mark.parametrize("template", sorted(notification_texts.PUSHED))
def test_what_is_pushed_is_not_a_letter(template: str) -> None:
    assert notification_texts.channels_of(template) == ("email", "push")
    text = render(template, EVERY_PARAMETER, "push")[1]
    assert "Ana" not in text
    assert text in render(template, EVERY_PARAMETER)[1]


def test_what_proves_an_address_goes_to_that_address_alone() -> None:
    assert {
        notification_texts.channels_of(each)
        for each in ("welcome", "verification", "password_reset")
    } == {("email",)}


def test_a_subject_is_cut_at_a_blank() -> None:
    subject, text = render(
        "purchase", {**EVERY_PARAMETER, "titles": ", ".join(["Disco Elysium"] * 30)}
    )
    assert len(subject) <= notification_texts.MAX_SUBJECT
    assert subject.endswith(" …")
    assert text.count("Disco Elysium") == 30


def test_a_parameter_is_never_read_as_a_template() -> None:
    assert "{total}" in render("purchase", {**EVERY_PARAMETER, "titles": "{total} %s $token"})[1]


def test_there_is_no_other_template() -> None:
    with pytest.raises(Invalid, match="unknown_template"):
        render("poem", EVERY_PARAMETER)


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_no_template_says_what_people_typed_to_an_address_that_nobody_verified(
    template: str,
) -> None:
    class Typed(dict[str, str]):
        """Has every variable of every template, as typed by somebody."""

        def __missing__(self, name: str) -> str:
            asked.add(name)
            return "LURE"

        def get(self, name: str, default: object = None) -> str:
            return self[name]

    asked: set[str] = set()
    notification_texts.TEMPLATES[template](Typed())
    typed = {name: "LURE" for name in asked | {"name"} if name not in notification_texts.OURS}
    ours = dict.fromkeys(asked & notification_texts.OURS, "ours")

    subject, text = notification_texts.render(
        template, notification_texts.for_unverified({**typed, **ours})
    )

    assert "LURE" not in subject + text
