"""What is shown after a change is not older than the change."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.web.browser import Browser
from tests.web.conftest import SEALER, SECRET
from web.app import create_web
from web.sessions import Session, User
from web.visit import WebSettings

ORDER = "00000000-0000-4000-8000-000000000001"


async def test_each_change_is_read_at_its_own_position_of_the_log() -> None:
    asked: list[str | None] = []

    async def order(request: Request) -> Response:
        asked.append(request.headers.get("min-position"))
        is_over = asked[-1] == "9"
        return JSONResponse(
            {
                "order_id": ORDER,
                "currency": "USD",
                "total_cents": 100,
                "refunded_cents": 0,
                "refund_status": None,
                "status": "CANCELLED" if is_over else "CONFIRMED",
                "cancel_reason": None,
                "payment": None,
                "receipts": [],
                "lines": [],
                "shipments": [],
                "timeline": [],
                "expires_at": "2026-01-01T00:00:00Z",
                "created_at": "2026-01-01T00:00:00Z",
            }
        )

    async def changes(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive_text()
        await socket.send_json({"type": "ready", "position": 5})
        await socket.send_json({"type": "order.status", "position": 9, "order_id": ORDER})
        await socket.receive_text()  # until the page closes it

    path = "/api/v1/orders/{order_id}"
    routes = [Route(path, order), WebSocketRoute("/api/v1/ws/orders", changes)]
    web = create_web(Starlette(routes=routes), [path], WebSettings(SECRET))
    browser = Browser(web)
    user = User(ORDER, "Ann", None, "BUYER", "US", True)
    session = Session("csrf", user, "token", "refresh", access_ends=4e9)
    browser.client.cookies.set("session", SEALER.seal(session))

    stream = await browser.client.get(f"/orders/{ORDER}/live")

    assert asked == [None, "5", "9"]
    assert [line for line in stream.text.splitlines() if line.startswith("id")] == [
        "id: 5",
        "id: 9",
    ]
    assert "event: end" in stream.text
