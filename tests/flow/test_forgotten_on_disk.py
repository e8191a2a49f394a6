"""A person is forgotten: nothing on the disk of the instance, and nothing in its database, shows
them, and nothing decrypts what the log has of them."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import aio_pika
import httpx
import psycopg
import pytest
from PIL import Image

from adapters.master_key_file import MasterKeyFile
from adapters.postgres.embedded import EmbeddedPostgres
from adapters.relay.rabbitmq import EXCHANGE
from eventstore.keys import keys_now
from eventstore.master_keys import KEYRING
from tests.support.processes.instance import PASSWORD, VISA, eventually
from tests.support.processes.started import Started, started
from tests.support.servers.shared import free_port
from tests.support.traces import Needles, in_database, in_files, matching, needles

NAME, SECOND_NAME = "Quölla Canary-7f3a", "Saböta Canary-81be"
EMAIL, SECOND_EMAIL = "quolla.7f3a@canary.example.com", "sabota.81be@canary.example.com"
ADDRESS = {
    "name": "Zëphyr Canary-d02c",
    "line1": "17 Canarystreet-55aa",
    "line2": "Door Canary-55ab",
    "city": "Canaryville-55ac",
    "postal_code": "CN4RY-55ad",
    "country": "FR",
}
PHOTOGRAPHER = "Exif Canary-90ee"
SUBSCRIBER = "test.subscriber"
CANARIES = {
    **{"name": NAME, "second name": SECOND_NAME, "email": EMAIL, "second email": SECOND_EMAIL},
    **{f"address {field}": text for field, text in ADDRESS.items() if field != "country"},
}


class Shop:
    """A shop of `ludoteca run`, as its people and its operator use it."""

    def __init__(self, run: Started, home: Path) -> None:
        self.run = run
        self.home = home
        self.url = EmbeddedPostgres(home).url

    def client(self, token: str = "") -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(
            base_url=f"{self.run.base}/api/v1", headers=headers, timeout=30, trust_env=False
        )

    def register(self, **fields: str) -> tuple[str, httpx.Client]:
        body = {"password": PASSWORD, "account_type": "BUYER", "region": "US", **fields}
        answer = self.client().post("/users", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"], self.client(answer.json()["access_token"])

    def admin(self) -> httpx.Client:
        login = {
            "email": "admin@ludoteca.example",
            "password": (self.home / "admin-password.txt").read_text().strip(),
        }
        answer = self.client().post("/auth/login", json=login)
        assert answer.status_code == 200, answer.text
        return self.client(answer.json()["access_token"])

    def looked_back(self) -> str:
        """Ask for all people as of now; returns the schema that is made for the answer."""
        admin = self.admin()
        position = admin.get("/users").headers["Event-Position"]
        eventually(  # 503 while it is built
            lambda: admin.get("/users", params={"as_of": position}).status_code, (200).__eq__
        )
        return f"ludoteca_at_{position}"

    def cli(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        own = {"LUDOTECA_HOME": str(self.home)}
        others = {name: value for name, value in os.environ.items() if "LUDOTECA" not in name}
        return subprocess.run(
            [sys.executable, "-m", "runtime.cli", *arguments],
            env={**others, **own},
            capture_output=True,
            text=True,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        done = self.cli(*arguments, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def traces(self, wanted: Needles) -> dict[str, set[str]]:
        """Where something wanted is, in files or tables."""
        found = in_files(self.home, wanted)
        for name, tables in in_database(self.url, wanted).items():
            found.setdefault(name, set()).update(tables)
        return found


@contextmanager
def running(folder: Path, **environment: Any) -> Iterator[Shop]:
    with started(folder, **environment) as run:
        run.until(run.is_open)
        yield Shop(run, folder / "home")
        run.process.send_signal(signal.SIGTERM)
        assert run.ends() == 0


def a_photograph() -> bytes:
    """A JPEG whose metadata names a person."""
    exif = Image.Exif()
    exif[0x013B] = PHOTOGRAPHER  # Artist
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (230, 20, 20)).save(file, "JPEG", exif=exif)
    assert PHOTOGRAPHER.encode() in file.getvalue()
    return file.getvalue()


def on_sale(seller: httpx.Client, **fields: object) -> str:
    body = {
        "status": "ACTIVE",
        "prices": [{"region": "*", "amount_cents": 4500, "currency": "USD"}],
        **fields,
    }
    answer = seller.post("/games", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def bought(buyer: httpx.Client, game: str) -> str:
    """Buy a game that is shipped; returns the order's id."""
    assert buyer.post("/cart/items", json={"product_id": game, "quantity": 1}).status_code < 300
    body = {"payment_method": {"type": "card", "token": VISA}, "shipping_address": ADDRESS}
    answer = buyer.post("/cart/checkout", json=body, headers={"Idempotency-Key": "checkout"})
    assert answer.status_code in {201, 202}, answer.text
    order_id = str(answer.json()["order_id"])
    eventually(lambda: buyer.get(f"/orders/{order_id}").json()["status"], "CONFIRMED".__eq__)
    return order_id


def delivered(shop: Shop, seller: httpx.Client) -> None:
    [shipment] = eventually(lambda: seller.get("/shipments").json()["items"])
    path = f"/shipments/{shipment['id']}"
    assert seller.put(f"{path}/process").status_code == 200
    ship = {"carrier": "UPS", "tracking_number": "1Z999AA10123456784"}
    assert seller.put(f"{path}/ship", json=ship).status_code == 200
    answer = shop.admin().post(f"{path}/delivered", json={"reason": "the buyer called"})
    assert answer.status_code == 200, answer.text


