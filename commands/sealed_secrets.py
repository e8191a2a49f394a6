"""Secrets as the log may have them: sealed, so that a reader of the log, the bus or an audit sees
only a reference.

A provider's client secret is an event's `client_secret_ref`, and a merchant's webhook secret its
`secret_ref`: the secret encrypted under a key of the program's own, bound to its payment or its
endpoint.
"""

from uuid import UUID

from eventstore.codec import decrypt, encrypt

_FIELD = "client_secret"


class SealedSecrets:
    """Seals and opens secrets. `key`: 256 bits, shared by all processes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, owner_id: UUID, secret: str) -> str:
        """The reference that an event may keep."""
        return encrypt(secret.encode(), self._key, owner_id, _FIELD)

    def open(self, owner_id: UUID, ref: str | None) -> str | None:
        """The secret; None without a reference, or when it was sealed for another owner."""
        text = decrypt(ref, self._key, owner_id, _FIELD) if ref else None
        return text.decode() if text else None
