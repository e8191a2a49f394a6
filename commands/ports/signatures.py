"""Signatures of the webhooks that come in."""

from datetime import datetime
from typing import Protocol


class InvalidSignature(Exception):
    """A webhook whose signature is missing, wrong, too old or from the future."""


class CarrierSignatures(Protocol):
    """Knows the parcel carrier's notices by their signatures."""

    def check(self, body: bytes, signature: str, now: datetime) -> None:
        """Return when the carrier signed this body within the last minutes. Raises
        InvalidSignature."""
        ...
