"""The test cards there are, and what becomes of a payment by them; docs/payments.md has the same
table. The names are Stripe's, where it has such a card (https://docs.stripe.com/testing,
"PaymentMethods").
"""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct


class TestMethod(StrEnum):
    """The cards that the code names."""

    VISA = "pm_card_visa"
    DECLINED = "pm_card_chargeDeclined"
    AUTHENTICATION_REQUIRED = "pm_card_authenticationRequired"
    TIMEOUT = "pm_card_timeout"
    """Captured, but the answer comes too late for the caller."""
    PROCESSOR_DOWN = "pm_card_processorDown"
    SLOW = "pm_card_slow"
    """Processing at first, captured some time later."""
    PENDING_REFUND = "pm_card_pendingRefund"
    """Captured; a refund is pending at first, and succeeds some time later."""
    REFUND_FAIL = "pm_card_refundFail"
    """Captured; a refund is pending at first, and fails some time later. (Stripe's says "succeeded"
    at first.)"""


class PaymentError(Struct, frozen=True, omit_defaults=True):
    """Why the last attempt to pay failed."""

    code: str
    message: str
    decline_code: str = ""


PAY = frozenset(
    {
        *("pm_card_visa", "pm_card_visa_debit"),
        *("pm_card_mastercard", "pm_card_mastercard_debit", "pm_card_mastercard_prepaid"),
        *("pm_card_amex", "pm_card_discover", "pm_card_diners", "pm_card_jcb", "pm_card_unionpay"),
        "pm_card_threeDSecureOptional",
        *(TestMethod.TIMEOUT, TestMethod.PENDING_REFUND, TestMethod.REFUND_FAIL),
    }
)
"""Captured at once."""

_DECLINED = PaymentError("card_declined", "The card was declined.", "generic_decline")
_NO_FUNDS = PaymentError("card_declined", "The card has insufficient funds.", "insufficient_funds")

_DECLINES = {
    "": _DECLINED,
    "InsufficientFunds": _NO_FUNDS,
    "LostCard": PaymentError("card_declined", "The card was declined.", "lost_card"),
    "StolenCard": PaymentError("card_declined", "The card was declined.", "stolen_card"),
    "Fraudulent": PaymentError("card_declined", "The card was declined.", "fraudulent"),
    "VelocityLimitExceeded": PaymentError(
        "card_declined", "The card's limit is exceeded.", "card_velocity_exceeded"
    ),
    "ExpiredCard": PaymentError("expired_card", "The card has expired.", "expired_card"),
    "IncorrectCvc": PaymentError(
        "incorrect_cvc", "The card's security code is incorrect.", "incorrect_cvc"
    ),
    "ProcessingError": PaymentError(
        "processing_error", "The card could not be processed.", "processing_error"
    ),
}

DECLINE: Mapping[str, PaymentError] = {
    **{
        f"pm_card_{brand}chargeDeclined{why}": error
        for why, error in _DECLINES.items()
        for brand in ("", "visa_")
    },
    "pm_card_chargeCustomerFail": _DECLINED,
}
"""Declined at once, and why."""

AUTHENTICATE: Mapping[str, PaymentError | None] = {
    TestMethod.AUTHENTICATION_REQUIRED: None,
    "pm_card_authenticationRequiredOnSetup": None,
    "pm_card_threeDSecureRequired": None,
    "pm_card_threeDSecure2Required": None,
    "pm_card_threeDSecureRequiredChargeDeclined": _DECLINED,
    "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds": _NO_FUNDS,
}
"""The payer has to approve on a page (3-D Secure); why the card is declined once they have, if it
is."""

ALL = PAY | DECLINE.keys() | AUTHENTICATE.keys() | set(TestMethod)
