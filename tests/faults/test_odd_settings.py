"""Every setting that contains a URL is refused in a line that names it, or can be used."""

import asyncio
import os
from collections.abc import Callable

import httpx
import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import ValidationError

from adapters.elasticsearch.client import open_async_client, open_client
from adapters.notifications.push import PushGateway
from adapters.notifications.smtp import SmtpMailer
from adapters.payments.stripe import StripeProvider
from runtime.cli_commands.failures import explain
from runtime.host.addresses import PROXIES, check_proxies, direct_hosts
from runtime.output.console import Code
from runtime.settings import Settings
from runtime.settings.variables import rows, unknown_settings

PLACES = [name for name in Settings.model_fields if name.endswith(("_url", "_base"))]

SCHEMES = {
    "database_url": "postgresql",
    "direct_url": "postgresql",
    "read_url": "postgresql",
    "rabbitmq_url": "amqp",
    "kafka_url": "kafka",
    "smtp_url": "smtp",
    "images_url": "s3",
}

ODD = {
    "rubbish": "nonsense",
    "blank": " ",
    "only a scheme": "{scheme}://",
    "only slashes": "//",
    "no scheme": "me:hunter22@host:1",
    "another scheme": "gopher://me:hunter22@host:1",
    "no host": "{scheme}:///path",
    "no port": "{scheme}://host",
    "port 0": "{scheme}://me:hunter22@host:0",
    "port too high": "{scheme}://me:hunter22@host:65536",
    "port no number": "{scheme}://me:hunter22",
    "port negative": "{scheme}://host:-1",
    "port of other digits": "{scheme}://host:٣",
    "empty port": "{scheme}://host:",
    "blank in the host": "{scheme}://ho st:1",
    "line break": "{scheme}://host:1\n/path",
    "tab": "{scheme}://ho\tst:1",
    "trailing blank": "{scheme}://host:1 ",
    "trailing slash": "{scheme}://host:1/",
    "path": "{scheme}://host:1/a/b/",
    "query": "{scheme}://host:1/a?b=c",
    "fragment": "{scheme}://host:1/#a",
    "IPv6": "{scheme}://[::1]:1",
    "IPv6 without brackets": "{scheme}://::1:1",
    "IPv6 half in brackets": "{scheme}://me:hunter22@[::1:1",
    "no IPv6": "{scheme}://[zz::1]:1",
    "user": "{scheme}://me:hunter22@host:1",
    "user with signs": "{scheme}://me:hunter22#?/@host:1",
    "user escaped": "{scheme}://me:hunter22%23@host:1",
    "two hosts": "{scheme}://host:1,other:2",
    "other letters": "{scheme}://bücher.example:1",
    "letters that are composed": "{scheme}://me:hunter22@℀.example:1",
    "no letters": "{scheme}://\udcff:1",
    "long label": "{scheme}://" + "a" * 64 + ":1",
    "long host": "{scheme}://" + "a." * 200 + "b:1",
    "dots": "{scheme}://a..b:1",
    "very long": "{scheme}://host:1/" + "a" * 10_000,
    "percent": "{scheme}://host%:1",
}


def both(url: str) -> None:
    async def opened() -> None:
        await open_async_client(url, seconds=1).close()

    asyncio.run(opened())
    open_client(url, seconds=1).close()


def base(url: str) -> None:
    httpx.URL(url + "/path")


TAKERS: dict[str, Callable[[str], object]] = {
    "database_url": conninfo_to_dict,
    "direct_url": conninfo_to_dict,
    "read_url": conninfo_to_dict,
    "elasticsearch_url": both,
    "stripe_api_base": lambda url: StripeProvider("sk_test", ("whsec_test",), api_base=url),
    "smtp_url": lambda url: SmtpMailer(url, "a@example.com")._url.port,
    "push_url": PushGateway,
    "public_url": base,
    "provider_url": base,
    "fiscal_url": base,
}


