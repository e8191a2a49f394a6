"""E-mail addresses: which can receive mail, how they are stored, and when two name the same
mailbox.

An address is stored and mailed as typed (in NFC, which looks the same). It is never replaced by the
key that compares mailboxes: two spellings may have one key, but the spelling decides who receives
the mail.
"""

import re
import unicodedata

import email_validator
from email_validator import EmailNotValidError, ValidatedEmail

from domain.errors import Invalid

MAX_ADDRESS = 254
"""Octets of an address (RFC 5321, 4.5.3.1.3, without the angle brackets)."""

MAX_LOCAL_PART = 64
"""Octets before the @ (RFC 5321, 4.5.3.1.1)."""

UNREACHABLE = ".invalid"
"""The top-level domain of addresses that reach nobody (RFC 2606); imported people have one."""

# Special-use domains (test names, private networks) are allowed: only a mail can show whether it
# arrives.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()


def as_kept(email: str) -> str:
    """The address as it is stored and mailed: as typed, in NFC. Raises Invalid("invalid_email")."""
    _parsed(email)
    return unicodedata.normalize("NFC", email)


def mailbox(email: str) -> str:
    """The key of the mailbox: the local part in lower case, and the domain's A-label by IDNA 2008
    (UTS 46, non-transitional). Raises Invalid("invalid_email").

    Servers may distinguish `Ann@` from `ann@`; in practice none does, and people type either.
    """
    parsed = _parsed(email)
    return f"{unicodedata.normalize('NFC', parsed.local_part.lower())}@{parsed.ascii_domain}"


def deliverable(email: str) -> str:
    """The address for a mail server: the local part as typed and the domain's A-label, which every
    server accepts.

    Raises Invalid("invalid_email").
    """
    parsed = _parsed(email)
    return f"{parsed.local_part}@{parsed.ascii_domain}"


def is_unreachable(email: str) -> bool:
    """Whether mail to the address reaches nobody, by its top-level domain."""
    if email.isascii():  # as its domain is in the DNS, but for the case
        return email.lower().endswith(UNREACHABLE)
    try:
        domain = _parsed(email).ascii_domain
    except Invalid:  # stored before addresses were checked this strictly
        domain = email.lower()
    return domain.endswith(UNREACHABLE)


_DOTS = re.compile("[.\u3002\uff0e\uff61]")
"""Label separators (UTS 46, 4.5)."""

_HYPHENS = re.compile("(?!xn)[a-z0-9][a-z0-9-]--", re.ASCII | re.IGNORECASE)
"""A label with hyphens in its third and fourth place that is no A-label. IDNA reserves such labels,
but mail goes to any label of letters, digits and hyphens (RFC 5321, 2.3.5), and some exist."""


def _parsed(email: str) -> ValidatedEmail:
    """Parse by RFC 5321 and 6531: a dot-atom or quoted string at a domain name with a dot; no
    display name, no brackets."""
    if len(email) > MAX_ADDRESS:  # first, as parsing takes longer for longer texts
        raise Invalid("invalid_email", "that is not an e-mail address")
    local, at, domain = email.rpartition("@")
    labels = _DOTS.split(domain)
    hyphened = [number for number, label in enumerate(labels) if at and _HYPHENS.match(label)]
    if not hyphened:
        return _validated(email)
    # The library refuses such labels: validate the name with a letter in place of the first hyphen.
    asked = [
        f"{label[:2]}x{label[3:]}" if number in hyphened else label
        for number, label in enumerate(labels)
    ]
    parsed = _validated(f"{local}@{'.'.join(asked)}")
    names = parsed.ascii_domain.split(".")
    for number in hyphened:
        names[number] = labels[number].lower()
    parsed.ascii_domain = ".".join(names)
    return parsed


def _validated(email: str) -> ValidatedEmail:
    try:
        parsed = email_validator.validate_email(
            email,
            allow_smtputf8=True,
            allow_quoted_local=True,
            allow_domain_literal=False,
            allow_display_name=False,
            check_deliverability=False,
        )
        if len(parsed.local_part.encode()) > MAX_LOCAL_PART:
            raise EmailNotValidError("too long before the @")
    except (EmailNotValidError, UnicodeError) as error:
        raise Invalid("invalid_email", "that is not an e-mail address") from error
    return parsed
