"""What the WebSockets share: the first message with the token, how they end, and the words at the
end."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TypeVar
from uuid import UUID

from fastapi import WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from api.fields import Body, Token
from api.middleware.context import context_of
from api.middleware.limits import Limiter
from api.middleware.metrics import Metrics
from api.problems import Problem, problem_of, to_json
from api.services import Services
from api.tokens import AccessClaims
from domain.errors import Forbidden, Unauthorized

logger = logging.getLogger(__name__)

FIRST_MESSAGE_SECONDS = LAST_MESSAGE_SECONDS = 10.0
"""How long a client may take to send its token, and to receive the reason why it is
disconnected."""

UNAUTHORIZED, POLICY_VIOLATION, INTERNAL_ERROR, TRY_AGAIN_LATER = 4401, 1008, 1011, 1013
"""WebSocket close codes: of RFC 6455, of IANA's registry, and one of this API."""


class Greeting(Body):
    """The first message of every client."""

    token: Token


G = TypeVar("G", bound=Greeting)


async def serve_socket(websocket: WebSocket, serve: Callable[[WebSocket], Awaitable[None]]) -> None:
    """Accept the socket, count it, serve it, and tell the client why it ends."""
    metrics: Metrics = websocket.app.state.metrics
    limiter: Limiter = websocket.app.state.limiter
    await websocket.accept()
    with metrics.sockets.track_inprogress(), suppress(WebSocketDisconnect):
        try:
            if limiter.on:
                await limiter.take("ip", limiter.client(websocket.scope))
            await serve(websocket)
        except WebSocketDisconnect:
            raise
        except Exception as error:
            await _close_with_error(websocket, error)


async def first_message(websocket: WebSocket, kind: type[G]) -> G:
    """Read the first message. Raises Problem, RequestValidationError."""
    try:
        async with asyncio.timeout(FIRST_MESSAGE_SECONDS):
            message_text = await _received(websocket)
    except TimeoutError:
        raise Problem(
            408, "first_message_late", "send the first message, which contains the token, at once"
        ) from None
    try:
        return kind.model_validate_json(message_text)
    except ValidationError as error:
        errors = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(errors) from error


async def authenticate(services: Services, token: str) -> AccessClaims:
    """The token's claims. Raises Unauthorized: invalid_token, session_ended."""
    access = services.tokens.read_access(token)
    await services.session_ends.check(access.opened)
    return access


def must_audit(access: AccessClaims) -> None:
    """Raises Forbidden("role_required") for who may not see what operators see."""
    if access.account_type not in {"AUDITOR", "ADMIN"}:
        raise Forbidden("role_required", "this requires the role AUDITOR or ADMIN")


class Seats:
    """How many sockets of operators each of them has open in this process."""

    def __init__(self) -> None:
        self._taken: Counter[UUID] = Counter()

    @contextmanager
    def taken(self, user_id: UUID, at_most: int) -> Iterator[None]:
        """Count a socket while the block runs. Raises Problem("too_many_sockets")."""
        if self._taken[user_id] >= at_most:
            raise too_many(at_most)
        self._taken[user_id] += 1
        try:
            yield
        finally:
            self._taken[user_id] -= 1
            if not self._taken[user_id]:
                del self._taken[user_id]


def seat_of(websocket: WebSocket, access: AccessClaims) -> AbstractContextManager[None]:
    """A place among the user's sockets. Raises Problem("too_many_sockets")."""
    seats: Seats = websocket.app.state.seats
    services: Services = websocket.app.state.services
    return seats.taken(access.user_id, services.settings.sockets_per_user)


def too_many(at_most: int) -> Problem:
    """The error for a user who has the maximal number of sockets open."""
    return Problem(429, "too_many_sockets", f"a user can have at most {at_most} sockets open")


async def run_until_over(
    websocket: WebSocket,
    services: Services,
    access: AccessClaims,
    *sending: Coroutine[Any, Any, None],
) -> None:
    """Send until the client leaves, its token expires, or its session ends. Raises what sending
    raises; Unauthorized("token_expired", "session_ended")."""
    await _run_until_expiry(
        (access.expires_at - services.clock.now()).total_seconds(),
        *sending,
        _expect_nothing(websocket),
        services.session_ends.until_over(access.opened),
    )


async def send_in_time(websocket: WebSocket, *texts: str, patience: float) -> None:
    """Send messages. Raises Problem("too_slow") if the client does not accept them within
    `patience` seconds, as it could never catch up."""
    try:
        async with asyncio.timeout(patience):
            for text in texts:
                await websocket.send_text(text)
    except TimeoutError:
        raise Problem(503, "too_slow", "connect again later, with the last position") from None


async def _received(websocket: WebSocket) -> str | bytes:
    """The content of the next message. Raises WebSocketDisconnect."""
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005), message.get("reason"))
    message_text: str | bytes = message.get("text") or message.get("bytes") or ""
    return message_text


async def _run_until_expiry(seconds: float, *coroutines: Coroutine[Any, Any, None]) -> None:
    """Run the coroutines until one of them ends or the token expires. Raises what they raise;
    Unauthorized("token_expired")."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(
            tasks, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
    raise Unauthorized("token_expired", "connect again with a new token and the last position")


async def _expect_nothing(websocket: WebSocket) -> None:
    """Wait for the client to leave. Raises WebSocketDisconnect; Problem if it sends another
    message."""
    await _received(websocket)
    raise Problem(400, "unexpected_message", "send nothing after the first message")


async def _close_with_error(websocket: WebSocket, error: Exception) -> None:
    """Send the error and close the WebSocket, without waiting long for a client that does not
    read."""
    problem = problem_of(error)
    if problem.status == 500:
        logger.error("%s failed: %s", websocket.scope["path"], problem.code, exc_info=error)
    trace_id = context_of(websocket.scope).trace_id
    message = {
        **problem.extra,
        "type": "error",
        "code": problem.code,
        "detail": problem.detail,
        "trace_id": trace_id,
    }
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_MESSAGE_SECONDS):
            await websocket.send_text(to_json(message).decode())
            await websocket.close(_close_code(problem.status), problem.code)


def _close_code(status: int) -> int:
    """The close code, which tells the client's program whether to connect again."""
    known = {401: UNAUTHORIZED, 429: TRY_AGAIN_LATER, 500: INTERNAL_ERROR, 503: TRY_AGAIN_LATER}
    return known.get(status, POLICY_VIOLATION)
