"""E-mail addresses: which can receive mail, how one is kept, and when two are the same mailbox.

An address is kept and mailed as it was typed (in NFC, which looks the same). It is never replaced by the key by which
mailboxes are compared: a key may be equal for two spellings, but who gets the mail is decided by the spelling.
"""

import re
import unicodedata

import email_validator
from email_validator import EmailNotValidError, ValidatedEmail

from domain.errors import Invalid

MAX_ADDRESS = 254
"""Octets of an address (RFC 5321, 4.5.3.1.3, less the angle brackets)."""

MAX_LOCAL_PART = 64
"""Octets before the @ (RFC 5321, 4.5.3.1.1)."""

UNREACHABLE = ".invalid"
"""The top-level domain of addresses that reach nobody (RFC 2606): people who were imported have one."""

# Names for tests and for networks of one's own can be addresses there; whether mail arrives, only a mail can show.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()


def as_kept(email: str) -> str:
    """The address as it is kept and mailed: as typed, in NFC. Raises Invalid("invalid_email")."""
    _parsed(email)
    return unicodedata.normalize("NFC", email)


def mailbox(email: str) -> str:
    """The key of the mailbox that an address names: the local part in lower case, the domain's A-label by IDNA 2008
    (UTS 46, non-transitional). Raises Invalid("invalid_email").

    Servers may tell `Ann@` from `ann@`; in practice none does, and people type either.
    """
    parsed = _parsed(email)
    return f"{unicodedata.normalize('NFC', parsed.local_part.lower())}@{parsed.ascii_domain}"


def deliverable(email: str) -> str:
    """The address for a mail server: the local part as it is, the domain's A-label, which every server takes.

    Raises Invalid("invalid_email").
    """
    parsed = _parsed(email)
    return f"{parsed.local_part}@{parsed.ascii_domain}"


def is_unreachable(email: str) -> bool:
    """Whether mail to the address reaches nobody, by the name of its domain."""
    try:
        domain = _parsed(email).ascii_domain
    except Invalid:  # kept before addresses were looked at so closely
        domain = email.lower()
    return domain.endswith(UNREACHABLE)


_DOTS = re.compile("[.\u3002\uff0e\uff61]")
"""What separates labels (UTS 46, 4.5)."""

_HYPHENS = re.compile("(?!xn)[a-z0-9][a-z0-9-]--", re.ASCII | re.IGNORECASE)
"""How a label begins that has hyphens in its third and fourth place and is no A-label: IDNA reserves such labels, but
mail goes to every label of letters, digits and hyphens (RFC 5321, 2.3.5), and some have them."""


def _parsed(email: str) -> ValidatedEmail:
    """By RFC 5321 and 6531: dot-atoms and quoted strings at a domain name with a dot; no display name, no brackets."""
    if len(email) > MAX_ADDRESS:  # before anything is done that takes longer for longer texts
        raise Invalid("invalid_email", "that is not an e-mail address")
    local, at, domain = email.rpartition("@")
    labels = _DOTS.split(domain)
    hyphened = [number for number, label in enumerate(labels) if at and _HYPHENS.match(label)]
    if not hyphened:
        return _validated(email)
    # The library refuses them: it is asked about the same name with a letter for the first of the two hyphens.
    asked = [f"{label[:2]}x{label[3:]}" if number in hyphened else label for number, label in enumerate(labels)]
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