@pytest.fixture(autouse=True)
def _only_these(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUDOTECA_MAIL_FROM", "shop@example.com")
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


def refused(name: str) -> str:
    """The line in which a command refuses the current settings; empty when all are valid."""
    try:
        settings = Settings()
    except ValidationError as error:
        failure = explain(error)
        assert failure is not None
        assert failure.code == Code.USAGE
        assert failure.message.startswith(name + ": ")
        assert failure.message.count("\n") == 0
        assert "hunter22" not in failure.message
        return failure.message
    assert all("hunter22" not in value for _, value, _, _ in rows(settings))
    return ""


@pytest.mark.parametrize("name", PLACES)
def test_an_odd_url_is_refused_by_its_name_or_can_be_used(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"LUDOTECA_{name.upper()}"
    taken = set()
    for what, value in ODD.items():
        url = value.format(scheme=SCHEMES.get(name, "http"))
        monkeypatch.setenv(variable, url)
        if not refused(variable):
            TAKERS.get(name, str)(url)
            taken.add(what)
    never = {
        "rubbish",
        "blank",
        "only slashes",
        "port 0",
        "port too high",
        "port of other digits",
        "no letters",
    }
    assert taken & never == set()
    if name not in {"images_url", "kurrentdb_url"}:
        assert "other letters" in taken
        assert taken >= {"user", "IPv6", "trailing slash"}


@pytest.mark.parametrize(
    "url",
    [
        "s3://b",
        "s3://me:hunter22@bucket",
        "s3://bucket:9000/x",
        "s3://bucket?endpoint=localhost:9000",
        "s3://bucket?endpoint=http://me:hunter22@host:x",
        "s3://bucket?region=eu%20central",
        "s3://bucket?regoin=eu-central-1",
    ],
)
def test_a_bucket_that_can_be_none_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUDOTECA_IMAGES_URL", url)
    assert "the extra" not in refused("LUDOTECA_IMAGES_URL")


@pytest.mark.parametrize(
    "host",
    [
        "[::1]",
        "127.0.0.1:80",
        "http://host",
        "a b",
        " ",
        "a..b",
        "a" * 64,
        "\udcff",
        "256.1.1.1.",
        "host/",
    ],
)
def test_a_host_to_listen_on_that_can_be_none_is_refused(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUDOTECA_HOST", host)
    if host != "256.1.1.1.":  # a host name, as far as one can tell
        assert refused("LUDOTECA_HOST")


@pytest.mark.parametrize(
    "host",
    ["::", "0.0.0.0", "localhost", "shop.example.", "my_host", "bücher.example", "fe80::1%lo"],
)
def test_a_host_to_listen_on_may_be_a_name_or_an_address(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUDOTECA_HOST", host)
    assert not refused("LUDOTECA_HOST")


@pytest.mark.parametrize("port", ["0", "65536", "-1", "1e3", "x", "5432,0", "٣"])
def test_a_databases_port_that_can_be_none_is_refused(
    port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUDOTECA_DATABASE_URL", f"host=a port={port}")
    assert refused("LUDOTECA_DATABASE_URL")


def test_a_database_of_several_hosts_is_shown_without_its_passwords(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(
        "LUDOTECA_DATABASE_URL",
        "postgresql://me:hunter22@[::1]:1,b:2/shop?sslpassword=hunter22&sslcert=/a/b",
    )
    shown = {name: value for name, value, _, _ in rows(Settings())}
    assert (
        shown["LUDOTECA_DATABASE_URL"]
        == "postgresql://me:********@[::1]:1,b:2/shop?sslpassword=********&sslcert=/a/b"
    )


def test_simulators_have_a_port_whatever_the_apis_is() -> None:
    for port in (1, 8000, 64_535, 64_536, 65_535):
        settings = Settings(
            port=port,
            provider_url="",
            fiscal_url="",
            provider_port=0,
            fiscal_port=0,
            carrier_port=0,
        )
        addresses = (
            settings.provider_address,
            settings.fiscal_address,
            settings.carrier_address,
        )
        ports = {httpx.URL(url).port for url in addresses}
        assert len(ports | {port}) == 4
        assert all(0 < each < 65_536 for each in ports if each)


# -- the environment's proxies ---------------------------------------------------------------------


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("what", ODD)
def test_an_odd_proxy_is_refused_by_its_name_or_can_be_used(
    name: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, ODD[what].format(scheme="http"))
    told = ""
    try:
        check_proxies()
        StripeProvider("sk_test", ("whsec_test",))
    except ValueError as error:
        told = str(error)
    assert not told or told.startswith(name + ": ")
    assert "hunter22" not in told


def test_a_proxy_that_is_none_matters_only_to_who_goes_through_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("https_proxy", "http://me:hunter22@host:x")
    assert not refused("https_proxy")
    monkeypatch.setenv("LUDOTECA_PAYMENT_PROVIDER", "stripe")
    monkeypatch.setenv("LUDOTECA_STRIPE_API_KEY", "sk_test")
    monkeypatch.setenv("LUDOTECA_PAYMENT_WEBHOOK_SECRETS", "whsec_test")
    assert "65535" in refused("https_proxy")


def test_what_goes_through_no_proxy_is_read_as_far_as_it_can_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = (
        "*.a.example, b.example:80,10.0.0.0/8,::1,[::2],fd00::/8,[::1]:80,http://c:port,[::1,a"
        " b,bücher,..,\udcff,"
    )
    monkeypatch.setenv("NO_PROXY", ",".join(direct_hosts(given)))
    assert os.environ["NO_PROXY"] == "*.a.example,b.example:80,10.0.0.0/8,::1,::2"
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    StripeProvider("sk_test", ("whsec_test",))


# -- variables that are no settings ----------------------------------------------------------------


def test_a_variable_that_looks_like_a_setting_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LUDOTECA_")]:
        monkeypatch.delenv(name)
    for name in ("LUDOTECA_PROT", "ludoteca_databse_url", "LUDOTEKA_HOME", "LUDOTECA_QUOKKA"):
        monkeypatch.setenv(name, "1")
    assert list(unknown_settings().values()) == [
        "LUDOTECA_PROT is no setting (did you mean LUDOTECA_PORT?)",
        "LUDOTECA_QUOKKA is no setting",
        "LUDOTEKA_HOME is no setting (did you mean LUDOTECA_HOME?)",
        "ludoteca_databse_url is no setting (did you mean LUDOTECA_DATABASE_URL?)",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "ludoteca_port",
        "LUDOTECA_NEW_PASSWORD",
        "LUDOTECA_TEST_CACHE",
        "LUDOTECA_SERVICE_HOST",
        "LUDOTECA_SERVICE_PORT_HTTP",
        "LUDOTECA_PORT_8000_TCP_ADDR",
        "LUDOTECA_API_PORT_8000_TCP",
        "LUDOTECA_API_PORT",
        "LUDO",
    ],
)
def test_variables_of_other_programs_are_not_reported(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    assert name not in unknown_settings()
