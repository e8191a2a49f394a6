"""A real SMTP server that records its mails, and refuses on demand."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from uuid import UUID

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from commands.ports.notifications import Message

LOGIN = LoginPassword(b"shop", b"p@ss:word")
SENDER = "Ludoteca <no-reply@shop.example>"


@dataclass
class Postbox:
    """The mails that the server accepted. Its next answers to a recipient or a message are taken
    from `recipients` and `messages`; when these are empty it accepts everything, or refuses
    everybody with `refusal`."""

    port: int = 0
    recipients: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    refusal: str = ""
    envelopes: list[Envelope] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def mails(self, to: str | None = None) -> list[EmailMessage]:
        taken = [each for each in self.envelopes if to is None or each.rcpt_tos == [to]]
        contents = [bytes(each.content or b"") for each in taken]  # type: ignore[arg-type]
        return [
            message_from_bytes(content.replace(b"\r\n", b"\n"), policy=policy.default)
            for content in contents
        ]

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _: object
    ) -> str:
        if self.recipients:
            return self.recipients.pop(0)
        if self.refusal:
            return self.refusal
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        if self.messages:
            return self.messages.pop(0)
        self.envelopes.append(envelope)
        return f"250 queued as {len(self.envelopes)} for <{envelope.rcpt_tos[0]}>"


def check_login(
    _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: object
) -> AuthResult:
    return AuthResult(success=data == LOGIN, handled=False)


@asynccontextmanager
async def smtp_server(
    tls: ssl.SSLContext | None = None, **settings: object
) -> AsyncIterator[Postbox]:
    """A server on a free port, in this event loop; with `tls` it speaks TLS from the first byte."""
    postbox = Postbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(postbox, hostname="mx.example", **settings),  # type: ignore[arg-type]
        "127.0.0.1",
        0,
        ssl=tls,
    )
    postbox.port = server.sockets[0].getsockname()[1]
    try:
        yield postbox
    finally:
        server.close()
        await server.wait_closed()


def certified() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS contexts for a server at 127.0.0.1, and for clients that trust its certificate."""
    authority = trustme.CA()
    server, client = (
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
        ssl.create_default_context(),
    )
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def a_message(**fields: object) -> Message:
    """A notification to Ann."""
    usual = {
        "notification_id": UUID(int=7),
        "user_id": UUID(int=8),
        "template": "purchase",
        "email": "ann@example.com",
        "name": "Ann",
        "subject": "Your purchase",
        "text": "Hello Ann,\n\nThank you.\n",
    }
    return Message(**{**usual, **fields})  # type: ignore[arg-type]
