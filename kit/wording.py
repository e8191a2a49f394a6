"""Errors in words that can be kept anywhere: in PostgreSQL, in JSON, in a log file."""

MOST = 2_000
"""Characters: some errors quote all that they got."""


def kept(text: str, most: int = MOST) -> str:
    """So many characters of a text, marks in the place of those that cannot be kept: NUL and lone surrogates."""
    return text[:most].replace("\0", "\ufffd").encode(errors="replace").decode()


def described(error: BaseException, most: int = MOST) -> str:
    """What is told of an error."""
    return kept(f"{type(error).__name__}: {error}", most)
