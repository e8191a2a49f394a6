"""What happened, in words: refusals, statuses and events as sentences."""

import re
from collections.abc import Sequence

from web.api_client import Problem

_SENTENCES = {
    "account_has_obligations": "Something of yours is still on its way. Close the account without"
    " being forgotten, or wait until it is settled.",
    "already_in_cart": "This game is in your cart already.",
    "already_owned": "You own this game already: it is in your library.",
    "body_too_large": "That is too large. A picture has at most 5 MiB.",
    "cart_changed": "Something has changed since you filled your cart. It shows what can be bought"
    " now: have a look, then check out again.",
    "cart_empty": "Your cart is empty.",
    "currency_mismatch": "This is in another currency than the rest. Pay for the rest first.",
    "current_password_wrong": "This is not your current password.",
    "disabled_by_operator": "The shop's operator has disabled this, and has to enable it again.",
    "duplicate_price": "There are two prices for one region.",
    "email_taken": "There is an account with this e-mail address already.",
    "game_published": "This game has been on sale, and cannot become a draft again. Take it off"
    " sale instead.",
    "game_retired": "This game is off sale for good, and cannot be changed any more.",
    "game_unavailable": "This game is not on sale in your region.",
    "image_broken": "This picture cannot be read. It may be cut off.",
    "image_not_found": "There is no such picture any more. Add it again.",
    "image_too_large": "This picture has too many pixels.",
    "image_unreachable": "No picture could be loaded from this address.",
    "image_unsupported": "This is not a PNG, JPEG or WebP picture.",
    "image_url_refused": "Pictures can be loaded only from public https addresses.",
    "insufficient_funds": "There is not enough money in the wallet.",
    "insufficient_stock": "There are not that many left.",
    "invalid_as_of": "This is neither a position of the log nor a time.",
    "invalid_credentials": "The e-mail or the password is wrong.",
    "invalid_email": "This is not an e-mail address that mail can be sent to.",
    "invalid_region": "Choose a country.",
    "invalid_token": "This link has expired, or was used already. Ask for a new one.",
    "kind_fixed": "A game cannot change between digital and physical: list another one.",
    "last_admin": "The last administrator's account cannot be closed.",
    "order_cancelled": "This order was cancelled. Nothing was charged.",
    "order_expired": "This order was not paid in time, and has expired.",
    "order_not_cancellable": "This order can no longer be cancelled.",
    "order_paid": "This order is paid.",
    "order_pending": "You have an order of this game that is not paid yet.",
    "payment_started": "The payment of this order is under way.",
    "price_required": "A game that is on sale needs a price.",
    "position_unknown": "The log does not go that far yet.",
    "rate_limited": "That was too much at once. Wait a moment, then try again.",
    "recipient_closed": "The owner of that wallet has closed their account.",
    "shipment_not_pending": "This shipment has moved on meanwhile.",
    "shipment_not_processing": "This shipment cannot be handed over now: it is not being packed.",
    "shipment_provisional": "This order is not paid yet.",
    "sku_taken": "You have another game with this SKU.",
    "stock_below_commitments": "Carts and orders hold more units than that.",
    "too_many_tries": "This payment was tried too often. Order again.",
    "too_many_webhook_endpoints": "You have as many endpoints as one can have. Delete one first.",
    "user_inactive": "This account is closed.",
    "version_conflict": "This has changed meanwhile. Look at the new figures, then try again.",
    "version_mismatch": "This was changed meanwhile, maybe in another window. Look at it again,"
    " then save.",
    "wallet_exists": "You have a wallet in this currency already.",
    "wallet_frozen": "This wallet is frozen until what is owed has been paid in.",
    "wallet_inactive": "This wallet is deactivated.",
    "wallet_not_found": "There is no such wallet.",
    "weak_password": "A password has at least 10 characters.",
    "webhook_endpoint_disabled": "This endpoint is disabled: enable it first.",
    "webhook_url_refused": "Messages are sent only to public https addresses.",
}

_FAILURES = {
    "expired_card": "The card has expired.",
    "incorrect_cvc": "The security code of the card is wrong.",
    "insufficient_funds": "There is not enough money in the wallet.",
    "payment_intent_authentication_failure": "You did not confirm the payment at your bank.",
    "payment_method_unknown": "This card is not known.",
    "processing_error": "The card could not be charged this time.",
    "provider_unavailable": "Cards cannot be charged at the moment.",
}
"""Why a payment failed, by its code; for any other code the provider's own words are shown."""

