"""The simulated carrier delivers parcels that are in transit, and tells the shop until it hears."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import uvicorn

from adapters.carrier.simulator import Parcel, ShopAway, create_app
from adapters.webhooks.signature import SignatureVerifier
from domain.ids import derived
from tests.support.processes.instance import eventually

SECRET = "whsec_carrier"
HANDED_OVER = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def parcel(number: str, name: str = "") -> Parcel:
    return Parcel(derived("shipment", name or number), "UPS", number, HANDED_OVER)


@dataclass
class ShopDouble:
    """The shop, as the carrier sees it: parcels in transit, and an address for notices, which
    answers with each of `statuses` in turn, then with 200."""

    parcels: list[Parcel] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    heard: list[tuple[str, bytes, str]] = field(default_factory=list)
    away: bool = False

    async def in_transit(self) -> list[Parcel]:
        if self.away:
            raise ShopAway("the shop's database does not answer")
        return self.parcels

    def notices(self) -> list[dict[str, str]]:
        return [json.loads(body) for _, body, _ in self.heard]


@pytest.fixture
def shop() -> ShopDouble:
    return ShopDouble()


@pytest.fixture
def shop_url(shop: ShopDouble) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            shop.heard.append((self.path, body, self.headers["Carrier-Signature"]))
            self.send_response(shop.statuses.pop(0) if shop.statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def running_carrier(store: Path, shop_url: str, shop: ShopDouble) -> Iterator[httpx.Client]:
    """The carrier on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    app = create_app(store, shop_url, SECRET, shop.in_transit, retry_seconds=0.02)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with httpx.Client(base_url=url, timeout=10, trust_env=False) as client:
            assert client.get("/health").status_code == 200
            yield client
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "carrier.sqlite3"


@pytest.fixture
def carrier(store: Path, shop_url: str, shop: ShopDouble) -> Iterator[httpx.Client]:
    with running_carrier(store, shop_url, shop) as client:
        yield client


def pending(carrier: httpx.Client) -> int:
    return int(carrier.get("/health").json()["pending_webhooks"])


def test_a_delivered_parcel_is_told_to_the_shop_by_a_signed_notice(
    carrier: httpx.Client, shop: ShopDouble
) -> None:
    shop.parcels = [parcel("1Z99"), parcel("1Z98")]
    assert [each["tracking_number"] for each in carrier.get("/parcels").json()] == ["1Z99", "1Z98"]

    answer = carrier.post("/parcels/1Z99/delivered")

    assert answer.status_code == 202
    (delivery,) = answer.json()
    assert UUID(delivery["shipment_id"]) == shop.parcels[0].shipment_id
    ((path, body, signature),) = eventually(lambda: shop.heard)
    assert path == f"/api/v1/shipments/{delivery['shipment_id']}/delivered"
    SignatureVerifier([SECRET]).check(body, signature, datetime.now(UTC))
    told = json.loads(body)
    assert (told["shipment_id"], told["tracking_number"]) == (delivery["shipment_id"], "1Z99")
    at = datetime.fromisoformat(told["delivered_at"])
    assert at == datetime.fromisoformat(delivery["delivered_at"])
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=5)


def test_a_notice_is_repeated_until_the_shop_accepts_it(
    carrier: httpx.Client, shop: ShopDouble
) -> None:
    shop.parcels, shop.statuses = [parcel("1Z99")], [503, 500, 404]
    carrier.post("/parcels/1Z99/delivered")

    eventually(lambda: pending(carrier), lambda count: count == 0)

    assert len(shop.heard) == 4
    assert len({body for _, body, _ in shop.heard}) == 1


def test_a_notice_outlives_a_restart_of_the_carrier(
    store: Path, shop_url: str, shop: ShopDouble
) -> None:
    shop.parcels, shop.statuses = [parcel("1Z99")], [503] * 1000
    with running_carrier(store, shop_url, shop) as carrier:
        carrier.post("/parcels/1Z99/delivered")
        eventually(lambda: shop.heard)
        assert pending(carrier) == 1
    shop.statuses.clear()
    with running_carrier(store, shop_url, shop) as carrier:
        eventually(lambda: pending(carrier), lambda count: count == 0)


def test_a_parcel_is_delivered_once_however_often_it_is_said(
    carrier: httpx.Client, shop: ShopDouble
) -> None:
    shop.parcels = [parcel("1Z99")]
    first = carrier.post("/parcels/1Z99/delivered", json={"delivered_at": "2026-03-02T09:00:00Z"})
    again = carrier.post("/parcels/1Z99/delivered")
    shop.parcels = []
    afterwards = carrier.post("/parcels/1z-99/delivered")

    assert first.json() == again.json() == afterwards.json()
    eventually(lambda: pending(carrier), lambda count: count == 0)
    assert {each["delivered_at"] for each in shop.notices()} == {"2026-03-02T09:00:00Z"}


def test_all_shipments_in_one_parcel_are_delivered_with_it(
    carrier: httpx.Client, shop: ShopDouble
) -> None:
    shop.parcels = [parcel("BR 1/2", "one"), parcel("br-1/2", "two")]

    answer = carrier.post("/parcels/BR%201%2F2/delivered")

    assert {UUID(each["shipment_id"]) for each in answer.json()} == {
        each.shipment_id for each in shop.parcels
    }


@pytest.mark.parametrize(
    ("number", "body", "status"),
    [
        ("1Z00", None, 404),
        ("1Z99", {"delivered_at": "2126-03-02T09:00:00Z"}, 422),
        ("1Z99", {"delivered_at": "2026-03-02T09:00:00"}, 422),
        ("1Z99", {"at": "2026-03-02T09:00:00Z"}, 422),
    ],
    ids=["unknown", "in the future", "without a zone", "a wrong field"],
)
def test_what_cannot_be_is_refused_and_not_told(
    carrier: httpx.Client, shop: ShopDouble, number: str, body: object, status: int
) -> None:
    shop.parcels = [parcel("1Z99")]

    assert carrier.post(f"/parcels/{number}/delivered", json=body).status_code == status
    assert pending(carrier) == 0
    assert shop.heard == []


def test_the_page_has_a_button_for_each_parcel_which_delivers_it(
    carrier: httpx.Client, shop: ShopDouble
) -> None:
    shop.parcels = [parcel("<b>1/Z"), parcel("1Z98")]
    page = carrier.get("/").text
    assert "&lt;b&gt;1/Z" in page
    assert "<b>1" not in page
    assert 'action="parcels/%3Cb%3E1%2FZ/delivered"' in page

    browser = {"Accept": "text/html,*/*", "Content-Type": "application/x-www-form-urlencoded"}
    answer = carrier.post("/parcels/1Z98/delivered", headers=browser)

    assert answer.status_code == 303
    assert answer.next_request is not None
    assert answer.next_request.url.path == "/"
    eventually(lambda: shop.heard)


def test_the_page_says_what_the_shop_has_not_heard_yet(
    carrier: httpx.Client, shop: ShopDouble
) -> None:
    assert "None." in carrier.get("/").text
    shop.parcels, shop.statuses = [parcel("1Z99")], [503] * 1000
    carrier.post("/parcels/1Z99/delivered")
    eventually(lambda: shop.heard)

    page = carrier.get("/").text

    assert "The shop has not heard yet of" in page
    assert "Tell again" in page
    assert ">Delivered</button>" not in page


def test_while_the_shop_is_away_the_carrier_says_so(
    carrier: httpx.Client, shop: ShopDouble
) -> None:
    shop.away = True
    for answer in (carrier.get("/"), carrier.post("/parcels/1Z99/delivered")):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
