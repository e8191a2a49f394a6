"""Every client reaches a server whose certificate the shop's authority has signed, and no other."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiormq.exceptions import AMQPError
from elastic_transport import TlsError
from yarl import URL

from adapters.elasticsearch.client import open_async_client, open_client
from adapters.fiscal.client import HttpFiscalOperator
from adapters.images.fetcher import HttpImageFetcher
from adapters.images.s3 import ImageBucket
from adapters.notifications.push import PushGateway
from adapters.notifications.smtp import SmtpMailer
from adapters.payments.simulated import SimulatedProvider
from adapters.payments.stripe import StripeProvider
from adapters.queues import rabbitmq
from adapters.relay.rabbitmq import RabbitPublisher
from adapters.webhooks.sender import HttpWebhookSender
from commands.ports.fiscal import OperatorUnavailable
from commands.ports.images import ImageStoreUnavailable
from commands.ports.notifications import NotDelivered
from commands.ports.payments import ProviderRefused, ProviderUnavailable
from commands.ports.webhooks import WebhookMessage, WebhookUnsent
from domain.errors import Invalid
from kit.tls import USUAL, Renewed, Trust, pinned
from tests.support.servers.mail import SENDER, a_message, smtp_server
from tests.support.servers.tcp_proxy import Wire
from tests.support.servers.tls import Authority

HOST = "127.0.0.1"
SECRET = "whsec_" + "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class Case(NamedTuple):
    """A server's certificate, and whether a client knows the authority behind it."""

    name: str
    expired: bool
    known: bool
    reached: bool


CASES = {
    "a known authority": Case(HOST, expired=False, known=True, reached=True),
    "an unknown authority": Case(HOST, expired=False, known=False, reached=False),
    "another server": Case("elsewhere.example", expired=False, known=True, reached=False),
    "an expired certificate": Case(HOST, expired=True, known=True, reached=False),
}

cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def server_context(authority: Authority, case: Case) -> ssl.SSLContext:
    return authority.context(case.name, expired=case.expired)


def trust_of(authority: Authority, case: Case) -> Trust:
    return Trust(authority.file) if case.known else USUAL


# -- HTTP ------------------------------------------------------------------------------------------


async def post_notice(url: str, trust: Trust) -> None:
    gateway = PushGateway(url, tls=trust.context)
    with suppress(NotDelivered):
        await gateway.send(a_message())
    await gateway.aclose()


async def ask_operator(url: str, trust: Trust) -> None:
    operator = HttpFiscalOperator(url, tls=trust.context)
    with suppress(OperatorUnavailable):
        await operator.receipts_since(None, None)
    await operator.aclose()


async def ask_provider(url: str, trust: Trust) -> None:
    provider = SimulatedProvider(url, ["secret"], tls=trust.context)
    with suppress(ProviderUnavailable, ProviderRefused):
        await provider.get("pi_1")
    await provider.aclose()


async def ask_stripe(url: str, trust: Trust) -> None:
    stripe = StripeProvider("sk_test_1", ["secret"], api_base=url, trust=trust)
    with suppress(ProviderUnavailable, ProviderRefused):
        await stripe.get("pi_1")
    await stripe.aclose()


async def send_webhook(url: str, trust: Trust) -> None:
    sender = HttpWebhookSender(private="allow", tls=trust.context)
    with suppress(WebhookUnsent):
        await sender.send(WebhookMessage("msg_1", url, b"{}", [SECRET], datetime.now(UTC)))
    await sender.aclose()


async def fetch_image(url: str, trust: Trust) -> None:
    fetcher = HttpImageFetcher(private="allow", tls=trust.context)
    with suppress(Invalid):
        await fetcher.fetch(url, 1000)
    await fetcher.aclose()


async def look_into_bucket(url: str, trust: Trust) -> None:
    bucket = ImageBucket(f"s3://bucket/?endpoint={url}&region=eu-central-1", trust)
    with suppress(ImageStoreUnavailable):
        await bucket.exists("image")
    bucket.close()


Call = Callable[[str, Trust], Awaitable[None]]
CALLS: dict[str, Call] = {
    "push": post_notice,
    "fiscal": ask_operator,
    "provider": ask_provider,
    "stripe": ask_stripe,
    "webhooks": send_webhook,
    "images": fetch_image,
    "s3": look_into_bucket,
}


