"""The texts of notifications: each is a template, filled with parameters when it is sent."""

import textwrap
from collections.abc import Callable, Mapping
from typing import Literal

from domain.errors import Invalid

Channel = Literal["email", "push"]
Params = Mapping[str, str]

ADDRESS = "address"
"""The parameter with the address that a mail goes to, when that is not the account's current
one."""

_IDS = {"order_id", "shipment_id", "transaction_id", "payment_id", "refund_id"}

OURS = frozenset({"token", "link", *_IDS, "total", "amount", "refunded", "owed", "available", "to"})
"""Parameters whose text is generated. All others hold what people typed: names, titles, tracking
numbers."""

HIDDEN = "(shown in your account)"
MAILED = "(only in the mail)"

OPTIONAL = frozenset({"name", "detail"})
"""Typed parameters that a text can do without."""


def for_unverified(params: Params) -> Params:
    """The parameters for a mail to an unverified address, without anything that people typed:
    whoever opened the account may have typed it for a stranger to read."""
    return {
        name: text if name in OURS else HIDDEN
        for name, text in params.items()
        if name not in OPTIONAL
    }


def for_account(params: Params) -> Params:
    """The parameters for showing a notification in its person's account, without what proves who
    reads the mail: others may be logged in."""
    return {**{name: text for name, text in params.items() if name != "link"}, "token": MAILED}


MAX_SUBJECT = 150
"""Characters; longer subjects are cut, at a blank where possible."""


def render(template: str, params: Params, channel: Channel = "email") -> tuple[str, str]:
    """Subject (one line) and text of a notification. Every template also takes the person's `name`,
    for the greeting of a mail.

    Raises Invalid("unknown_template") or Invalid("missing_parameter").
    """
    write = TEMPLATES.get(template)
    if write is None:
        raise Invalid("unknown_template", f"there is no template {template!r}")
    try:
        subject, text = write(params)
    except KeyError as missing:
        raise Invalid("missing_parameter", f"template {template} needs {missing}") from missing
    subject = textwrap.shorten(subject, MAX_SUBJECT, placeholder=" …")
    if channel == "push":
        return subject, text
    greeting = f"Hello {params['name']}," if params.get("name") else "Hello,"
    return subject, f"{greeting}\n\n{text}\n\nLudoteca\n"


def _welcome(params: Params) -> tuple[str, str]:
    return (
        "Welcome to Ludoteca",
        f"Your account is open. To confirm your e-mail address, {_with_token(params)}",
    )


def _verification(params: Params) -> tuple[str, str]:
    return "Confirm your e-mail address", f"To confirm your e-mail address, {_with_token(params)}"


def _password_reset(params: Params) -> tuple[str, str]:
    return (
        "Reset your password",
        (
            f"To choose a new password, {_with_token(params)}\n\nIf you did not ask for this,"
            " you can ignore this mail."
        ),
    )


def _email_changed(params: Params) -> tuple[str, str]:
    return (
        "Your e-mail address was changed",
        (
            "Your account now uses another e-mail address. We will send no more mail to this"
            " one.\n\nIf you did not make this change, you can take the account back within seven"
            " days. To choose a new password and to restore this address,"
            f" {_with_token(params)}"
        ),
    )


def _password_changed(params: Params) -> tuple[str, str]:
    return (
        "Your password was changed",
        (
            "Your account has a new password, and all other devices were logged out.\n\nIf you did"
            " not make this change, you have one hour to choose another password: to do so,"
            f" {_with_token(params)}\n\nAfter that, ask for a new password instead."
        ),
    )


def _purchase(params: Params) -> tuple[str, str]:
    return (
        f"Your purchase: {params['titles']}",
        (
            f"Thank you for your order. You bought:\n\n{params['titles']}\n\n"
            f"Total: {params['total']}\nOrder: {params['order_id']}"
        ),
    )


def _order_cancelled(params: Params) -> tuple[str, str]:
    return (
        "Your order was cancelled",
        (
            f"Your order {params['order_id']} was cancelled{_why(params)}. You do not need to pay"
            f" for it.\n\n{params['titles']}"
        ),
    )