_INVALID = {
    "missing": "Fill this in.",
    "string_too_short": "Fill this in.",
    "uuid_parsing": "This is not a number as the shop gives it. Copy it as a whole.",
    "int_parsing": "This is not a whole number.",
    "int_from_float": "This is not a whole number.",
    "date_from_datetime_parsing": "This is not a date.",
    "date_parsing": "This is not a date.",
}
"""What is wrong with a field, by the validator's code."""

_BOUNDS = {
    "string_too_long": "At most {} characters.",
    "too_long": "At most {} of them.",
    "greater_than_equal": "At least {}.",
    "greater_than": "More than {}.",
    "less_than_equal": "At most {}.",
}
"""The same where the validator's message has the bound, as its first number."""

_WAYS = {
    "already_in_cart": ("/cart", "To your cart"),
    "already_owned": ("/library", "To your library"),
    "currency_mismatch": ("/cart", "To your cart"),
    "order_pending": ("/orders/{order_id}", "To the order"),
}
"""Where a refusal leads on to, by its code, and how that is called."""

_ERROR_PAGES = {
    400: (
        "Not understood",
        "This could not be read as it was sent. Too many files at once, maybe: try fewer.",
    ),
    403: ("Not yours", "You may not see this, or do this."),
    404: ("Not found", "There is nothing here: it may have moved, or never existed."),
    405: ("Not possible", "This page does not do that."),
    413: ("Too large", "That was more than a form may send."),
    429: ("Too much at once", "Wait a moment, then try again."),
    503: (
        "Just a moment",
        "A part of the shop cannot be reached right now. Nothing was lost.",
    ),
}
_OUR_FAULT = (
    "Something went wrong",
    "It is our fault, and we have a record of it. Try again later.",
)

_STATUSES = {
    # orders
    "PENDING_PAYMENT": "Waiting for payment",
    "CONFIRMED": "Paid",
    "PROCESSING": "In progress",
    "PARTIALLY_SHIPPED": "Partly shipped",
    "SHIPPED": "Shipped",
    "PARTIALLY_DELIVERED": "Partly delivered",
    "DELIVERED": "Delivered",
    "COMPLETED": "Completed",
    "CANCELLED": "Cancelled",
    "REFUNDED": "Refunded",
    "PARTIALLY_REFUNDED": "Partly refunded",
    # payments and transactions
    "PENDING": "Pending",
    "REQUIRES_ACTION": "Waiting for your bank",
    "CAPTURED": "Paid",
    "FAILED": "Failed",
    # wallets and games
    "ACTIVE": "Active",
    "INACTIVE": "Deactivated",
    "FROZEN": "Frozen",
    "DRAFT": "Draft",
    "SUSPENDED": "Suspended",
    "RETIRED": "Off sale",
    # webhook endpoints
    "ENABLED": "Enabled",
    "DISABLED": "Disabled",
}

_PARCELS = {
    "PENDING": ("To pack", "warn"),
    "PROCESSING": ("To hand over", "accent"),
    "SHIPPED": ("On the way", "good"),
    "DELIVERED": ("Delivered", "good"),
    "CANCELLED": ("Cancelled", "open"),
}
"""A parcel's statuses for its seller, and how they look."""

_NO_PARCELS = {
    "PENDING": "Nothing is to be packed.",
    "PROCESSING": "Nothing is to be handed over.",
    "SHIPPED": "Nothing is on its way.",
    "DELIVERED": "Nothing was delivered yet.",
    "CANCELLED": "No shipment was cancelled.",
}

_BUYERS_PARCELS = {"PENDING": "Not packed yet", "PROCESSING": "Being packed"}
"""A parcel's statuses for its buyer, as far as they are called otherwise than an order's."""

_SELLERS_GAMES = {
    "ACTIVE": ("On sale", "good"),
    "DRAFT": ("Draft", "open"),
    "RETIRED": ("Off sale", "open"),
    "SUSPENDED": ("Suspended", "bad"),
}
"""A game's statuses for its seller, and how they look."""

PARCEL_STATUSES = tuple((status, text) for status, (text, _) in _PARCELS.items())
"""For choosing among them."""

TRIES = {
    "same_card": "try the same card again",
    "corrected_details": "check the card's details",
    "another_card": "pay with another card",
    "wallet": "pay from your wallet",
}
"""What can be tried after a payment failed."""

_HAPPENED = {
    "order.created": "Ordered",
    "order.completed": "Completed",
    "order.cancelled": "Cancelled",
    "order.refunded": "Refunded",
    "order.refund_reversed": "The refund came back",
    "payment.method_attached": "Way of paying chosen",
    "payment.processing": "Payment under way",
    "payment.action_required": "Your bank asks you to confirm",
    "payment.transaction.completed": "Paid",
    "payment.transaction.failed": "Payment failed",
    "payment.refund_requested": "Refund asked for",
    "payment.refund_accepted": "Refund under way",
    "payment.refunded": "Money returned",
    "payment.refund_failed": "Refund failed",
    "payment.fiscal.receipt.created": "Receipt issued",
    "payment.fiscal.receipt.failed": "Receipt delayed",
    "shipment.confirmed": "The seller was told",
    "shipment.status_updated": "Parcel",
}
"""Events of an order's timeline, by their names without the version."""

