"""The program as its users run it: real processes of the command line, on a database, used over
HTTP."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import psycopg

from runtime.release.migrate import migrate
from tests.support import ROOT
from tests.support.servers.log_of_record import KURRENTDB_URL, log_of_record
from tests.support.servers.shared import free_port

T = TypeVar("T")

PATIENCE = 60.0
START_SECONDS = 240.0
"""How long a process may take to start on a busy machine."""
PASSWORD = "correct horse battery"
ADMIN = "admin@example.com"
VISA, DECLINED, SECURE = "pm_card_visa", "pm_card_chargeDeclined", "pm_card_authenticationRequired"
LOST, DOWN, SLOW = "pm_card_timeout", "pm_card_processorDown", "pm_card_slow"


def eventually(
    look: Callable[[], T], wanted: Callable[[T], object] = bool, patience: float = PATIENCE
) -> T:
    """Poll until the result is as wanted, and return it. Other processes do the work, so there is
    nothing to wait on; the pauses grow, so that polling does not slow them down."""
    began = time.monotonic()
    while not wanted(found := look()):
        waited = time.monotonic() - began
        assert waited < patience, f"still {found!r}"
        time.sleep(min(0.02 + waited / 10, 0.25))
    return found


@dataclass
class Person:
    """A person with an account."""

    id: str
    email: str
    http: httpx.Client

    def buy(self, game_id: str, token: str | None = VISA, **headers: str) -> httpx.Response:
        body: dict[str, Any] = {"game_id": game_id}
        if token is not None:
            body["payment_method"] = {"type": "card", "token": token}
        return self.http.post("/api/v1/orders", json=body, headers=headers)

    def order(self, order_id: str) -> dict[str, Any]:
        return dict(self.http.get(f"/api/v1/orders/{order_id}").json())

    def completed(self, order_id: str) -> bool:
        return self.order(order_id).get("status") == "COMPLETED"

    def titles(self) -> list[str]:
        return [
            item["title"] for item in self.http.get("/api/v1/library?limit=200").json()["items"]
        ]

    def notices(self) -> list[str]:
        return [
            item["template"]
            for item in self.http.get("/api/v1/notifications?limit=200").json()["items"]
        ]


@dataclass
class Instance:
    """The processes of one shop."""

    home: Path
    environment: dict[str, str]
    port: int
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    code: Path = ROOT
    """The folder of the program, perhaps of another release."""
    _admin: httpx.Client | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *commands: str) -> None:
        for command in commands:
            log = (self.home / f"{command}.log").open("ab")
            self.running[command] = subprocess.Popen(
                [sys.executable, "-m", "runtime.cli", command],
                cwd=self.code,
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def kill(self, command: str) -> None:
        """Kill a process by SIGKILL."""
        process = self.running.pop(command)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait(20)
        self.running.clear()

    def cli(self, *arguments: str, check: bool = True) -> str:
        command = [sys.executable, "-m", "runtime.cli", *arguments]
        done = subprocess.run(
            command,
            cwd=self.code,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def http(self, token: str = "", **headers: str) -> httpx.Client:
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return httpx.Client(base_url=self.base, headers=headers, timeout=30)

    def await_ready(self) -> None:
        eventually(self._is_ready, patience=START_SECONDS)

    def _is_ready(self) -> bool:
        assert self.running["api"].poll() is None, (self.home / "api.log").read_text()
        try:
            return httpx.get(f"{self.base}/health/ready", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    # -- people and games --------------------------------------------------------------------------

    def register(self, **fields: str) -> Person:
        body = {
            "email": f"{uuid4().hex}@example.com",
            "password": PASSWORD,
            "name": "Ann",
            "account_type": "BUYER",
            "region": "US",
            **fields,
        }
        answer = self.http().post("/api/v1/users", json=body)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return Person(made["id"], body["email"], self.http(made["access_token"]))

    def admin(self) -> httpx.Client:
        """A client that is logged in as ADMIN. Logs in once, as hashing the password is slow."""
        self._admin = self._admin or self._log_in()
        return self._admin

    def log_in_anew(self) -> None:
        """Have the ADMIN log in again: their access token is valid for 15 minutes."""
        self._admin = None

    def _log_in(self) -> httpx.Client:
        answer = self.http().post("/api/v1/auth/login", json={"email": ADMIN, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        return self.http(answer.json()["access_token"])

    def game(self, cents: int = 1999, title: str = "Celeste", **fields: str) -> str:
        body = {
            "sku": uuid4().hex,
            "title": title,
            "kind": "DIGITAL",
            "prices": [{"region": "*", "amount_cents": cents, "currency": "USD"}],
            "status": "ACTIVE",
            **fields,
        }
        answer = self.admin().post("/api/v1/games", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def stocked(self, units: int) -> str:
        """A physical game with this many units in stock."""
        game = self.game(kind="PHYSICAL")
        answer = self.admin().put(
            "/api/v1/inventory/stock", json={"product_id": game, "total_quantity": units}
        )
        assert answer.status_code == 200, answer.text
        return game

    def stock(self, game: str) -> tuple[int, int, int, int]:
        """Total, available, reserved, allocated."""
        found = self.admin().get(f"/api/v1/inventory/stock/{game}").json()
        return found["total"], found["available"], found["reserved"], found["allocated"]

    def events(self, *, stream: str | None = None, name: str | None = None) -> list[dict[str, Any]]:
        """Events of the log: of a stream, of a name, or all. Through the API, as starting the
        command line takes a second."""
        found: list[dict[str, Any]] = []
        wanted = {key: value for key, value in (("stream_id", stream), ("name", name)) if value}
        query: dict[str, str | int] = {"limit": 200, **wanted}
        while True:
            answer = self.admin().get("/api/v1/audit/events", params=query)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            query["cursor"] = page["next_cursor"]

    def count(self, name: str) -> int:
        """The number of events of this name: cheaper to poll than `events`."""
        with psycopg.connect(self.environment["LUDOTECA_DATABASE_URL"]) as conn:
            row = conn.execute("SELECT count(*) FROM log.events WHERE name = %s", [name]).fetchone()
        return int(row[0]) if row else 0

    def verify(self) -> list[dict[str, Any]]:
        """The report of `projections verify` on every read model."""
        return list(json.loads(self.cli("projections", "verify", "--json"))["verified"])


@contextmanager
def running(home: Path, database: str, settings: Mapping[str, str]) -> Iterator[Instance]:
    """A shop with an ADMIN and without games; all its processes run."""
    with log_of_record(database, mirror=False):
        yield from _running(home, database, settings)


def _running(home: Path, database: str, settings: Mapping[str, str]) -> Iterator[Instance]:
    port, provider_port, fiscal_port = free_port(), free_port(), free_port()
    environment = {
        **os.environ,
        "LUDOTECA_HOME": str(home),
        "LUDOTECA_DATABASE_URL": database,
        "LUDOTECA_PORT": str(port),
        "LUDOTECA_PROVIDER_PORT": str(provider_port),
        "LUDOTECA_FISCAL_PORT": str(fiscal_port),
        "LUDOTECA_RATE_LIMIT": "off",
        "LUDOTECA_PAYMENT_RETRY_SECONDS": "0.2,0.4",
        "LUDOTECA_PAYMENT_TIMEOUT_SECONDS": "1",
        **settings,
    }
    migrate(database)
    instance = Instance(home, environment, port)
    try:
        commands = ["provider", "fiscal", "projector", "worker", "api"]
        if environment.get(KURRENTDB_URL):
            instance.start("mirror")  # first: what the others append waits for it
        instance.start(*commands, *(["relay"] if settings.get("LUDOTECA_RABBITMQ_URL") else []))
        instance.cli("admin", "create", "--email", ADMIN, "--name", "Admin", "--password", PASSWORD)
        instance.await_ready()
        yield instance
    finally:
        instance.stop()
