"""Limits on connections to the API, so that clients cannot hold them by sending little, slowly, or
far too much.

This is uvicorn's HTTP protocol with the limits that it lacks: on the size of heads, on the time a
request may take to arrive, and on the number of connections.
"""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.middleware.security_headers import HEADERS, HSTS
from api.problems import MEDIA_TYPE, to_json

_LINGER_SECONDS = 1.0
"""How long a refused client is still listened to, so that it gets the answer before the connection
closes."""


_LAST_SECONDS = 0.5
"""How long a stopping process waits for the next request of an idle connection, which the client
may just be sending."""


@dataclass(frozen=True)
class Limits:
    """Limits on one connection, and on their number. `message_bytes` limits a request after its
    head, `unread_seconds` how long a client may read nothing of an answer."""

    connections: int = 800
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    unread_seconds: float = 30.0
    head_bytes: int = 64 * 1024
    message_bytes: int = 16 * 1024 * 1024


def bounded(limits: Limits) -> type["BoundedHttp"]:
    """uvicorn's protocol with these limits."""
    return type("Http", (BoundedHttp,), {"limits": limits})


class BoundedHttp(HttpToolsProtocol):
    """Refuses with 431 a head that is too large, with 408 a head or body that does not arrive in
    time, and with 503 a connection too many; disconnects who does not read the answer. Requests
    that arrive at once, and answers that are read at once, as nearly all are, need no timer."""

    limits = Limits()

    _reading = ""
    """The part of a message that is being received: `head`, `body`, or nothing between messages."""
    _received = 0
    """Bytes received of that part."""
    _messages = 0
    _timed: tuple[int, str] = (0, "")
    """The message and its part for which the timer runs."""
    _timer: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None
    """The next look at whether the client reads, while something waits for it."""
    _refused = False
    _stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless there are too many connections."""
        super().connection_made(transport)
        others = len(self.connections) - 1
        if others >= 2 * self.limits.connections:
            transport.abort()
        elif others >= self.limits.connections:
            self._refuse(
                503, "too_many_connections", "there are too many connections", {"retry-after": "1"}
            )
        else:
            self._reading = "head"
            self._set_timer()

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if self._refused:
            return
        self._received += len(data)
        super().data_received(data)
        limits = self.limits
        if self._reading == "head" and self._received > limits.head_bytes:
            self._refuse_head()
        elif self._reading == "body" and self._received > limits.message_bytes:
            self.transport.abort()
        if (self._messages, self._reading) != self._timed:
            self._set_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._reading = ""
        self._set_timer()
        if self._reader is not None:
            self._reader.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close after the answer that is being given or to the request that is being sent, which
        then says so (`Connection: close`). Closing an idle connection at once would cut a request
        on its way."""
        self._stopping = True
        if self._is_idle:
            self.loop.call_later(_LAST_SECONDS, self._close_idle)
        elif self.cycle is not None:
            self.cycle.keep_alive = False

    @property
    def _is_idle(self) -> bool:
        answers = self.cycle is not None and not self.cycle.response_complete
        return not answers and not (self._reading and self._received)

    def _close_idle(self) -> None:
        if self._is_idle:
            self.transport.close()

    # -- clients that do not read ------------------------------------------------------------------
    #
    # While writing is paused, and from the end of an answer until the next request, nothing is
    # written: then only what the client reads changes how much waits for it.

    def pause_writing(self) -> None:
        """Called when much waits for the client."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """Called when little does."""
        super().resume_writing()
        self._watch_reader()

    def on_response_complete(self) -> None:
        """Called when an answer has been written; also a connection that is closed then stays until
        it has been read."""
        super().on_response_complete()
        self._watch_reader()

    def _watch_reader(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None
        if unread := self.transport.get_write_buffer_size():
            self._reader = self.loop.call_later(
                self.limits.unread_seconds, self._look_at_reader, self._messages, unread
            )

    def _look_at_reader(self, messages: int, unread: int) -> None:
        """Disconnect the client if it has read nothing since the watch began."""
        answered = self.cycle is None or self.cycle.response_complete
        nothing_written = self.flow.write_paused or (answered and self._messages == messages)
        if nothing_written and self.transport.get_write_buffer_size() >= unread:
            self.transport.abort()
        else:
            self._watch_reader()

    # -- callbacks of the parser -------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a head."""
        self._messages += 1
        self._reading = "head"
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The end of a head. Its size is computed if more bytes than a head may have arrived at
        once."""
        if self._received > self.limits.head_bytes and self._head_size() > self.limits.head_bytes:
            self._refuse_head()
            return
        self._reading = "body"
        self._received = 0
        super().on_headers_complete()
        if self._stopping and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._reading = ""
        self._received = 0
        if not self._refused:
            super().on_message_complete()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    # -- refusing ----------------------------------------------------------------------------------

    def _should_upgrade(self) -> bool:
        """Whether to switch to WebSocket. RFC 6455 requires GET; a body would never be read."""
        return self.parser.get_method() == b"GET" and super()._should_upgrade()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to another protocol."""
        self._reading = ""
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(400, "malformed_request", msg)

    def refuse_plain_http(self) -> None:
        """Refuse a client that does not speak TLS."""
        self._refuse(400, "https_required", "this port speaks HTTPS: use an https:// URL")

    def _refuse_head(self) -> None:
        self._refuse(
            431, "head_too_large", f"a request's head has at most {self.limits.head_bytes} bytes"
        )

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed = (self._messages, self._reading)
        if self._reading:
            seconds = (
                self.limits.head_seconds if self._reading == "head" else self.limits.body_seconds
            )
            self._timer = self.loop.call_later(seconds, self._too_late)

    def _too_late(self) -> None:
        if self._messages == 0:  # no request has begun, so there is nothing to answer
            self.transport.close()
        else:
            self._refuse(
                408, "too_slow", f"the {self._reading} of the request did not come in time"
            )

    def _refuse(
        self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a problem document and close the connection; close it silently if an answer is being
        sent."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._reading = ""
        self._set_timer()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or len(self.pipeline) > 0 or cycle.scope is not self.scope:
                self.transport.abort()
                return
        secure = dict([HSTS]) if self.scheme == "https" else {}
        self.transport.write(refusal(status, code, detail, {**secure, **(headers or {})}))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(_LINGER_SECONDS, self.transport.abort)


def refusal(status: int, code: str, detail: str, headers: Mapping[str, str]) -> bytes:
    """The bytes of an HTTP response with a problem document that ends the connection."""
    document = {
        "type": f"urn:ludoteca:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": "",
        "code": code,
        "trace_id": secrets.token_hex(16),
    }
    body = to_json(document)
    fields = [
        *HEADERS,
        *headers.items(),
        ("content-type", MEDIA_TYPE),
        ("content-length", str(len(body))),
    ]
    lines = "".join(
        f"{name.lower()}: {value}\r\n" for name, value in [*fields, ("connection", "close")]
    )
    return STATUS_LINE[status] + lines.encode() + b"\r\n" + body
