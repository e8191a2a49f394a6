"""The API's own TLS: certificates that are checked, renewed and pinned; clients that do not speak
it; handshakes that do not end."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date, timedelta
from pathlib import Path

import pytest
from fastapi import APIRouter

from api.app import gateway
from api.auth import EVERYBODY
from runtime.host.listening import bound_sockets
from runtime.processes import certificates
from runtime.processes.certificates import BadCertificate, ServerCertificate, load
from runtime.processes.connections import Limits
from runtime.processes.graceful import TlsServer
from runtime.processes.servers import config_of
from tests.support.servers.tls import Authority, Pair
from tests.support.shops.small_gateway import services

HOST = "127.0.0.1"
GET = b"GET /api/v1/things HTTP/1.1\r\nHost: shop\r\n\r\n"
PATIENCE = 30


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.pair(HOST)


def things() -> APIRouter:
    router = APIRouter(dependencies=[EVERYBODY])

    @router.get("/api/v1/things")
    async def show() -> str:
        return "shown"

    return router


class Served:
    """A server, and how clients that know its authority connect."""

    def __init__(self, authority: Authority, pair: Pair, limits: Limits) -> None:
        config = config_of(gateway(services(), [things()]), HOST, 0, limits)
        config.load()
        self.certificate = ServerCertificate(*pair)
        self.server = TlsServer(config, self.certificate.context, limits)
        self.server.lifespan = config.lifespan_class(config)
        self.sockets = bound_sockets(HOST, 0)
        self.address = self.sockets[0].getsockname()
        self.trust = ssl.create_default_context(cafile=authority.file)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address, ssl=self.trust)

    async def serial_number(self) -> str:
        """That of the certificate that a new connection gets."""
        _, writer = await self.connect()
        found = writer.get_extra_info("peercert")["serialNumber"]
        writer.transport.abort()
        return str(found)


@asynccontextmanager
async def served(
    authority: Authority, pair: Pair, limits: Limits | None = None
) -> AsyncIterator[Served]:
    serving = Served(authority, pair, limits or Limits())
    for each in serving.sockets:
        each.setblocking(False)
    async with asyncio.timeout(PATIENCE):
        await serving.server.startup(serving.sockets)
        yield serving
        if serving.sockets[0].fileno() >= 0:
            await serving.server.shutdown(serving.sockets)


async def head_of(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode().lower()


async def test_a_request_is_answered_and_browsers_must_stay_with_tls(
    authority: Authority, pair: Pair
) -> None:
    async with served(authority, pair) as shop:
        reader, writer = await shop.connect()
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        writer.write(GET)
        head = await head_of(reader)
        assert head.startswith("http/1.1 200")
        assert "strict-transport-security: max-age=31536000" in head


async def test_a_refusal_tells_them_too(authority: Authority, pair: Pair) -> None:
    async with served(authority, pair) as shop:
        reader, writer = await shop.connect()
        writer.write(b"NONSENSE\r\n\r\n")
        head = await head_of(reader)
        assert head.startswith("http/1.1 400")
        assert "strict-transport-security" in head


async def test_a_client_that_does_not_know_the_authority_gets_nothing(
    authority: Authority, pair: Pair
) -> None:
    async with served(authority, pair) as shop:
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(*shop.address, ssl=ssl.create_default_context())
        _, writer = await shop.connect()  # and the next one is served
        writer.close()


async def test_plain_http_gets_an_answer_that_names_https(authority: Authority, pair: Pair) -> None:
    async with served(authority, pair) as shop:
        reader, writer = await asyncio.open_connection(*shop.address)
        writer.write(GET)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400")
        assert b'"code":"https_required"' in answer
        assert b"shown" not in answer
        assert b"strict-transport-security" not in answer


async def test_a_renewed_certificate_is_taken_up_and_open_connections_stay(
    authority: Authority, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "LOOK_SECONDS", 0.01)
    async with served(authority, pair) as shop:
        following = asyncio.create_task(shop.certificate.follow())
        before = await shop.serial_number()
        reader, writer = await shop.connect()
        authority.pair(HOST)
        while True:
            if await shop.serial_number() != before:
                break
            await asyncio.sleep(0.01)
        writer.write(GET)
        assert (await head_of(reader)).startswith("http/1.1 200")
        following.cancel()


async def test_while_renewed_files_cannot_be_used_the_certificate_before_serves_on(
    authority: Authority, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(authority, pair) as shop:
        before = await shop.serial_number()
        complete = _renew_half(authority, pair)
        shop.certificate.look()
        assert "LUDOTECA_TLS_KEY" in caplog.text
        assert await shop.serial_number() == before
        complete()
        shop.certificate.look()
        after = await shop.serial_number()
        assert after != before
        _remove(pair)
        shop.certificate.look()
        assert await shop.serial_number() == after


def _renew_half(authority: Authority, pair: Pair) -> Callable[[], object]:
    """Renew the certificate, and leave its key for the call of what is returned."""
    key = Path(pair.key)
    before = key.read_bytes()
    authority.pair(HOST)
    after = key.read_bytes()
    key.write_bytes(before)
    return lambda: key.write_bytes(after)


def _remove(pair: Pair) -> None:
    Path(pair.certificate).unlink()


@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x00\xff\x01"])
async def test_a_handshake_that_does_not_go_on_is_ended(
    authority: Authority, pair: Pair, sent: bytes
) -> None:
    async with served(authority, pair, Limits(head_seconds=0.2)) as shop:
        reader, writer = await asyncio.open_connection(*shop.address)
        writer.write(sent)
        assert await _end(reader)


async def test_there_are_only_so_many_handshakes_at_a_time(
    authority: Authority, pair: Pair
) -> None:
    async with served(authority, pair, Limits(connections=2, head_seconds=30)) as shop:
        idle = [await asyncio.open_connection(*shop.address) for _ in range(2)]
        reader, _ = await asyncio.open_connection(*shop.address)
        assert await _end(reader)
        for _, writer in idle:
            writer.close()
        while True:  # until their ends have arrived
            try:
                _, writer = await shop.connect()
            except OSError:
                await asyncio.sleep(0.01)
            else:
                break
        writer.close()


async def _end(reader: asyncio.StreamReader) -> bool:
    """Whether the server ends the connection, without an answer."""
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


async def test_a_connection_that_waits_to_be_accepted_is_answered_though_the_process_stops(
    authority: Authority, pair: Pair
) -> None:
    async with served(authority, pair) as shop:
        with socket.create_connection(shop.address) as plain:
            stopping = asyncio.create_task(shop.server.shutdown(shop.sockets))
            await asyncio.sleep(0)  # its turn: the connection had not been accepted before
            answer = await asyncio.to_thread(_ask_over, plain, shop.trust)
        assert answer.startswith(b"HTTP/1.1 200")
        await stopping


def _ask_over(plain: socket.socket, trust: ssl.SSLContext) -> bytes:
    with trust.wrap_socket(plain, server_hostname=HOST) as secure:
        secure.sendall(GET)
        return secure.recv(1 << 16)


async def test_no_request_is_cut_when_it_stops_under_load(authority: Authority, pair: Pair) -> None:
    answers = 0
    warm = asyncio.Event()

    async def client(shop: Served) -> None:
        nonlocal answers
        while True:
            try:
                reader, writer = await shop.connect()
            except ConnectionRefusedError:
                return
            writer.write(GET)
            assert (await head_of(reader)).startswith("http/1.1 200")
            writer.transport.abort()
            answers += 1
            if answers == 50:
                warm.set()

    async with served(authority, pair) as shop, asyncio.TaskGroup() as clients:
        for _ in range(8):
            clients.create_task(client(shop))
        await warm.wait()
        await shop.server.shutdown(shop.sockets)
    assert answers > 50


# -- certificates that cannot be used --------------------------------------------------------------


def test_an_expired_certificate_is_named(authority: Authority) -> None:
    with pytest.raises(BadCertificate, match="LUDOTECA_TLS_CERT: the certificate expired on 20"):
        load(*authority.pair(HOST, expired=True))


def test_a_key_that_everybody_can_read_is_refused(pair: Pair) -> None:
    Path(pair.key).chmod(0o644)
    with pytest.raises(BadCertificate, match=r"everybody can read .*chmod"):
        load(*pair)
    Path(pair.key).chmod(0o640)  # a group's, as Kubernetes mounts it
    load(*pair)


def test_a_key_of_another_certificate_is_refused(authority: Authority, pair: Pair) -> None:
    other = authority.pair(HOST, file="other")
    with pytest.raises(BadCertificate, match="LUDOTECA_TLS_KEY"):
        load(pair.certificate, other.key)


def test_files_that_are_none_are_named(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "empty").touch(mode=0o600)
    with pytest.raises(BadCertificate, match=r"LUDOTECA_TLS_CERT: .*nowhere"):
        load(str(tmp_path / "nowhere"), pair.key)
    with pytest.raises(BadCertificate, match=r"LUDOTECA_TLS_CERT: .*no certificate"):
        load(str(tmp_path / "empty"), pair.key)
    with pytest.raises(BadCertificate, match=r"LUDOTECA_TLS_KEY: .*nowhere"):
        load(pair.certificate, str(tmp_path / "nowhere"))
    with pytest.raises(BadCertificate, match="LUDOTECA_TLS_KEY"):
        load(pair.certificate, str(tmp_path / "empty"))


def test_an_expiry_that_is_near_is_logged_once_a_day(
    authority: Authority, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    certificate = ServerCertificate(*authority.pair(HOST))
    certificate.look()
    assert caplog.messages == []
    monkeypatch.setattr(certificates, "SOON", timedelta(days=1_000_000))  # later, as it were
    certificate.look()
    certificate.look()
    (told,) = caplog.messages
    assert "renew it" in told
    monkeypatch.setattr(certificate, "_reminded", date(2026, 1, 1))
    certificate.look()
    assert caplog.messages == [told, told]