def the_key(shop: Shop, person: str) -> Needles:
    """The person's key, and what the database stores of it."""
    KEYRING.use(MasterKeyFile(shop.home / "master.key"))
    with psycopg.connect(shop.url) as conn:
        row = conn.execute(
            "SELECT key FROM private.person_keys WHERE person_id = %s", (person,)
        ).fetchone()
        assert row is not None
        return needles(key=keys_now(conn, [UUID(person)])[UUID(person)], wrapped=row[0])


@pytest.fixture(params=["embedded", "RabbitMQ and Elasticsearch"])
def servers(request: pytest.FixtureRequest) -> Mapping[str, str]:
    """The settings of the servers beside PostgreSQL."""
    if request.param == "embedded":
        return {}
    return {
        "LUDOTECA_RABBITMQ_URL": request.getfixturevalue("rabbitmq_url"),
        "LUDOTECA_ELASTICSEARCH_URL": request.getfixturevalue("elasticsearch_url"),
    }


def evidence_of(shop: Shop, order_id: str, folder: Path, *personal: str) -> Path:
    """Unpack an order's bundle, which holds, and return the zip."""
    file, (*_, current) = folder.with_suffix(".zip"), shop.json("audit", "keys")
    shop.json("audit", "bundle", order_id, "--output", str(file), *personal)
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
    assert shop.json("audit", "check-bundle", str(file), "--key", current["key"])["holds"]
    return file


def at_servers(shop: Shop, servers: Mapping[str, str], wanted: Needles) -> set[str]:
    """What of something wanted RabbitMQ has delivered, or Elasticsearch has."""
    if not servers:
        return set()
    with psycopg.connect(shop.url) as conn:
        row = conn.execute(
            "SELECT convert_from(value, 'UTF8') FROM private.secrets WHERE name = 'index_prefix'"
        ).fetchone()
    assert row is not None
    address = f"{servers['LUDOTECA_ELASTICSEARCH_URL']}/{row[0]}*/_search?size=1000"
    documents = httpx.get(address, trust_env=False)
    assert documents.json()["hits"]["hits"]
    bodies = asyncio.run(_delivered(servers["LUDOTECA_RABBITMQ_URL"]))
    assert bodies
    return set(matching(documents.content + b"".join(bodies), wanted))


async def subscribe(url: str) -> None:
    """Have RabbitMQ keep every event for a subscriber."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        await channel.declare_exchange(EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)
        await (await channel.declare_queue(SUBSCRIBER, durable=True)).bind(EXCHANGE, "#")


async def _delivered(url: str) -> list[bytes]:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        queue, bodies = await channel.get_queue(SUBSCRIBER), []
        while (message := await queue.get(fail=False)) is not None:
            bodies.append(message.body)
        return bodies


def test_nothing_shows_who_was_forgotten(tmp_path: Path, servers: Mapping[str, str]) -> None:
    wanted = needles(**CANARIES, photographer=PHOTOGRAPHER)
    if servers:
        asyncio.run(subscribe(servers["LUDOTECA_RABBITMQ_URL"]))
    with running(
        tmp_path,
        **servers,
        LUDOTECA_PUSH_URL=f"http://127.0.0.1:{free_port()}/",  # where nobody answers
        LUDOTECA_NOTICE_RETRY_SECONDS="0.1",
    ) as shop:
        _, seller = shop.register(email="sue@example.com", name="Sue", account_type="SELLER")
        assert (
            seller.post("/catalog/images", files={"file": ("a.jpg", a_photograph())}).status_code
            == 201
        )
        parcel = on_sale(seller, sku="CATAN", title="Catan", kind="PHYSICAL")
        seller.put("/inventory/stock", json={"product_id": parcel, "total_quantity": 5})
        person, buyer = shop.register(email=EMAIL, name=NAME)
        key = the_key(shop, person)
        with closing(buyer):
            order_id = bought(buyer, parcel)
            changed = {"name": SECOND_NAME, "email": SECOND_EMAIL, "current_password": PASSWORD}
            assert buyer.put("/users/me", json=changed).status_code == 200
            shop.client().post("/auth/password/forgot", json={"email": SECOND_EMAIL})
            dead = eventually(lambda: shop.json("dlq", "list"))
            shop.cli("dlq", "redrive", str(dead[0]["job"]["id"]))
            assert NAME in json.dumps(buyer.get("/users/me/export").json(), ensure_ascii=False)
            refused = buyer.delete("/users/me", params={"forget": True})
            assert (refused.status_code, refused.json()["code"]) == (409, "account_has_obligations")
            delivered(shop, seller)
            bundle = evidence_of(shop, order_id, tmp_path / "bundle")
            past = shop.looked_back()
            before = shop.traces({**wanted, **key})
            assert {"name", "second name", "email", "second email", "wrapped"} <= before.keys()
            assert "photographer" not in before, "metadata of images is never stored"
            tables = set().union(*in_database(shop.url, {**wanted, **key}).values())
            assert tables == {"read.users_2", f"{past}.users_2", "private.person_keys"}

            eventually(
                lambda: buyer.delete("/users/me", params={"forget": True}).status_code, (204).__eq__
            )
        eventually(lambda: shop.cli("keys", "erase"), lambda done: done.returncode == 0)

        assert shop.traces({**wanted, **key}) == {}
        assert at_servers(shop, servers, {**wanted, **key}) == set()
        assert shop.cli("audit", "verify").returncode == 0
        (*_, current) = shop.json("audit", "keys")
        assert shop.json("audit", "check-bundle", str(bundle), "--key", current["key"])["holds"]
        asked = ("--with-personal-data", "--reason", "a court")
        evidence_of(shop, order_id, tmp_path / "personal", *asked)
        personal = json.loads((tmp_path / "personal" / "personal.json").read_bytes())
        assert personal["events"]
    assert in_files(tmp_path, {**wanted, **key}) == {}, "nor when it has ended"
