"""The parcel carrier's webhook: signed as the payment provider's is, by secrets of its own."""

from collections.abc import Sequence
from datetime import datetime

from adapters.webhooks import signature as webhook_signature


class SharedSecrets:
    """Fulfils `commands.ports.signatures.CarrierSignatures` by secrets shared with the carrier: several, while one
    is rotated."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = tuple(secrets)

    def check(self, body: bytes, signature: str, now: datetime) -> None:
        """Return when one of the secrets signed this body. Raises InvalidSignature."""
        webhook_signature.verify(body, signature, self._secrets, now)
