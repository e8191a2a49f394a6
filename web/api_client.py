"""Calls of the API in this process: through its ASGI application, without a socket.

A page may do what the API lets the caller do, and nothing else: authentication, authorization,
validation, idempotency and limits are the API's.
"""

import asyncio
import logging
import secrets
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec
from starlette.types import ASGIApp, Message, Scope

logger = logging.getLogger(__name__)

T = TypeVar("T")

Query = str | int | bool | Sequence[str] | None
Body = Mapping[str, object]

_running: set[asyncio.Task[None]] = set()
"""What the API still does after its answers, such as mailing."""


class FieldError(msgspec.Struct, frozen=True):
    """An invalid field; `field` is its path in the body, with dots."""

    field: str
    message: str
    code: str = ""


class Problem(Exception):
    """The API's refusal (RFC 9457). `extra` has the fields of its `code`; `retry_after` is in
    seconds."""

    def __init__(
        self,
        code: str,
        status: int,
        detail: str = "",
        errors: tuple[FieldError, ...] = (),
        extra: Mapping[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.detail = detail
        self.errors = errors
        self.extra = extra or {}
        self.retry_after = retry_after


class Listed(msgspec.Struct, Generic[T], frozen=True):
    """A page of a list."""

    items: list[T]
    next_cursor: str | None = None


class Nothing(msgspec.Struct, frozen=True):
    """An answer whose body does not matter."""


class Answer(msgspec.Struct, frozen=True):
    """An answer of the API as it was sent; names of headers are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes


class Api:
    """The API as one visitor reaches it. `scope` is that of the page's request; `token` is their
    access token, empty without an account; answers to queries reflect the log up to `at_least`."""

    def __init__(self, app: ASGIApp, scope: Scope, headers: Mapping[str, str]) -> None:
        self._app = app
        self._scope = scope
        self._headers = dict(headers)
        self.token = ""
        self.at_least: int | None = None

    async def get(self, path: str, into: type[T], **query: Query) -> T:
        """The answer to a query. Raises Problem."""
        least = {} if self.at_least is None else {"min-position": str(self.at_least)}
        return _decoded(await self._call("GET", path, headers=least, query=query), into)

    async def download(self, path: str, body: Body | None = None, **query: Query) -> Answer:
        """The answer to a query, or to a command that has this body, as it was sent. Raises
        Problem."""
        if body is None:
            return await self._call("GET", path, query=query)
        return await self._send_json("POST", path, body, {}, query)

    async def post(
        self, path: str, body: Body | None, into: type[T], *, once: str = "", **query: Query
    ) -> T:
        """The answer to a command; `once` is its Idempotency-Key. Raises Problem."""
        headers = {"idempotency-key": once}
        return _decoded(await self._send_json("POST", path, body, headers, query), into)

    async def put(self, path: str, body: Body, into: type[T], *, version: int | None = None) -> T:
        """The answer to a change; `version` is the one that it was decided on. Raises Problem."""
        return _decoded(await self._send_json("PUT", path, body, _if_match(version)), into)

    async def delete(self, path: str, *, version: int | None = None, **query: Query) -> None:
        """Delete; `version` as in `put`. Raises Problem."""
        await self._call("DELETE", path, headers=_if_match(version), query=query)

    async def upload(self, path: str, content: bytes, into: type[T]) -> T:
        """The answer to a file, which is sent as the field `file`. Raises Problem."""
        boundary = secrets.token_hex(16)
        head = 'Content-Disposition: form-data; name="file"; filename="file"'
        body = (
            f"--{boundary}\r\n{head}\r\n\r\n".encode()
            + content
            + f"\r\n--{boundary}--\r\n".encode()
        )
        headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
        return _decoded(await self._call("POST", path, body, headers), into)

    def scope_of(self, kind: str, path: str, query: Mapping[str, Query] | None = None) -> Scope:
        """The ASGI scope of a call, of type `kind`, by the page's client."""
        given = {name: _text(value) for name, value in (query or {}).items() if value is not None}
        scheme = self._scope.get("scheme", "http")
        if kind == "websocket":
            scheme = "wss" if scheme == "https" else "ws"
        return {
            "type": kind,
            "asgi": self._scope["asgi"],
            "http_version": "1.1",
            "scheme": scheme,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": urlencode(given, doseq=True).encode(),
            "server": self._scope.get("server"),
            "client": self._scope.get("client"),
            "headers": [
                (name.encode(), text.encode("latin-1")) for name, text in self._headers.items()
            ],
            "state": {},
        }

    async def _send_json(
        self,
        method: str,
        path: str,
        body: Body | None,
        headers: Mapping[str, str],
        query: Mapping[str, Query] | None = None,
    ) -> Answer:
        if body is None:
            return await self._call(method, path, None, headers, query)
        content, kind = msgspec.json.encode(body), {"content-type": "application/json"}
        return await self._call(method, path, content, {**headers, **kind}, query)

    async def _call(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Query] | None = None,
    ) -> Answer:
        """`headers` that are empty are not sent."""
        scope = self.scope_of("http", path, query)
        scope["method"] = method
        more = {"authorization": f"Bearer {self.token}" if self.token else "", **(headers or {})}
        if content is not None:
            more["content-length"] = str(len(content))
        scope["headers"] += [(name.encode(), text.encode()) for name, text in more.items() if text]
        answer = await exchange(self._app, scope, content or b"")
        if answer.status >= 400:
            raise problem_of(answer)
        return answer


def _decoded(answer: Answer, into: type[T]) -> T:
    return msgspec.json.decode(answer.body or b"{}", type=into)


def _if_match(version: int | None) -> dict[str, str]:
    return {} if version is None else {"if-match": f'"{version}"'}


def _text(value: Query) -> str | list[str]:
    """A parameter's text, or those of one that is repeated."""
    if isinstance(value, str | int):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return list(value or ())


async def exchange(app: ASGIApp, scope: MutableMapping[str, Any], content: bytes) -> Answer:
    """The application's answer, as soon as it is complete: what it does afterwards goes on."""
    answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    head: dict[str, Any] = {}
    parts: list[bytes] = []
    asked = False

    async def receive() -> Message:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()  # the client stays
        asked = True
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            head.update(message)
            return
        parts.append(message.get("body", b""))
        if not message.get("more_body") and not answered.done():
            headers = {
                name.decode("latin-1").lower(): text.decode("latin-1")
                for name, text in head["headers"]
            }
            answered.set_result(Answer(head["status"], headers, b"".join(parts)))

    async def run() -> None:
        await app(scope, receive, send)

    task = asyncio.create_task(run(), name=f"{scope['method']} {scope['path']}")
    _running.add(task)

    def ended(task: asyncio.Task[None]) -> None:
        _running.discard(task)
        error = None if task.cancelled() else task.exception()
        if not answered.done():
            answered.set_exception(error or RuntimeError("the API gave no answer"))
        elif error is not None and not answered.cancelled():
            logger.error("after the answer to %s", task.get_name(), exc_info=error)

    task.add_done_callback(ended)
    try:
        return await answered
    except asyncio.CancelledError:
        task.cancel()
        raise


def problem_of(answer: Answer) -> Problem:
    """The problem in an answer."""
    try:
        document = dict(msgspec.json.decode(answer.body))
    except (msgspec.DecodeError, TypeError, ValueError):
        document = {}
    retry_after = answer.headers.get("retry-after", "")
    return Problem(
        str(document.pop("code", "internal_error")),
        answer.status,
        str(document.pop("detail", "")),
        tuple(msgspec.convert(document.pop("errors", None) or [], list[FieldError])),
        document,
        int(retry_after) if retry_after.isdecimal() else None,
    )
