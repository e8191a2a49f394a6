"""The wire format: every event keeps its name and its fields for ever, and survives encoding and
decoding."""

from datetime import UTC, date, datetime
from importlib import import_module
from pkgutil import walk_packages
from typing import Annotated, Any, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import domain
from commands.aggregates import ALL
from domain import catalog, fulfilment, notices, orders, payments
from domain.events import EVENTS, PERSONAL, UPCASTERS, Event, upcasts
from runtime.wiring.codec import codec

for module in walk_packages(domain.__path__, "domain."):
    import_module(module.name)

OURS = {name: cls for name, cls in EVENTS.items() if cls.__module__.startswith("domain.")}

# wire name: payload; "?" may be absent, "!" is personal
WIRE = {
    "amendment.declared.v1": "position event_id stream_id name reading reason payload?",
    "alert.raised.v1": "name labels source severity summary runbook?",
    "alert.acknowledged.v1": "note",
    "alert.resolved.v1": "",
    "operator.act_begun.v1": "act target? reason? details?",
    "operator.act_ended.v1": "affected? error? details?",
    "disclosure.made.v1": "subject_kind subject_id person_ids reason",
    "audit.finding_opened.v1": "invariant subject detail at",
    "audit.finding_resolved.v1": "invariant subject at",
    "user.registered.v1": (
        "user_id account_type region email! name! email_digest password_hash! digest_of?"
    ),
    "user.email_verified.v1": "",
    "user.profile_changed.v1": "name?! region? email?! email_digest? digest_of?",
    "user.email_restored.v1": "email! email_digest",
    "user.password_changed.v1": "password_hash!",
    "user.logged_in.v1": "session_id",
    "user.logged_out.v1": "session_id",
    "user.sessions_ended.v1": "kept_session_id?",
    "user.refresh_reused.v1": "session_id",
    "user.forgetting_begun.v1": "",
    "user.forgetting_interrupted.v1": "",
    "user.deactivated.v1": "reason?",
    "user.forgotten.v1": "",
    "claim.taken.v1": "kind holder_id",
    "claim.released.v1": "reason",
    "game.created.v1": (
        "seller_id sku title description publisher category genres tags platforms release_date?"
        " kind prices image_ids status"
    ),
    "game.updated.v1": (
        "sku? title? description? publisher? category? genres? tags? platforms? release_date?"
        " prices? image_ids?"
    ),
    "game.published.v1": "",
    "game.retired.v1": "",
    "order.created.v1": (
        "buyer_id region currency total_cents provisional cart_id? payment_id expires_at "
        "shipping_address?! lines"
    ),
    "order.confirmed.v1": "payment_id",
    "order.completed.v1": "",
    "order.status_changed.v1": "status shipment_id",
    "order.cancelled.v1": "reason",
    "order.refunded.v1": "payment_id amount_cents currency full",
    "order.refund_reversed.v1": "payment_id amount_cents currency",
    "payment.requested.v1": (
        "order_id? transaction_id? buyer_id amount_cents currency method? expires_at payment_id? "
        "game_ids?"
    ),
    "payment.method_attached.v1": "method",
    "payment.submitted.v1": "provider attempt",
    "payment.intent_created.v1": "provider provider_ref client_secret_ref",
    "payment.action_required.v1": "provider_ref redirect_url client_secret_ref",
    "payment.processing.v1": "provider provider_ref",
    "payment.transaction.completed.v1": (
        "order_id buyer_id amount_cents currency provider? provider_ref? method_type "
        "user_id? game_ids? transaction_id?"
    ),
    "payment.transaction.failed.v1": (
        "order_id buyer_id amount_cents currency code detail user_id? game_ids? transaction_id?"
    ),
    "payment.processed.v1": "transaction_id amount_cents currency provider_ref",
    "payment.deposit_failed.v1": "transaction_id buyer_id amount_cents currency code detail",
    "payment.intent_cancelled.v2": "provider_ref? reason",
    "payment.refund_requested.v1": "refund_id amount_cents reason",
    "payment.refunded.v1": "refund_id amount_cents provider_ref?",
    "payment.refund_accepted.v1": "refund_id provider_ref",
    "payment.refund_failed.v1": "refund_id code provider_ref?",
    "payment.refund_reversed.v1": "refund_id amount_cents code provider_ref?",
    "payment.surplus_returned.v1": "provider_ref amount_cents",
    "payment.notice_received.v1": "provider_event_id type outcome",
    "payment.fiscal.number.given.v1": "order_id seller_id number year",
    "payment.fiscal.number.freed.v1": "order_id seller_id number year",
    "payment.fiscal.receipt.requested.v1": "order_id seller_id number year amount_cents currency",
    "payment.fiscal.receipt.created.v1": (
        "order_id seller_id number year amount_cents currency url?"
    ),
    "payment.fiscal.receipt.failed.v1": "order_id seller_id number year code attempts",
    "payment.fiscal.receipt.renumbered.v1": "order_id seller_id number year previous_number",
    "payment.fiscal.receipt.found.v1": (
        "order_id seller_id number year amount_cents currency reference url?"
    ),
    "wallet.created.v1": "user_id currency",
    "wallet.deactivated.v1": "reason",
    "wallet.reactivated.v1": "reason",
    "user.reactivated.v1": "reason?",
    "game.suspended.v1": "",
    "game.resumed.v1": "",
    "wallet.funds_added.v1": (
        "amount_cents currency balance_cents transaction_id? payment_id? reason?"
    ),
    "wallet.funds_deducted.v1": (
        "amount_cents currency balance_cents transaction_id? payment_id? reason?"
    ),
    "wallet.debt_recorded.v1": "amount_cents currency owed_cents transaction_id payment_id",
    "wallet.debt_settled.v1": "amount_cents currency owed_cents balance_cents",
    "transaction.created.v1": (
        "type amount_cents currency user_id from_wallet_id? to_wallet_id? order_id? payment_id?"
    ),
    "transaction.processing.v1": "",
    "transaction.completed.v1": "amount_cents currency",
    "transaction.failed.v1": "step code refunded_cents",
    "transaction.reversed.v1": (
        "amount_cents recovered_cents owed_cents currency payment_id refund_id"
    ),
    "transaction.reinstated.v1": "amount_cents currency payment_id refund_id",
    "ledger.account_opened.v1": "account_id user_id",
    "ledger.transaction_posted.v1": "cause_event_id entries order_id? payment_id? transaction_id?",
    "webhook_endpoint.created.v1": "seller_id url events secret_ref description?",
    "webhook_endpoint.updated.v1": "url? events? description?",
    "webhook_endpoint.secret_rotated.v1": "secret_ref old_expires_at",
    "webhook_endpoint.failing.v1": "failures",
    "webhook_endpoint.recovered.v1": "",
    "webhook_endpoint.disabled.v1": "reason",
    "webhook_endpoint.enabled.v1": "",
    "webhook_endpoint.deleted.v1": "",
    "webhook_index.endpoint_added.v1": "endpoint_id",
    "webhook_index.endpoint_removed.v1": "endpoint_id",
    "webhook.delivery_requested.v1": "endpoint_id event_id event_name position?",
    "webhook.redelivery_requested.v1": "endpoint_id event_id",
    "webhook.attempt_failed.v1": "endpoint_id event_id code attempt",
    "webhook.delivered.v1": "endpoint_id event_id status attempt",
    "webhook.delivery_failed.v1": "endpoint_id event_id code attempts",
    "inventory.stock_created.v1": "game_id seller_id sku",
    "inventory.stock_updated.v1": "total available",
    "inventory.reserved.v1": "reservation_id cart_id quantity expires_at buyer_id?",
    "inventory.reservation_changed.v1": "reservation_id quantity expires_at",
    "inventory.reservation_released.v1": "reservation_id reason",
    "inventory.reservation_expired.v1": "reservation_id",
    "inventory.allocated.v1": "reservation_id order_id quantity expires_at",
    "inventory.reservation_fulfilled.v1": "reservation_id order_id quantity",
    "inventory.low_stock.v1": "available threshold at? quiet?",
    "cart.created.v1": "buyer_id currency expires_at ends_at?",
    "cart.item_repriced.v1": "item_id unit_price_cents expires_at",
    "cart.currency_changed.v1": "currency",
    "cart.expiry_shown.v1": "",
    "cart.item_added.v1": (
        "item_id game_id seller_id sku title quantity unit_price_cents reservation_id? expires_at"
    ),
    "cart.item_changed.v1": "item_id quantity expires_at",
    "cart.item_removed.v1": "item_id expires_at",
    "cart.checkout_initiated.v1": "order_id payment_id",
    "cart.completed.v1": "order_id",
    "cart.abandoned.v1": "reason",
    "shipment.created.v1": "order_id seller_id lines",
    "shipment.confirmed.v1": "",
    "shipment.status_updated.v1": "status at carrier? tracking_number? reason?",
    "shipment.delivery_corrected.v1": "at reason",
    "library.game.added.v1": "user_id game_id order_id title purchase_date",
    "library.game.removed.v1": "game_id order_id reason",
    "notice.kept.v1": (
        "user_id sender about about_id body_bytes provider_event_id? received?! withheld?"
    ),
    "notification.requested.v1": "user_id channel template cause_event_id params?!",
    "notification.sent.v1": "provider_ref?",
    "notification.failed.v1": "code attempts",
}
PARTS = {
    catalog.Price: "region amount_cents currency",
    orders.OrderLine: (
        "line_id game_id seller_id kind title quantity unit_price_cents fee_bps shipment_id? "
        "reservation_id?"
    ),
    fulfilment.ShipmentLine: "line_id game_id title quantity",
    payments.Method: "type token_ref?",
    notices.Received: "body signature sha256?",
}
EARLIER: dict[str, tuple[bytes, Event]] = {
    "payment.intent_cancelled.v1": (
        b'{"provider_ref": "pi_1"}',
        payments.PaymentIntentCancelled(reason="unknown", provider_ref="pi_1"),
    ),
}
"""For each earlier version a payload as it was written, and the event that it is read as."""

