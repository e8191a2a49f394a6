"""A notice as a mail (RFC 5322), independent of its transport."""

import re
from contextlib import suppress
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTPUTF8, default
from email.utils import formatdate, parseaddr, quote, unquote

from commands.ports.notifications import Message
from domain.email_addresses import deliverable
from domain.errors import Invalid

SENDER = "Ludoteca <no-reply@ludoteca.invalid>"
"""The sender of mails that do not leave the machine."""

MAX_LINE = 998
"""Octets of a mail's line (RFC 5322, 2.1.1)."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def to_mail(message: Message, sender: str = SENDER) -> EmailMessage:
    """The message by RFC 5322. A repeated notice has the same Message-ID, and is recognised by it.

    Raises ValueError when the address cannot be written in a header.
    """
    name, address = parseaddr(sender)
    to = _address(message.name, message.email)
    # RFC 6531 only where it is needed
    mail = EmailMessage(SMTPUTF8 if not to.username.isascii() else default)
    mail["From"], mail["To"] = _address(name, address), to
    mail["Subject"] = _one_line(message.subject)
    mail["Message-ID"] = f"<{message.notification_id}@{mail['From'].addresses[0].domain}>"
    mail["Date"] = formatdate(usegmt=True)
    mail["Auto-Submitted"] = "auto-generated"  # prevents automatic replies (RFC 3834)
    mail.set_content(message.text, cte=_encoding(message.text))
    return mail


def _address(name: str, address: str) -> Address:
    """A mailbox, with its domain in ASCII (IDNA 2008), which every server accepts. Raises
    ValueError."""
    local, _, domain = _written(address).rpartition("@")
    return Address(_one_line(name), unquote(local) if local.startswith('"') else local, domain)


def _written(address: str) -> str:
    """The address as in a header; an older release may have stored it without the quotes that it
    needs."""
    local, _, domain = address.rpartition("@")
    for spelling in (address, f'"{quote(local)}"@{domain}'):
        with suppress(Invalid):
            return deliverable(spelling)
    raise ValueError("that is not an e-mail address")


def _one_line(text: str) -> str:
    """The text without line breaks, which would start another header, and without other control
    characters."""
    return " ".join(_CONTROLS.sub(" ", text).split())


def _encoding(text: str) -> str:
    """Unencoded when the lines are short enough, so that a token stays in one piece."""
    if max(map(len, text.encode().splitlines()), default=0) > MAX_LINE:
        return "quoted-printable"
    return "7bit" if text.isascii() else "8bit"
