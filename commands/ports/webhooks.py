"""Sending webhooks to merchants."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec


class WebhookMessage(msgspec.Struct, frozen=True):
    """A message to a merchant's server. A repeat has the same `message_id`. Each of the secrets
    signs the message."""

    message_id: str
    url: str
    body: bytes
    secrets: Sequence[str]
    sent_at: datetime


class WebhookUnsent(Exception):
    """The message did not arrive, as far as we know: send it again. `code` says why (`timeout`,
    `http_500`, …)."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class WebhookSender(Protocol):
    """Calls merchants' servers, but none in our own network."""

    async def check(self, url: str) -> None:
        """Raises Invalid("webhook_url_refused") for a URL that it would not call."""
        ...

    async def send(self, message: WebhookMessage) -> int:
        """Post the message. Returns the HTTP status of the answer, whatever it is. Raises
        WebhookUnsent without an answer."""
        ...