WHOSE = {
    "order.created.v1": "buyer_id",
    "notice.kept.v1": "user_id",
    "notification.requested.v1": "user_id",
}


def payload_of(cls: type[msgspec.Struct]) -> set[str]:
    """The fields of a struct, in the notation of the table."""
    hints = get_type_hints(cls, include_extras=True)
    return {
        f"{field.encode_name}{'' if field.required else '?'}"
        f"{'!' if PERSONAL in get_args(hints[field.name]) else ''}"
        for field in msgspec.structs.fields(cls)
    }


def test_the_wire_names_are_those_of_the_table() -> None:
    assert set(OURS) == set(WIRE)
    assert all(name == cls.NAME for name, cls in OURS.items())


def test_every_event_is_of_a_kind_of_stream_that_the_program_knows() -> None:
    assert {cls.KIND for cls in OURS.values()} == {aggregate.kind for aggregate in ALL}


@pytest.mark.parametrize("name", WIRE)
def test_the_payload_is_that_of_the_table(name: str) -> None:
    assert payload_of(OURS[name]) == set(WIRE[name].split())


@pytest.mark.parametrize("part", PARTS)
def test_the_parts_of_a_payload_are_those_of_the_table(part: type[msgspec.Struct]) -> None:
    assert payload_of(part) == set(PARTS[part].split())


