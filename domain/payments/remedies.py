"""What a buyer can try after a payment failed."""

from collections.abc import Mapping, Sequence
from typing import Literal

Remedy = Literal["same_card", "corrected_details", "another_card", "wallet"]

_AGAIN: Remedy = "same_card"
_CORRECTED: Remedy = "corrected_details"
_FIRST: Mapping[str, Remedy] = {
    "processing_error": _AGAIN,
    "provider_unavailable": _AGAIN,
    "payment_interrupted": _AGAIN,
    "payment_intent_authentication_failure": _AGAIN,
    "expired_card": _CORRECTED,
    "incorrect_address": _CORRECTED,
    "incorrect_cvc": _CORRECTED,
    "incorrect_number": _CORRECTED,
    "incorrect_zip": _CORRECTED,
    "invalid_cvc": _CORRECTED,
    "invalid_expiry_month": _CORRECTED,
    "invalid_expiry_year": _CORRECTED,
    "invalid_number": _CORRECTED,
}
"""What is worth a try with the same card, by the code of the failure: Stripe's error codes
(https://docs.stripe.com/error-codes) and the shop's own."""

_WORDS: Mapping[Remedy, str] = {
    "same_card": "try the same card again",
    "corrected_details": "check the card's details",
    "another_card": "pay with another card",
    "wallet": "pay from your wallet",
}


def remedies(code: str | None, *, is_deposit: bool = False) -> Sequence[Remedy]:
    """What to try after a failure with this code, the most promising first. A deposit is never paid
    from a wallet."""
    first = _FIRST.get(code or "")
    last: Sequence[Remedy] = ("another_card",) if is_deposit else ("another_card", "wallet")
    return (first, *last) if first else last


def in_words(tries: Sequence[Remedy]) -> str:
    """The remedies as a sentence."""
    *others, last = (_WORDS[each] for each in tries)
    return f"You can {', '.join(others)} or {last}." if others else f"You can {last}."
