"""`ludoteca run` with a certificate: two API processes that speak https, the supervisor that waits
for them, and the simulated provider that tells them of payments."""

import signal
import ssl
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from kit.tls import first_certificate
from tests.support.processes.instance import ADMIN, PASSWORD, VISA, eventually
from tests.support.processes.started import Started, started
from tests.support.servers.tls import Authority

NAME = "shop.example"
CELESTE = {
    "title": "Celeste",
    "kind": "DIGITAL",
    "prices": [{"region": "*", "amount_cents": 1999, "currency": "USD"}],
    "status": "ACTIVE",
}
BUYER = {
    "email": "ann@example.com",
    "password": PASSWORD,
    "name": "Ann",
    "account_type": "BUYER",
    "region": "US",
}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class Shop:
    """The running shop, as clients see it that know the authority and reach it by its name."""

    def __init__(self, run: Started, authority: Authority) -> None:
        self._base = f"https://127.0.0.1:{run.port}"
        self._trust = ssl.create_default_context(cafile=authority.file)
        self._headers: dict[str, str] = {}

    def post(self, path: str, body: object) -> httpx.Response:
        return self._ask("POST", path, json=body)

    def get(self, path: str) -> httpx.Response:
        return self._ask("GET", path)

    def listen(self) -> ClientConnection:
        """The live status of orders."""
        url = self._base.replace("https", "wss") + "/api/v1/ws/orders"
        return connect(url, ssl=self._trust, server_hostname=NAME, proxy=None)

    def certificates(self, times: int) -> set[str]:
        """Those that so many new connections get."""
        address = ("127.0.0.1", httpx.URL(self._base).port or 0)
        return {ssl.get_server_certificate(address).strip() for _ in range(times)}

    def sign_in(self, token: str) -> None:
        self._headers = {"Authorization": f"Bearer {token}"}

    def _ask(self, method: str, path: str, **options: object) -> httpx.Response:
        with httpx.Client(
            base_url=self._base, verify=self._trust, headers=self._headers, timeout=30
        ) as client:
            by_name = {"sni_hostname": NAME}
            return client.request(method, f"/api/v1{path}", extensions=by_name, **options)  # type: ignore[arg-type]


def test_a_shop_that_speaks_tls(tmp_path: Path, database: str, authority: Authority) -> None:
    certificate, key = authority.pair(NAME)
    with started(
        tmp_path,
        LUDOTECA_DATABASE_URL=database,
        LUDOTECA_API_PROCESSES="2",
        LUDOTECA_TLS_CERT=certificate,
        LUDOTECA_TLS_KEY=key,
        LUDOTECA_ADMIN_EMAIL=ADMIN,
        LUDOTECA_ADMIN_PASSWORD=PASSWORD,
    ) as run:
        run.until(run.is_open)
        assert f"https://127.0.0.1:{run.port}/docs" in run.output
        shop = Shop(run, authority)
        login = shop.post("/auth/login", {"email": ADMIN, "password": PASSWORD})
        shop.sign_in(login.json()["access_token"])
        game, other = (
            shop.post("/games", {**CELESTE, "sku": sku}).json()["id"] for sku in ("ONE", "TWO")
        )
        shop.sign_in(shop.post("/users", BUYER).json()["access_token"])
        order = {"game_id": game, "payment_method": {"type": "card", "token": VISA}}
        told = tmp_path / "home" / "logs" / "payment-webhook.txt"
        assert shop.post("/orders", order).status_code == 201
        eventually(told.exists)  # the provider's notice came by https
        assert "not accepted" not in run.output

        authority.pair(NAME)
        renewed = first_certificate(certificate)
        eventually(lambda: shop.certificates(20), lambda found: found == {renewed})
        told.unlink()
        assert shop.post("/orders", {**order, "game_id": other}).status_code == 201
        eventually(told.exists)  # the provider trusts the renewed one

        with shop.listen() as live:
            live.send('{"token": "none"}')
            assert "invalid_token" in str(live.recv(30))
        refused = httpx.get(f"http://127.0.0.1:{run.port}/api/v1/games")
        assert (refused.status_code, refused.json()["code"]) == (400, "https_required")
        assert run.told(signal.SIGTERM)[0] == 0


def test_a_certificate_that_has_expired_ends_it_with_a_message(
    tmp_path: Path, authority: Authority
) -> None:
    certificate, key = authority.pair(NAME, expired=True)
    with started(tmp_path, LUDOTECA_TLS_CERT=certificate, LUDOTECA_TLS_KEY=key) as run:
        assert run.ends() == 2
    assert "LUDOTECA_TLS_CERT: the certificate expired on" in run.output
    assert "Traceback" not in run.output