@pytest.mark.parametrize("name", WIRE)
def test_personal_fields_name_their_person_where_the_stream_is_not_theirs(name: str) -> None:
    assert WHOSE.get(name, "") == OURS[name].PERSON


def test_every_earlier_version_of_an_event_is_read_and_no_longer_written() -> None:
    versions = [name.rpartition(".v") for name in OURS]
    earlier = {f"{stem}.v{n}" for stem, _, version in versions for n in range(1, int(version))}
    assert set(UPCASTERS) == earlier
    assert not earlier & set(OURS)


@pytest.mark.parametrize("name", UPCASTERS)
def test_a_payload_of_an_earlier_version_is_read_as_the_event_of_today(name: str) -> None:
    payload, event = EARLIER[name]
    assert codec().decode(name, payload, UUID(int=1)) == event


def test_an_old_shape_is_read_in_one_way() -> None:
    old = next(iter(UPCASTERS))
    with pytest.raises(ValueError, match="upcast twice"):
        upcasts(old)(lambda payload: payload)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a payload field's type."""
    plain = {
        str: st.text(),
        int: st.integers(-(2**63), 2**63 - 1),
        bool: st.booleans(),
        UUID: st.uuids(),
        datetime: st.datetimes(timezones=st.just(UTC)),
        date: st.dates(),
        type(None): st.none(),
    }
    if hint in plain:
        return plain[hint]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        fields = get_type_hints(hint, include_extras=True)
        return st.builds(hint, **{field: values(fields[field]) for field in hint.__struct_fields__})
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return values(args[0])
    if origin is tuple:
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(values(args[0]), values(args[1]), max_size=3)
    if all(isinstance(arg, str) for arg in args):
        return st.sampled_from(args)
    return st.one_of([values(arg) for arg in args])


@pytest.mark.parametrize("name", WIRE)
@settings(max_examples=15)
@given(data=st.data())
def test_every_event_comes_back_from_json_as_it_was(name: str, data: st.DataObject) -> None:
    event: Event = data.draw(values(OURS[name]))
    wire = msgspec.json.encode(event)
    assert msgspec.json.decode(wire, type=OURS[name]) == event
    assert None not in msgspec.json.decode(wire).values()


@pytest.mark.parametrize("name", WIRE)
def test_an_event_cannot_be_altered(name: str) -> None:
    assert OURS[name].__struct_config__.frozen
