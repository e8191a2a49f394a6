"""Mail by SMTP, one connection per message."""

import asyncio
import re
import ssl
from urllib.parse import unquote, urlsplit

import aiosmtplib
from aiosmtplib import (
    SMTPAuthenticationError,
    SMTPException,
    SMTPNotSupported,
    SMTPRecipientsRefused,
    SMTPResponseException,
)

from adapters.notifications.mail_message import to_mail
from commands.ports.notifications import Message, NotDelivered
from kit.metrics import timed_call

START_TLS: dict[str, bool | None] = {"smtp": None, "smtp+starttls": True, "smtps": False}
"""By the URL's scheme: `smtp` encrypts when the server offers it, `smtp+starttls` requires it,
`smtps` uses TLS at once."""

MAX_CONNECTIONS = 8
"""How many sessions a process has at a time with a server, which may allow only a few."""

_ADDRESS = re.compile(r"[^\s<>]+@[^\s<>]+")
_REFERENCE_LENGTH = 200


class SmtpMailer:
    """Implements `MessageTransport` with the SMTP server of a URL:
    `smtp://user:password@host:port`, `smtp+starttls://…`, `smtps://…`.

    `timeout_seconds` bounds each step of a session; a server that scans mails before accepting them
    needs time.
    """

    def __init__(
        self,
        url: str,
        sender: str,
        *,
        timeout_seconds: float = 30.0,
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        self._url = urlsplit(url)
        self._sender = sender
        self._timeout = timeout_seconds
        self._tls_context = tls_context
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)

    async def send(self, message: Message) -> str:
        """Hand the mail to the server. Returns its answer. Raises NotDelivered."""
        try:
            mail = to_mail(message, self._sender)
        except ValueError as error:
            raise NotDelivered(
                "recipient_refused", "the address cannot be written in a mail"
            ) from error
        url = self._url
        try:
            async with self._places:
                with timed_call("smtp", SMTPRecipientsRefused, SMTPResponseException):
                    _, answer = await aiosmtplib.send(
                        mail,
                        hostname=url.hostname,
                        port=url.port,
                        username=unquote(url.username) if url.username else None,
                        password=unquote(url.password) if url.password else None,
                        use_tls=url.scheme == "smtps",
                        start_tls=START_TLS[url.scheme],
                        tls_context=self._tls_context,
                        timeout=self._timeout,
                    )
        except (SMTPException, OSError, ValueError) as error:
            raise _not_delivered(error, message) from error
        return _nameless(answer, message)


def _not_delivered(error: Exception, message: Message) -> NotDelivered:
    """The failure, by the server's reply code: 5xx is permanent, 4xx temporary."""
    if isinstance(error, SMTPRecipientsRefused):
        refusal = error.recipients[0]
        return _refused("recipient_refused", refusal.code, refusal.message, message)
    if isinstance(error, SMTPAuthenticationError):
        return _refused("login_refused", error.code, error.message, message)
    if isinstance(error, SMTPResponseException):
        return _refused("message_refused", error.code, error.message, message)
    if isinstance(error, SMTPNotSupported | ValueError) and not isinstance(error, OSError):
        return NotDelivered("message_refused", _nameless(str(error), message))
    return NotDelivered("unreachable", _nameless(f"{type(error).__name__}: {error}", message))


def _refused(code: str, reply: int, text: str, message: Message) -> NotDelivered:
    return NotDelivered(
        code if reply >= 500 else "try_later", _nameless(f"{reply} {text}", message)
    )


def _nameless(text: str, message: Message) -> str:
    """A server's words without addresses and the recipient's names: they go to dead letters and the
    log, where personal data must not."""
    words = _ADDRESS.sub("…", " ".join(text.split()))
    names = {message.name, message.email.rpartition("@")[0]} - {""}
    for name in sorted(names, key=len, reverse=True):
        words = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", words, flags=re.IGNORECASE)
    return words[:_REFERENCE_LENGTH]
