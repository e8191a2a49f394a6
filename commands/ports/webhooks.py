"""What posts webhooks to merchants."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec


class WebhookMessage(msgspec.Struct, frozen=True):
    """One message to a merchant's server. A repeat has the same `message_id`; each of the secrets
    signs it."""

    message_id: str
    url: str
    body: bytes
    secrets: Sequence[str]
    sent_at: datetime


class WebhookUnsent(Exception):
    """The message did not arrive, as far as we know: send it again. `code` says why (timeout,
    http_500, …)."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class WebhookSender(Protocol):
    """Calls servers of merchants, but none in our own network."""

    async def check(self, url: str) -> None:
        """Raises Invalid("webhook_url_refused") when it would not call this."""
        ...

    async def send(self, message: WebhookMessage) -> int:
        """Post the message; returns the answer's HTTP status, whatever it is. Raises WebhookUnsent
        without one."""
        ...
