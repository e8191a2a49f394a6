"""Push notices: posted to a gateway that knows people's devices, or written as files without one.

The body is JSON, posted with the header `Idempotency-Key: <id>`, once or, after a failure, several
times:

    {"id": "<notice id>", "user_id": "<user id>", "template": "purchase", "title": "Your purchase:
    …", "body": "…"}

Any 2xx accepts it; an answer like `{"id": "…"}` gives the gateway's own reference. 404 and 410 mean
that the person has no device; 408, 429 and 5xx ask for another attempt; any other status refuses
the message.
"""

import ssl
from pathlib import Path
from typing import Literal

import aiohttp
import msgspec

from adapters.notifications.folder import MessageFolder
from commands.ports.notifications import Message, NotDelivered
from kit import tracing
from kit.json_errors import JSON_ERRORS
from kit.metrics import timed_call

_NO_DEVICE = frozenset({404, 410})
_LATER = frozenset({408, 429})
_ANSWER_BYTES = 10_000


class PushMessage(msgspec.Struct, frozen=True):
    """The posted body."""

    id: str
    user_id: str
    template: str
    title: str
    body: str


class _Taken(msgspec.Struct):
    id: str


def to_json(message: Message) -> bytes:
    """The message as posted."""
    return msgspec.json.encode(
        PushMessage(
            str(message.notification_id),
            str(message.user_id),
            message.template,
            message.subject,
            message.text,
        )
    )


class PushGateway:
    """Implements `MessageTransport` with the gateway at a URL (which may contain user:password).
    Close it with `aclose`. `timeout_seconds` bounds the whole call."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 10.0,
        tls: ssl.SSLContext | Literal[True] = True,
    ) -> None:
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._tls = tls
        # made on first use: it belongs to the running loop
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, message: Message) -> str:
        """Post the message. Returns the gateway's reference, or else the notice's id. Raises
        NotDelivered."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls), timeout=self._timeout
            )
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": str(message.notification_id),
        }
        try:
            with timed_call("push") as call:
                async with self._session.post(
                    self._url,
                    data=to_json(message),
                    headers={**headers, **tracing.headers()},
                    allow_redirects=False,
                ) as response:
                    call.answered(response.status)
                    status, answer = response.status, await response.content.read(_ANSWER_BYTES)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NotDelivered("unreachable", type(error).__name__) from error
        if not 200 <= status < 300:
            raise NotDelivered(_code(status), f"the push gateway answered {status}")
        try:
            return msgspec.json.decode(answer, type=_Taken).id
        except JSON_ERRORS:
            return str(message.notification_id)


def _code(status: int) -> str:
    if status in _LATER or status >= 500:
        return "try_later"
    if status in {401, 403}:
        return "login_refused"
    return "recipient_refused" if status in _NO_DEVICE else "message_refused"


class PushFiles:
    """Implements `MessageTransport` with a folder. A repeated message is one file."""

    def __init__(self, folder: Path) -> None:
        self._folder = MessageFolder(folder)  # private, as purchases are

    async def send(self, message: Message) -> str:
        """Write the message. Returns the file's name."""
        return self._folder.write(f"{message.notification_id}.json", to_json(message))