def _shipment_processing(params: Params) -> tuple[str, str]:
    return (
        "Your order is being prepared",
        (
            f"The seller is preparing these items of your order {params['order_id']}:"
            f"\n\n{params['titles']}"
        ),
    )


def _shipment_shipped(params: Params) -> tuple[str, str]:
    return (
        "Your order is on its way",
        (
            f"These items of your order {params['order_id']} are on their way:"
            f"\n\n{params['titles']}\n\n"
            f"Carrier: {params['carrier']}\nTracking number: {params['tracking_number']}"
        ),
    )


def _shipment_delivered(params: Params) -> tuple[str, str]:
    return (
        "Your order was delivered",
        (
            f"The carrier has delivered these items of your order {params['order_id']}:"
            f"\n\n{params['titles']}"
        ),
    )


def _shipment_to_process(params: Params) -> tuple[str, str]:
    return (
        f"To be sent: {params['titles']}",
        (
            f"An order has been paid. Please send:\n\n{params['titles']}\n\n"
            f"Order: {params['order_id']}\nShipment: {params['shipment_id']}"
        ),
    )


def _shipment_cancelled(params: Params) -> tuple[str, str]:
    return (
        "A shipment was cancelled",
        (
            "Please do not send these items, because their order was refunded:"
            f"\n\n{params['titles']}\n\n"
            f"Order: {params['order_id']}\nShipment: {params['shipment_id']}"
        ),
    )


def _seller_closed(params: Params) -> tuple[str, str]:
    return (
        "Parcels without a seller",
        (
            f"The account of the seller {params['seller_id']} is closed. These parcels have been"
            " paid for, but not sent. Send them as an ADMIN, or refund their orders."
            f"\n\n{params['shipments']}"
        ),
    )


def _low_stock(params: Params) -> tuple[str, str]:
    return (
        f"Low stock: {params['title']}",
        (
            f"{params['title']} (SKU {params['sku']}) is running low: {params['available']} left to"
            " sell."
        ),
    )


def _payment_failed(params: Params) -> tuple[str, str]:
    return (
        "Your payment failed",
        (
            f"The payment for your order {params['order_id']}"
            f" failed{_why(params)}:\n\n{params['titles']}"
        ),
    )


def _refund(params: Params) -> tuple[str, str]:
    to = "your wallet" if params.get("to") == "wallet" else "you"
    about = f", for your order {params['order_id']}" if params.get("order_id") else ""
    if not params["amount"]:
        return "Your refund", (
            f"Your purchase was undone{about}. It cost nothing, so there is no money to send back."
        )
    return "Your refund", f"We returned {params['amount']} to {to}{about}."


def _refund_reversed(params: Params) -> tuple[str, str]:
    about = f" for your order {params['order_id']}" if params.get("order_id") else ""
    return (
        "Your refund did not arrive",
        (
            f"The {params['amount']} that we returned{about} came back to us{_why(params)}. We will"
            " look into it."
        ),
    )


def _refund_failed(params: Params) -> tuple[str, str]:
    about = f" for the order {params['order_id']}" if params.get("order_id") else ""
    return (
        "A refund failed",
        (
            f"The refund of {params['amount']}{about} that you requested failed{_why(params)}. You"
            f" can request it again.\n\nPayment: {params['payment_id']}\nRefund:"
            f" {params['refund_id']}"
        ),
    )


def _deposit_reversed(params: Params) -> tuple[str, str]:
    owed = (
        f" You had already spent {params['owed']} of it, and now owe this amount. Money that comes"
        " into your wallet settles it first. Until then you cannot pay from your wallet."
        if params.get("owed")
        else ""
    )
    return (
        "Your deposit was taken back",
        (
            f"Your bank or the payment provider took back {params['amount']} of a deposit.{owed}"
            f"\n\nTransaction: {params['transaction_id']}"
        ),
    )


def _deposit_completed(params: Params) -> tuple[str, str]:
    return (
        "Your deposit",
        f"{params['amount']} are in your wallet now.\n\nTransaction: {params['transaction_id']}",
    )


