"""Error texts in a form that PostgreSQL, JSON and log files can store."""

MOST = 2_000
"""Characters; some errors quote all of their input."""


def kept(text: str, most: int = MOST) -> str:
    """The first `most` characters, with replacement characters for NUL and lone surrogates, which
    cannot be stored."""
    return text[:most].replace("\0", "\ufffd").encode(errors="replace").decode()


def described(error: BaseException, most: int = MOST) -> str:
    """The error's class and message, shortened to `most` characters."""
    return kept(f"{type(error).__name__}: {error}", most)
