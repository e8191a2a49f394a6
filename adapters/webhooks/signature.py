"""Webhook signatures: `t=<unix seconds>,v1=<hex hmac-sha256 of "t.body">`.

Stripe's scheme (https://docs.stripe.com/webhooks/signature). A header may carry several `v1`, and
the receiver may have several secrets, so that either side can rotate a secret without losing a
notice.
"""

import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta

from commands.ports.signatures import InvalidSignature

TOLERANCE = timedelta(seconds=300)
"""How far the time of signing may differ from ours."""


def sign(body: bytes, secret: str, timestamp: int) -> str:
    """The header for a body sent at `timestamp` (unix seconds)."""
    return f"t={timestamp},v1={_digest(body, secret, str(timestamp))}"


class SignatureVerifier:
    """Verifies bodies with secrets shared with the signer: several, during a rotation.

    Implements `commands.ports.signatures.CarrierSignatures`. An empty secret never verifies
    anything.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = tuple(secret for secret in secrets if secret)

    def check(self, body: bytes, signature: str, now: datetime) -> None:
        """Return when one of the secrets signed this body within the tolerance, before or after
        `now`.

        Raises InvalidSignature.
        """
        check_time(signature, now)
        timestamp, signatures = _parse(signature)
        expected = [_digest(body, secret, timestamp).encode() for secret in self._secrets]
        if not any(
            hmac.compare_digest(known, given.encode()) for known in expected for given in signatures
        ):
            raise InvalidSignature("no signature matches")


def check_time(header: str, now: datetime) -> None:
    """Return when the header is well-formed and its time within the tolerance, before or after
    `now`.

    Raises InvalidSignature otherwise. Does not verify the signature.
    """
    timestamp, _ = _parse(header)
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        raise InvalidSignature("the signature is too old or from the future")


def _parse(header: str) -> tuple[str, list[str]]:
    parts = [part.strip().partition("=") for part in header.split(",")]
    if not header.isascii():
        raise InvalidSignature("the header is not ASCII")
    timestamps = [value for name, _, value in parts if name == "t"]
    signatures = [value for name, _, value in parts if name == "v1"]
    if len(timestamps) != 1 or not signatures:
        raise InvalidSignature("the header needs one t and at least one v1")
    timestamp = timestamps[0]
    if not (timestamp.isdigit() and len(timestamp) <= 12):
        raise InvalidSignature("t is not a unix time")
    return timestamp, signatures


def _digest(body: bytes, secret: str, timestamp: str) -> str:
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
