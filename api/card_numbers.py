"""Card numbers are not for us: clients send them to the provider, and the provider's token to us. A request with
something like one is refused before anything reads, keeps or logs it.
"""

import asyncio
import json
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote_plus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.guards import IMAGE_UPLOADS
from api.limits import WRITES
from api.problems import Problem, problem_response

SHORTEST, LONGEST = 13, 19
"""Digits of a card number (ISO/IEC 7812)."""

LARGE_BYTES = 16 * 1024
"""A body above this is looked through in a thread: others' requests must not wait for it."""

_LET_THROUGH = ("/webhook", *IMAGE_UPLOADS)

_UUID = re.compile(r"(?<![^\W_])[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![^\W_])", re.IGNORECASE)
_ESCAPED = re.compile(r"\\u([0-9a-f]{4})", re.IGNORECASE)
_BETWEEN = "[ ._/\u2010-\u2015-]{1,3}"
_GROUPS = re.compile(
    rf"(?<![^\W_])(?<!\d\.)(?<!\+)\d{{4,19}}(?:{_BETWEEN}\d{{4,19}})*(?:{_BETWEEN}\d{{3}})?(?![^\W_])", re.ASCII
)
"""Digits, whole or in groups of four and more (of nineteen the last three), as cards have them. What has letters next
to it is another name, what has a + before it a telephone's.
"""

_GROUPS_AT_MOST = 5
_DOUBLED = str.maketrans("0123456789", "0246813579")
"""Twice a digit, in Luhn's check: the sum of the digits of that."""


def has_card_number(text: str) -> bool:
    """Whether some digits in a text have the length and the check digit of a card number. UUIDs are none."""
    plain = unicodedata.normalize("NFKC", text)  # other scripts' digits and blanks, too
    return any(_is_card_number(digits) for digits in _candidates(_UUID.sub(" ", plain)))


def _candidates(text: str) -> Iterator[str]:
    """Every row of whole groups that has the length of a card number."""
    for found in _GROUPS.finditer(text):
        groups = re.findall(r"\d+", found[0])
        for start in range(len(groups)):
            digits = ""
            for group in groups[start : start + _GROUPS_AT_MOST]:
                digits += group
                if len(digits) > LONGEST:
                    break
                if len(digits) >= SHORTEST:
                    yield digits


def _is_card_number(digits: str) -> bool:
    """Luhn's check; payment cards begin with 2 to 6 (and what begins with 978 is a book's number)."""
    if digits[0] not in "23456":
        return False
    return sum(map(int, digits[::-2] + digits[-2::-2].translate(_DOUBLED))) % 10 == 0


def is_card_token(token: str) -> bool:
    """Whether the digits of a payment method's token, whatever stands between them, are a card number."""
    digits = re.sub(r"\D", "", unicodedata.normalize("NFKC", token))
    return SHORTEST <= len(digits) <= LONGEST and _is_card_number(digits)


class CardNumbers:
    """Middleware: answers 422 `card_data_refused` to a request with a card number in its path, query or body.

    Webhooks are let through: they are signed, the provider's own numbers are in them, and no body of theirs is kept.
    So are uploaded images: their bytes are no text, and are not kept as they came.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].endswith(_LET_THROUGH):
            return await self._app(scope, receive, send)
        query = unquote_plus(scope["query_string"].decode("latin-1"))
        if has_card_number(scope["path"]):
            unnamed = {**scope, "path": re.sub(r"\d", "*", scope["path"])}  # the answer tells the path
            return await _refuse(unnamed, receive, send)
        if has_card_number(query) or has_card_number(Headers(scope=scope).get("idempotency-key", "")):
            return await _refuse(scope, receive, send)
        if scope["method"] not in WRITES:
            return await self._app(scope, receive, send)
        messages = await _received(receive)
        body = b"".join(message.get("body", b"") for message in messages)
        if await _is_refused(body):
            return await _refuse(scope, receive, send)

        async def receive_again() -> Message:
            return messages.pop(0) if messages else await receive()

        return await self._app(scope, receive_again, send)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    problem = Problem(
        422, "card_data_refused", "this looks like a card number: send the provider's token for the card instead"
    )
    await problem_response(problem, scope)(scope, receive, send)


async def _is_refused(body: bytes) -> bool:
    if len(body) <= LARGE_BYTES:
        return has_card_number(_text(body))
    return await asyncio.to_thread(lambda: has_card_number(_text(body)))


async def _received(receive: Receive) -> list[Message]:
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    return messages


def _text(body: bytes) -> str:
    """The body as a reader of JSON, or else of a form, would see it."""
    text = body.decode(json.detect_encoding(body), "replace")
    if "\\u" in text:
        text = _ESCAPED.sub(lambda escaped: chr(int(escaped[1], 16)), text)
    return text if text.lstrip()[:1] in {"{", "["} else unquote_plus(text)
