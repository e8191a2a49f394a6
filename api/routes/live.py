"""A WebSocket that reports status changes of a user's orders, payments and carts as they happen
(docs/live.md)."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError

from api.fields import Body, Token
from api.middleware.context import context_of
from api.middleware.limits import Limiter
from api.middleware.metrics import Metrics
from api.problems import Problem, problem_of, to_json
from api.services import Services
from api.tokens import AccessClaims
from domain.errors import Unauthorized
from queries.live.subscriptions import Listener, LiveStatus, TooManyListeners

logger = logging.getLogger(__name__)

router = APIRouter(tags=["orders"])

FIRST_MESSAGE_SECONDS = LAST_MESSAGE_SECONDS = 10.0
"""How long a client may take to send its token, and to receive the reason why it is
disconnected."""

UNAUTHORIZED, POLICY_VIOLATION, INTERNAL_ERROR, TRY_AGAIN_LATER = 4401, 1008, 1011, 1013
"""WebSocket close codes: of RFC 6455, of IANA's registry, and one of this API."""


class Hello(Body):
    """The client's first message: its access token, and the position after which to report changes
    (by default, the end of the log)."""

    token: Token
    after_position: Annotated[int | None, Field(strict=True, ge=0)] = None


class Ready(BaseModel):
    """The answer to `Hello`. All changes after `position` follow; those up to `head` have already
    happened."""

    type: str = "ready"
    position: int
    head: int
    expires_at: datetime


@router.websocket("/api/v1/ws/orders")
async def live_status(websocket: WebSocket) -> None:
    """Report every status change of the user's orders, payments and carts from a position on."""
    metrics: Metrics = websocket.app.state.metrics
    await websocket.accept()
    with metrics.sockets.track_inprogress(), suppress(WebSocketDisconnect):
        try:
            await _serve(websocket)
        except WebSocketDisconnect:
            raise
        except Exception as error:
            await _close_with_error(websocket, error)


async def _serve(websocket: WebSocket) -> None:
    services: Services = websocket.app.state.services
    live: LiveStatus = websocket.app.state.live
    limiter: Limiter = websocket.app.state.limiter
    if limiter.on:
        await limiter.take("ip", limiter.client(websocket.scope))
    hello = await _first_message(websocket)
    at_most = services.settings.sockets_per_user
    try:
        async with AsyncExitStack() as stack:
            with services.while_there():
                access = await _authenticate(services, hello.token)
                listening = live.listening(access.user_id, hello.after_position, at_most=at_most)
                listener = await stack.enter_async_context(listening)
            ready = Ready(
                position=listener.position, head=listener.head, expires_at=access.expires_at
            )
            await websocket.send_text(ready.model_dump_json())
            await _run_until_expiry(
                (access.expires_at - services.clock.now()).total_seconds(),
                _send_changes(websocket, listener, services.settings.socket_patience_seconds),
                _expect_nothing(websocket),
                services.session_ends.until_over(access.opened),
            )
    except TooManyListeners:
        raise Problem(
            429, "too_many_sockets", f"a user can have at most {at_most} sockets open"
        ) from None


async def _first_message(websocket: WebSocket) -> Hello:
    """Read the first message. Raises Problem, RequestValidationError."""
    try:
        async with asyncio.timeout(FIRST_MESSAGE_SECONDS):
            message_text = await _received(websocket)
    except TimeoutError:
        raise Problem(
            408, "first_message_late", "send the first message, which contains the token, at once"
        ) from None
    try:
        return Hello.model_validate_json(message_text)
    except ValidationError as error:
        errors = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(errors) from error


async def _authenticate(services: Services, token: str) -> AccessClaims:
    """The token's claims. Raises Unauthorized: invalid_token, session_ended."""
    access = services.tokens.read_access(token)
    await services.session_ends.check(access.opened)
    return access


async def _received(websocket: WebSocket) -> str | bytes:
    """The content of the next message. Raises WebSocketDisconnect."""
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005), message.get("reason"))
    message_text: str | bytes = message.get("text") or message.get("bytes") or ""
    return message_text


# -- while it is open ------------------------------------------------------------------------------


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


async def _send_changes(websocket: WebSocket, listener: Listener, patience: float) -> None:
    """Send changes as they happen. Raises Problem("too_slow") if the client does not accept them
    within `patience` seconds, as it could never catch up."""
    while True:
        changes = await listener.news()
        try:
            async with asyncio.timeout(patience):
                for change in changes:
                    await websocket.send_text(msgspec.json.encode(change).decode())
        except TimeoutError:
            raise Problem(503, "too_slow", "connect again later, with the last position") from None


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