@asynccontextmanager
async def recording(context: ssl.SSLContext) -> AsyncIterator[tuple[str, list[str]]]:
    """The address of a server with TLS, and the paths that it is asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=404)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(app, host=HOST, scheme="https")
    await server.start_server(ssl=context)
    try:
        yield f"https://{HOST}:{server.port}", asked
    finally:
        await server.close()


@cases
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_client_over_http(
    call: Call, case: Case, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with recording(server_context(authority, case)) as (url, asked):
        await call(url, trust_of(authority, case))
        assert bool(asked) == case.reached


async def test_the_own_certificate_is_trusted_whatever_its_name_and_no_other_is(
    authority: Authority,
) -> None:
    ours = authority.pair("shop.example")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*ours)
    async with recording(context) as (url, asked):
        gateway = PushGateway(url, tls=pinned(ours.certificate))
        with pytest.raises(NotDelivered, match="404"):
            await gateway.send(a_message())
        await gateway.aclose()
        assert len(asked) == 1
    async with recording(authority.context("shop.example")) as (url, asked):
        await post_notice(url, Pinned(ours.certificate))
        assert asked == []


class Pinned(Trust):
    """Trusts one certificate."""

    def __init__(self, certificate: str) -> None:
        super().__init__()
        self.context = pinned(certificate)


def test_a_renewed_certificate_of_ours_is_trusted_and_the_one_before_no_longer(
    authority: Authority,
) -> None:
    certificate, _ = authority.pair("shop.example")
    renewed = Renewed(certificate)
    before = renewed.context()
    assert renewed.context() is before  # connections are shared
    authority.pair("shop.example")
    after = renewed.context()
    assert after is not before


# -- mail ------------------------------------------------------------------------------------------


@cases
async def test_mail(case: Case, authority: Authority) -> None:
    context = server_context(authority, case)
    for scheme, settings in (
        ("smtps", {"tls": context}),
        ("smtp+starttls", {"tls_context": context}),
    ):
        async with smtp_server(**settings) as postbox:
            url = f"{scheme}://{HOST}:{postbox.port}"
            mailer = SmtpMailer(url, SENDER, tls_context=trust_of(authority, case).context)
            with suppress(NotDelivered):
                await mailer.send(a_message())
            assert bool(postbox.mails()) == case.reached


# -- RabbitMQ and Elasticsearch --------------------------------------------------------------------


@cases
async def test_rabbitmq(case: Case, authority: Authority, rabbitmq_url: str) -> None:
    plain, trust = URL(rabbitmq_url), trust_of(authority, case)
    wire = Wire(plain.host or HOST, plain.port or 5672, server_context(authority, case))
    async with wire:
        url = str(plain.with_scheme("amqps").with_host(HOST).with_port(wire.port))
        publisher = RabbitPublisher(url, trust=trust)
        if case.reached:
            await publisher.connect()
        else:
            with pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
                await publisher.connect()
        await publisher.close()
        assert await _is_connected(url, trust) == case.reached


async def _is_connected(url: str, trust: Trust) -> bool:
    connection = await rabbitmq.connect(url, trust=trust)
    try:
        return connection.connected.is_set()
    finally:
        with suppress(AMQPError):
            await connection.close()


async def test_rabbitmq_by_the_authority_that_its_url_names(
    authority: Authority, rabbitmq_url: str
) -> None:
    plain = URL(rabbitmq_url)
    wire = Wire(plain.host or HOST, plain.port or 5672, authority.context(HOST))
    async with wire:
        url = plain.with_scheme("amqps").with_host(HOST).with_port(wire.port)
        publisher = RabbitPublisher(str(url.with_query(cafile=authority.file)))
        await publisher.connect()
        await publisher.close()


@cases
async def test_elasticsearch(case: Case, authority: Authority, elasticsearch_url: str) -> None:
    plain, trust = URL(elasticsearch_url), trust_of(authority, case)
    wire = Wire(plain.host or HOST, plain.port or 9200, server_context(authority, case))
    async with wire:
        url = f"https://{HOST}:{wire.port}"
        async with open_async_client(url, seconds=5, trust=trust) as client:
            if case.reached:
                assert (await client.cluster.health())["status"]
                return
            with pytest.raises(TlsError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.cluster.health()


@cases
async def test_elasticsearch_from_threads(
    case: Case, authority: Authority, elasticsearch_url: str
) -> None:
    plain, trust = URL(elasticsearch_url), trust_of(authority, case)
    wire = Wire(plain.host or HOST, plain.port or 9200, server_context(authority, case))
    async with wire:
        with open_client(f"https://{HOST}:{wire.port}", seconds=5, trust=trust) as client:
            ask = asyncio.to_thread(client.cluster.health)
            if case.reached:
                assert (await ask)["status"]
                return
            with pytest.raises(TlsError, match="CERTIFICATE_VERIFY_FAILED"):
                await ask
