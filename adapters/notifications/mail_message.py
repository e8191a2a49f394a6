"""A notice as a mail (RFC 5322): what it looks like whichever way it goes."""

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
"""Who mails come from as long as none of them leaves the machine."""

MAX_LINE = 998
"""Octets that a line of a mail may have (RFC 5322, 2.1.1)."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def to_mail(message: Message, sender: str = SENDER) -> EmailMessage:
    """The message as RFC 5322 has it. The same notice has the same Message-ID, so that a repeat is known as such.

    Raises ValueError when the address cannot be written in a header.
    """
    name, address = parseaddr(sender)
    to = _address(message.name, message.email)
    mail = EmailMessage(SMTPUTF8 if not to.username.isascii() else default)  # RFC 6531 only where it is needed
    mail["From"], mail["To"] = _address(name, address), to
    mail["Subject"] = _one_line(message.subject)
    mail["Message-ID"] = f"<{message.notice_id}@{mail['From'].addresses[0].domain}>"
    mail["Date"] = formatdate(usegmt=True)
    mail["Auto-Submitted"] = "auto-generated"  # so that nobody's holiday replies to it (RFC 3834)
    mail.set_content(message.text, cte=_encoding(message.text))
    return mail


def _address(name: str, address: str) -> Address:
    """A mailbox; its domain in ASCII (IDNA 2008), which every server takes. Raises ValueError."""
    local, _, domain = _written(address).rpartition("@")
    return Address(_one_line(name), unquote(local) if local.startswith('"') else local, domain)


def _written(address: str) -> str:
    """As it stands in a header; an older release may have kept it without the quotes that it needs."""
    local, _, domain = address.rpartition("@")
    for spelling in (address, f'"{quote(local)}"@{domain}'):
        with suppress(Invalid):
            return deliverable(spelling)
    raise ValueError("that is not an e-mail address")


def _one_line(text: str) -> str:
    """Without line breaks, which would begin another header, and other control characters."""
    return " ".join(_CONTROLS.sub(" ", text).split())


def _encoding(text: str) -> str:
    """As it is where the lines are short enough, so that a token in it stays in one piece."""
    if max(map(len, text.encode().splitlines()), default=0) > MAX_LINE:
        return "quoted-printable"
    return "7bit" if text.isascii() else "8bit"