_INSIDE = frozenset(
    {
        "order.confirmed",
        "order.status_changed",
        "payment.requested",
        "payment.submitted",
        "payment.intent_created",
        "payment.intent_cancelled",
        "payment.notice_received",
        "payment.fiscal.receipt.requested",
        "shipment.created",
    }
)
"""Events that tell a buyer nothing beside the others."""

_PLATFORMS = {"windows": "Windows", "mac": "macOS", "linux": "Linux"}

_GOOD = frozenset(
    {"CONFIRMED", "COMPLETED", "DELIVERED", "SHIPPED", "CAPTURED", "ACTIVE", "ENABLED"}
)
_BAD = frozenset({"CANCELLED", "FAILED", "INACTIVE", "FROZEN", "SUSPENDED", "DISABLED"})


def error_page(status: int) -> tuple[str, str]:
    """The title and the text of a page that only says what went wrong."""
    return _ERROR_PAGES.get(status, _OUR_FAULT)


def sentence(problem: Problem) -> str:
    """A refusal, for the person who caused it."""
    known = _SENTENCES.get(problem.code)
    if known is not None:
        return known
    if problem.code == "transaction_failed":
        why = failure(str(problem.extra.get("failure_code")))
        return f"That did not work. {why} {tries(problem.extra.get('try_next', ()))}".rstrip()
    return as_sentence(problem.detail or problem.code.replace("_", " "))


def way_on(problem: Problem) -> tuple[str, str] | None:
    """The path and the label of a page that helps after a refusal; None if there is none."""
    path, label = _WAYS.get(problem.code, ("", ""))
    return (path.format(**problem.extra), label) if path else None


def failure(code: str, detail: str | None = None) -> str:
    """Why a payment failed, as a sentence."""
    return _FAILURES.get(code) or as_sentence(detail or code.replace("_", " "))


def field_sentence(code: str, message: str) -> str:
    """What is wrong with a field, for the person who filled it in."""
    known = _INVALID.get(code) or _SENTENCES.get(code)
    if known is not None:
        return known
    bound = re.search(r"-?\d+", message)
    if code in _BOUNDS and bound:
        return _BOUNDS[code].format(bound[0])
    return as_sentence(message.removeprefix("Value error, "))


def as_sentence(text: str) -> str:
    """A text that begins with a capital letter and ends with a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def status_word(status: str) -> str:
    """A status in words."""
    return _STATUSES.get(status) or status.replace("_", " ").capitalize()


def platform(name: str) -> str:
    """A platform as its maker writes it."""
    return _PLATFORMS.get(name.lower(), name)


def status_kind(status: str) -> str:
    """How a status looks: `good`, `bad` or `open`."""
    return "good" if status in _GOOD else "bad" if status in _BAD else "open"


def parcel_status(status: str) -> tuple[str, str]:
    """A parcel's status for its seller: in words, and how it looks."""
    return _PARCELS.get(status) or (status_word(status), "open")


def no_parcels(status: str) -> str:
    """That a seller has no parcel of this status."""
    return _NO_PARCELS.get(status, "There is none.")


def buyers_parcel_status(status: str) -> tuple[str, str]:
    """A parcel's status for its buyer: in words, and how it looks."""
    return _BUYERS_PARCELS.get(status) or status_word(status), status_kind(status)


def sellers_game_status(status: str) -> tuple[str, str]:
    """A game's status for its seller: in words, and how it looks."""
    return _SELLERS_GAMES.get(status) or (status_word(status), "open")


def event_word(name: str) -> str:
    """An event of a timeline in words. One without words of its own gets them from its name:
    `order.line.added.v1` is "Order line added"."""
    known = name.rsplit(".v", 1)[0]
    words = _HAPPENED.get(known) or known.replace(".", " ").replace("_", " ")
    return words[:1].upper() + words[1:]


def concerns_buyers(name: str) -> bool:
    """Whether a buyer's timeline shows an event of this name."""
    return name.rsplit(".v", 1)[0] not in _INSIDE


def tries(names: Sequence[str]) -> str:
    """What can be tried, as a sentence; empty where there is nothing."""
    *others, last = [TRIES[name] for name in names if name in TRIES] or [""]
    if not others:
        return f"You can {last}." if last else ""
    return f"You can {', '.join(others)} or {last}."
