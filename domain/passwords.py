"""What a password may be, and the form in which passwords are compared."""

import unicodedata

from domain.errors import Invalid
from domain.text import with_few_marks

MIN_PASSWORD, MAX_PASSWORD = 10, 1024
MAX_TYPED_PASSWORD = 2 * MAX_PASSWORD
"""Characters before accents are composed; longer passwords are refused before composing, which
takes ever longer."""


def as_compared(password: str) -> str:
    """A password as it is hashed, independent of keyboard and phone: RFC 8265's OpaqueString, which
    maps other blanks to the ASCII one and composes accents (NFC), except that control characters
    are allowed. A password with more accents on a letter than any language has stays as typed:
    composing them would take quadratic time."""
    spaced = "".join(" " if unicodedata.category(char) == "Zs" else char for char in password)
    return unicodedata.normalize("NFC", spaced) if with_few_marks(spaced) == spaced else spaced


def check_password(password: str) -> None:
    """Raises Invalid("weak_password") unless the password, as compared,
    has 10 to 1024 characters."""
    if (
        len(password) > MAX_TYPED_PASSWORD
        or not MIN_PASSWORD <= len(as_compared(password)) <= MAX_PASSWORD
    ):
        raise Invalid(
            "weak_password", f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters"
        )
