"""Signatures of incoming webhooks."""

from datetime import datetime
from typing import Protocol


class InvalidSignature(Exception):
    """A webhook whose signature is missing, wrong, too old or from the future."""


class CarrierSignatures(Protocol):
    """Verifies the signatures of parcel carriers' notices."""

    def check(self, body: bytes, signature: str, now: datetime) -> None:
        """Raises InvalidSignature unless the carrier signed this body within the last minutes."""
        ...
