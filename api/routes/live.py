"""The live status of one's orders, payments and carts, over a WebSocket (docs/live.md)."""

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
"""How long the client may take to say who it is, and to hear why it is left."""

UNAUTHORIZED, POLICY_VIOLATION, INTERNAL_ERROR, TRY_AGAIN_LATER = 4401, 1008, 1011, 1013
"""Close codes: RFC 6455, the registry of IANA, and one of ours."""


class Hello(Body):
    """The first message: an access token, and the position after which one wants to hear; by
    default from now on."""

    token: Token
    after_position: Annotated[int | None, Field(strict=True, ge=0)] = None


class Ready(BaseModel):
    """The answer to it: all that happens after `position` follows; up to `head` it has happened
    already."""

    type: str = "ready"
    position: int
    head: int
    expires_at: datetime


@router.websocket("/api/v1/ws/orders")
async def live_status(websocket: WebSocket) -> None:
    """Every change of the status of one's orders, payments and carts, from a position on."""
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
            429, "too_many_sockets", f"at most {at_most} at a time for one person"
        ) from None


async def _first_message(websocket: WebSocket) -> Hello:
    """Raises Problem, RequestValidationError."""
    try:
        async with asyncio.timeout(FIRST_MESSAGE_SECONDS):
            message_text = await _received(websocket)
    except TimeoutError:
        raise Problem(
            408, "first_message_late", "the first message holds the token, and comes at once"
        ) from None
    try:
        return Hello.model_validate_json(message_text)
    except ValidationError as error:
        errors = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(errors) from error


async def _authenticate(services: Services, token: str) -> AccessClaims:
    """Whom the token speaks for. Raises Unauthorized: invalid_token, session_ended."""
    access = services.tokens.read_access(token)
    await services.session_ends.check(access.opened)
    return access


async def _received(websocket: WebSocket) -> str | bytes:
    """A message. Raises WebSocketDisconnect."""
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005), message.get("reason"))
    message_text: str | bytes = message.get("text") or message.get("bytes") or ""
    return message_text


# -- while it is open ------------------------------------------------------------------------------


async def _run_until_expiry(seconds: float, *coroutines: Coroutine[Any, Any, None]) -> None:
    """Talk, until a talk fails or the token's time is over. Raises as they do,
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
    raise Unauthorized("token_expired", "come again with a new token, and the last position")


async def _send_changes(websocket: WebSocket, listener: Listener, patience: float) -> None:
    """Raises Problem("too_slow") when what comes at once is not taken in so many seconds: it would
    not catch up."""
    while True:
        changes = await listener.news()
        try:
            async with asyncio.timeout(patience):
                for change in changes:
                    await websocket.send_text(msgspec.json.encode(change).decode())
        except TimeoutError:
            raise Problem(503, "too_slow", "come again later, with the last position") from None


async def _expect_nothing(websocket: WebSocket) -> None:
    """There is nothing more to be said by the client. Raises WebSocketDisconnect when it leaves;
    Problem."""
    await _received(websocket)
    raise Problem(400, "unexpected_message", "after the first message there is nothing to say")


async def _close_with_error(websocket: WebSocket, error: Exception) -> None:
    """Say why, and close. Who does not take that either in time is hung up on."""
    problem = problem_of(error)
    if problem.status == 500:
        logger.error("%s failed: %s", websocket.scope["path"], problem.code, exc_info=error)
    trace_id = context_of(websocket.scope).trace_id
    told = {
        **problem.extra,
        "type": "error",
        "code": problem.code,
        "detail": problem.detail,
        "trace_id": trace_id,
    }
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_MESSAGE_SECONDS):
            await websocket.send_text(to_json(told).decode())
            await websocket.close(_close_code(problem.status), problem.code)


def _close_code(status: int) -> int:
    """What tells the client's program whether it is worth while to come again."""
    known = {401: UNAUTHORIZED, 429: TRY_AGAIN_LATER, 500: INTERNAL_ERROR, 503: TRY_AGAIN_LATER}
    return known.get(status, POLICY_VIOLATION)