def _deposit_failed(params: Params) -> tuple[str, str]:
    return (
        "Your deposit failed",
        (
            f"Your deposit of {params['amount']} failed{_why(params)}.\n\nTransaction:"
            f" {params['transaction_id']}"
        ),
    )


def _transfer_sent(params: Params) -> tuple[str, str]:
    return (
        f"You sent {params['amount']}",
        (
            f"You sent {params['amount']} from your wallet to another one.\n\nTransaction:"
            f" {params['transaction_id']}"
        ),
    )


def _transfer_received(params: Params) -> tuple[str, str]:
    return (
        f"You received {params['amount']}",
        (
            f"Your wallet received {params['amount']} from another one.\n\nTransaction:"
            f" {params['transaction_id']}"
        ),
    )


def _transfer_failed(params: Params) -> tuple[str, str]:
    back = (
        f" {params['refunded']} are back in your wallet."
        if params.get("refunded")
        else " Nothing was taken."
    )
    return (
        "Your transfer failed",
        (
            f"Your transfer of {params['amount']} failed{_why(params)}.{back}\n\nTransaction:"
            f" {params['transaction_id']}"
        ),
    )


def _why(params: Params) -> str:
    return f" ({params['detail']})" if params.get("detail") else ""


def _with_token(params: Params) -> str:
    """How to use the token: by a link with it, or as a code."""
    link = params.get("link")
    ways = [f"open this link:\n\n{link}"] if link else []
    if "token" in params or not link:
        ways.append(f"use this code:\n\n{params['token']}")
    return "\n\nor ".join(ways)


TEMPLATES: Mapping[str, Callable[[Params], tuple[str, str]]] = {
    "welcome": _welcome,
    "verification": _verification,
    "password_reset": _password_reset,
    "email_changed": _email_changed,
    "password_changed": _password_changed,
    "purchase": _purchase,
    "order_cancelled": _order_cancelled,
    "shipment_processing": _shipment_processing,
    "shipment_shipped": _shipment_shipped,
    "shipment_delivered": _shipment_delivered,
    "shipment_to_process": _shipment_to_process,
    "shipment_cancelled": _shipment_cancelled,
    "seller_closed": _seller_closed,
    "low_stock": _low_stock,
    "payment_failed": _payment_failed,
    "refund": _refund,
    "refund_reversed": _refund_reversed,
    "refund_failed": _refund_failed,
    "deposit_reversed": _deposit_reversed,
    "deposit_completed": _deposit_completed,
    "deposit_failed": _deposit_failed,
    "transfer_sent": _transfer_sent,
    "transfer_received": _transfer_received,
    "transfer_failed": _transfer_failed,
}
"""Parameters of each template:

- welcome, verification, password_reset, email_changed, password_changed: token, or link, or both
- purchase: titles, total, order_id
- order_cancelled, payment_failed: titles, order_id, detail?
- shipment_processing, shipment_delivered: titles, order_id
- shipment_shipped: titles, order_id, carrier, tracking_number
- shipment_to_process, shipment_cancelled (to the seller): titles, order_id, shipment_id
- seller_closed (to ADMINs): seller_id, shipments
- low_stock: title, sku, available
- refund: amount ("" when the order was free), order_id?, to? (`wallet`)
- refund_reversed: amount, order_id?, detail?
- refund_failed (to the ADMIN who requested it): amount, order_id?, detail?, payment_id, refund_id
- deposit_reversed: amount, transaction_id, owed?
- deposit_completed, transfer_sent, transfer_received: amount, transaction_id
- deposit_failed: amount, transaction_id, detail?
- transfer_failed: amount, transaction_id, detail?, refunded?

A transfer's notifications do not name the other person: the name would survive the forgetting of
its owner.
"""

PUSHED = frozenset({"purchase", "transfer_sent", "transfer_received"})
"""Templates that are also sent by push."""


def channels_of(template: str) -> tuple[Channel, ...]:
    """The channels of a template: mail for all, push for some."""
    return ("email", "push") if template in PUSHED else ("email",)
