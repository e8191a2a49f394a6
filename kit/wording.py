"""Error texts for people, and in a form that PostgreSQL, JSON and log files can store."""

MAX_CHARS = 2_000
"""Characters; some errors quote all of their input."""


def kept(text: str, max_chars: int = MAX_CHARS) -> str:
    """The first `max_chars` characters, with replacement characters for NUL and lone surrogates,
    which cannot be stored."""
    return text[:max_chars].replace("\0", "\ufffd").encode(errors="replace").decode()


def reason(error: BaseException) -> str:
    """What an error says, in one line; of an error of the system, without its number and file."""
    said = error.strerror if isinstance(error, OSError) else None
    if isinstance(error, UnicodeDecodeError):
        said = f"it is no text in {error.encoding.upper()}"
    return " ".join(str(said or error).split()) or type(error).__name__


def described(error: BaseException, max_chars: int = MAX_CHARS) -> str:
    """The error's class and message, shortened to `max_chars` characters."""
    return kept(f"{type(error).__name__}: {error}", max_chars)
