"""A WebSocket that reports status changes of a user's orders, payments and carts as they happen
(docs/live.md)."""

from contextlib import AsyncExitStack
from datetime import datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, WebSocket
from pydantic import BaseModel, Field

from api.services import Services
from api.socket_sessions import (
    Greeting,
    authenticate,
    first_message,
    run_until_over,
    send_in_time,
    serve_socket,
    too_many,
)
from queries.live.subscriptions import Listener, LiveStatus, TooManyListeners

router = APIRouter(tags=["orders"])


class Hello(Greeting):
    """The client's first message: its access token, and the position after which to report changes
    (by default, the end of the log)."""

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
    await serve_socket(websocket, _serve)


async def _serve(websocket: WebSocket) -> None:
    services: Services = websocket.app.state.services
    live: LiveStatus = websocket.app.state.live
    hello = await first_message(websocket, Hello)
    at_most = services.settings.sockets_per_user
    try:
        async with AsyncExitStack() as stack:
            with services.while_there():
                access = await authenticate(services, hello.token)
                listening = live.listening(access.user_id, hello.after_position, at_most=at_most)
                listener = await stack.enter_async_context(listening)
            ready = Ready(
                position=listener.position, head=listener.head, expires_at=access.expires_at
            )
            await websocket.send_text(ready.model_dump_json())
            patience = services.settings.socket_patience_seconds
            await run_until_over(
                websocket, services, access, _send_changes(websocket, listener, patience)
            )
    except TooManyListeners:
        raise too_many(at_most) from None


# -- while it is open ------------------------------------------------------------------------------


async def _send_changes(websocket: WebSocket, listener: Listener, patience: float) -> None:
    """Send changes as they happen. Raises Problem("too_slow") if the client does not accept them
    within `patience` seconds, as it could never catch up."""
    while True:
        changes = [msgspec.json.encode(change).decode() for change in await listener.news()]
        await send_in_time(websocket, *changes, patience=patience)
