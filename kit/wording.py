"""Error texts in a form that PostgreSQL, JSON and log files can store."""

MAX_CHARS = 2_000
"""Characters; some errors quote all of their input."""


def kept(text: str, max_chars: int = MAX_CHARS) -> str:
    """The first `max_chars` characters, with replacement characters for NUL and lone surrogates,
    which cannot be stored."""
    return text[:max_chars].replace("\0", "\ufffd").encode(errors="replace").decode()


def described(error: BaseException, max_chars: int = MAX_CHARS) -> str:
    """The error's class and message, shortened to `max_chars` characters."""
    return kept(f"{type(error).__name__}: {error}", max_chars)
