"""A notice as a mail (RFC 5322), independent of its transport."""

import re
from contextlib import suppress
from email.headerregistry import Address, BaseHeader, HeaderRegistry
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import formatdate, parseaddr, quote, unquote
from functools import lru_cache

from commands.ports.notifications import Message
from domain.email_addresses import deliverable
from domain.errors import Invalid

SENDER = "Ludoteca <no-reply@ludoteca.invalid>"
"""The sender of mails that do not leave the machine."""

MAX_LINE = 998
"""Octets of a mail's line (RFC 5322, 2.1.1)."""

MAX_PLAIN_LINE = 78
"""Characters of a header's line that need no folding (RFC 5322, 2.1.1)."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class _Headers(HeaderRegistry):
    """Remembers what it has made, as most headers are the same in every mail: parsing them, and
    making a class for each, takes longer than all else about a mail."""

    @lru_cache(maxsize=32)  # noqa: B019  there is one registry
    def __getitem__(self, name: str) -> type[BaseHeader]:
        return super().__getitem__(name)

    @lru_cache(maxsize=256)  # noqa: B019
    def _parsed(self, name: str, text: str) -> BaseHeader:
        return super().__call__(name, text)

    def __call__(self, name: str, value: object) -> BaseHeader:
        if isinstance(value, str):
            return self._parsed(name, value)
        return super().__call__(name, value)


class _Policy(EmailPolicy):
    """Writes a short header as it stands: the library's folding, which does the same after parsing
    it, takes as long as all else about a mail."""

    def fold_binary(self, name: str, value: str) -> bytes:
        """The header's line or lines."""
        line = f"{name}: {value}"
        is_plain = line.isascii() and line.isprintable() and "=?" not in line
        if is_plain and len(line) <= MAX_PLAIN_LINE and line[-1] != " ":
            return f"{line}{self.linesep}".encode()
        return super().fold_binary(name, value)


_HEADERS = _Headers()
_ASCII = _Policy(header_factory=_HEADERS)
_UTF8 = _Policy(header_factory=_HEADERS, utf8=True, linesep="\r\n")  # RFC 6531


def to_mail(message: Message, sender: str = SENDER) -> EmailMessage:
    """The message by RFC 5322. A repeated notice has the same Message-ID, and is recognised by it.

    Raises ValueError when the address cannot be written in a header.
    """
    from_, to = _sender(sender), _address(message.name, message.email)
    mail = EmailMessage(_ASCII if to.username.isascii() else _UTF8)
    mail["From"], mail["To"] = str(from_), to
    mail["Subject"] = _one_line(message.subject)
    mail["Message-ID"] = f"<{message.notification_id}@{from_.domain}>"
    mail["Date"] = formatdate(usegmt=True)
    mail["Auto-Submitted"] = "auto-generated"  # prevents automatic replies (RFC 3834)
    mail.set_content(message.text, cte=_encoding(message.text))
    return mail


@lru_cache(maxsize=16)
def _sender(sender: str) -> Address:
    return _address(*parseaddr(sender))


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
