"""A provider's client secrets, sealed: whoever reads the log, the bus or an audit sees only a
reference.

The events' `client_secret_ref` is the secret under a key of the program's own, bound to its
payment; the gateway opens it for the payer alone.
"""

from uuid import UUID

from eventstore.codec import decrypt, encrypt

_FIELD = "client_secret"


class ClientSecrets:
    """Seals and opens them. `key`: 256 bits, shared by all processes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, payment_id: UUID, secret: str) -> str:
        """What may be kept in an event."""
        return encrypt(secret.encode(), self._key, payment_id, _FIELD)

    def open(self, payment_id: UUID, ref: str | None) -> str | None:
        """The secret; None when there is none, or it is another payment's."""
        text = decrypt(ref, self._key, payment_id, _FIELD) if ref else None
        return text.decode() if text else None
