"""Settings: environment variables LUDOTECA_…, each with its meaning. `ludoteca settings` and
docs/settings.md list them."""

import re
from email.utils import parseaddr
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from runtime.addresses import check_host, check_kafka, check_ports, check_proxies, check_url

_BUCKET = re.compile(r"s3://[A-Za-z0-9._-]{3,255}(/[^\s#?]*)?(\?[^\s#]*)?\Z")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,200}")
_REGION = re.compile(r"[a-z0-9-]{0,63}")

T = TypeVar("T", str, SecretStr, str | SecretStr)

Strings = Annotated[tuple[str, ...], NoDecode]
Duration = Annotated[float, Field(ge=0, le=10 * 365 * 86_400, allow_inf_nan=False)]
"""Seconds, at most ten years."""

Seconds = Annotated[tuple[Duration, ...], NoDecode]


class Settings(BaseSettings):
    """All settings. An empty variable counts as not set."""

    model_config = SettingsConfigDict(
        env_prefix="LUDOTECA_", env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    home: Path = Field(
        Path("~/.ludoteca"),
        description="Folder of this instance: embedded database, logs, mail, images. Each instance needs its own.",
    )
    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8000, ge=1, le=65535, description="Port that the API listens on.")
    public_url: str = Field(
        "", description="Where clients reach the API, if not at http://HOST:PORT."
    )
    trusted_proxies: Strings = Field(
        (), description="Addresses of proxies whose X-Forwarded-For is trusted."
    )
    max_connections: int = Field(
        800,
        ge=1,
        description="Most connections of one API process, WebSockets included; more are refused with 503.",
    )
    head_seconds: Duration = Field(
        10.0, gt=0, description="How long the head of a request may take to arrive; then 408."
    )
    body_seconds: Duration = Field(
        30.0, gt=0, description="How long the body of a request may take to arrive; then 408."
    )
    database_url: SecretStr = Field(
        SecretStr(""), description="PostgreSQL (16 or later). Empty: an embedded one in HOME."
    )
    rabbitmq_url: SecretStr = Field(
        SecretStr(""), description="RabbitMQ for payments and the event bus. Empty: PostgreSQL."
    )
    kafka_url: SecretStr = Field(
        SecretStr(""),
        description="Kafka for the event bus: kafka://user:password@host:port,host:port?sasl=SCRAM-SHA-512, with TLS kafkas:// (needs the extra `kafka`). Empty: none.",
    )
    kafka_topic: str = Field(
        "ludoteca.events",
        description="Topic for the log's events. `ludoteca.{context}`: a topic for each first word of the events' names.",
    )
    elasticsearch_url: SecretStr = Field(
        SecretStr(""), description="Elasticsearch for search. Empty: PostgreSQL."
    )
    kurrentdb_url: SecretStr = Field(
        SecretStr(""),
        description="Reserved for the log on KurrentDB, which is not supported yet: must be empty.",
    )
    admin_email: str = Field(
        "admin@ludoteca.example",
        description="E-mail of the first ADMIN, created at the first start.",
    )
    admin_password: SecretStr = Field(
        SecretStr(""),
        description="Password of the first ADMIN. Empty: one is generated and stored in HOME/admin-password.txt.",
    )
    sample: Literal["on", "off"] = Field(
        "on", description="Whether a new shop starts with a sample of real games."
    )
    allow_unsafe_database: Literal["on", "off"] = Field(
        "off",
        description="Whether a PostgreSQL that would lose acknowledged orders in a crash (fsync = off) is taken.",
    )
    rate_limit: Literal["on", "off"] = Field(
        "on", description="Whether requests are rate-limited per client and user."
    )
    rate_limit_ipv6_prefix: int = Field(
        64,
        ge=1,
        le=128,
        description="How many leading bits of an IPv6 address count as one client.",
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="The format of the processes' logs."
    )
    payment_provider: Literal["simulated", "stripe"] = Field(
        "simulated", description="The provider of card payments."
    )
    stripe_api_key: SecretStr = Field(
        SecretStr(""), description="Stripe's secret key (sk_…), required with Stripe."
    )
    stripe_api_base: str = Field(
        "", description="URL of Stripe's API, if another, such as stripe-mock."
    )
    payment_return_url: str = Field(
        "",
        description="Where Stripe sends buyers back to after 3-D Secure. Empty: the client goes on with Stripe.js.",
    )
    provider_url: str = Field(
        "", description="The simulated payment provider's API. Empty: the one that `run` starts."
    )
    provider_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of the simulated payment provider. 0: PORT + 1000, or a free one.",
    )
    provider_public_url: str = Field(
        "",
        description="Where buyers reach the pages of the simulated provider (to pay, 3-D Secure), if elsewhere.",
    )
    provider_key: SecretStr = Field(
        SecretStr(""),
        description="Key of the simulated provider's API, asked for unless it listens on this machine only. Empty: one is made.",
    )
    payment_webhook_url: str = Field(
        "",
        description="Where the simulated provider sends its webhooks. Empty: to this instance's API.",
    )
    payment_webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Secrets of the provider's webhook (Stripe's: whsec_…), comma separated (several while rotating). Empty: one is made.",
    )
    carrier_webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Secrets of the parcel carrier's webhook, comma separated (several while rotating). Empty: one is made.",
    )
    fiscal_url: str = Field(
        "", description="The fiscal operator's API. Empty: the simulated one that `run` starts."
    )
    fiscal_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of the simulated fiscal operator. 0: PORT + 2000, or a free one.",
    )
    fiscal_key: SecretStr = Field(
        SecretStr(""),
        description="Key of the fiscal operator's API; the simulated one asks for it unless it listens on this machine only. Empty: one is made.",
    )
    fiscal_public_url: str = Field(
        "", description="Where people reach the simulated fiscal operator's receipts, if elsewhere."
    )
    payment_timeout_seconds: Duration = Field(
        5.0,
        gt=0,
        description="How long the payment provider and the fiscal operator may take to answer a call.",
    )
    payment_retry_seconds: Seconds = Field(
        (0.5, 2.0, 8.0, 30.0),
        description="Pauses between tries of a payment, comma separated; then it is a dead letter.",
    )
    smtp_url: SecretStr = Field(
        SecretStr(""),
        description="SMTP server for mail: smtp://user:password@host:port (TLS where offered), smtp+starttls://… or smtps://…. Empty: files in HOME/mail.",
    )
    mail_from: str = Field(
        "",
        description="Who mail comes from, as `Shop <shop@example.com>`; needed with LUDOTECA_SMTP_URL.",
    )
    push_url: SecretStr = Field(
        SecretStr(""),
        description="Gateway that push notifications are posted to. Empty: files in HOME/push.",
    )
    notice_retry_seconds: Seconds = Field(
        (2.0, 30.0, 300.0, 1800.0),
        description="Pauses between tries of a mail or push notice, or of a fiscal receipt, comma separated; then it is a dead letter.",
    )
    images_url: str = Field(
        "",
        description="Bucket for images of games: s3://BUCKET/PREFIX?endpoint=URL&region=NAME (needs the extra `s3`). Empty: files in HOME/images.",
    )
    webhook_retry_seconds: Seconds = Field(
        (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0),
        description="Pauses between tries of a webhook to a merchant, comma separated; then it is a dead letter.",
    )
    webhook_private: Literal["refuse", "allow"] = Field(
        "refuse",
        description="Whether merchants' webhooks may be http, or lead to addresses that are not public: for development.",
    )
    payment_ttl_seconds: Duration = Field(
        1800, gt=0, description="How long an order may stay unpaid."
    )
    cart_ttl_seconds: Duration = Field(
        900, gt=0, description="How long a cart and its reservations last after a change."
    )
    cart_max_seconds: Duration = Field(
        3600,
        gt=0,
        description="How long a cart and its reservations last at most, however often it is changed.",
    )
    cart_max_quantity: int = Field(
        10,
        ge=1,
        description="How many of one physical game a buyer holds at most, in cart and unpaid orders together.",
    )
    allocation_ttl_seconds: Duration = Field(
        1800, gt=0, description="How long allocated stock waits for the payment."
    )
    platform_fee_bps: int = Field(
        1000,
        ge=0,
        le=10_000,
        description="The platform's share of a sale, in basis points (1/100 percent).",
    )
    low_stock: int = Field(
        5, ge=0, description="A seller is notified when orders leave no more units than this."
    )
    clock_tolerance_seconds: float = Field(
        60,
        ge=5,
        le=86_400,
        allow_inf_nan=False,
        description="How far the clocks of this machine and of the database may be apart; beyond, nothing is recorded.",
    )
    workers: int = Field(
        16, ge=1, le=256, description="How many payments one worker process handles at once."
    )
    pool_size: int = Field(10, ge=2, le=200, description="Database connections per process.")
    api_processes: int = Field(
        1, ge=1, le=64, description="How many API processes `run` starts; they share HOST:PORT."
    )
    worker_processes: int = Field(1, ge=1, le=64, description="How many workers `run` starts.")
    projector_processes: int = Field(
        1,
        ge=1,
        le=64,
        description="How many projectors `run` starts; one leads each read model, the others stand by.",
    )

    @field_validator(
        "trusted_proxies",
        "payment_webhook_secrets",
        "carrier_webhook_secrets",
        "payment_retry_seconds",
        "notice_retry_seconds",
        "webhook_retry_seconds",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("home")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        try:
            return value.expanduser().resolve()
        except (RuntimeError, OSError) as error:
            raise ValueError(f"{error}: set it to a folder of this instance's own") from error

    @field_validator("host")
    @classmethod
    def _listened_on(cls, value: str) -> str:
        check_host(value)
        return value

    @field_validator(
        "public_url",
        "stripe_api_base",
        "provider_url",
        "provider_public_url",
        "fiscal_url",
        "fiscal_public_url",
    )
    @classmethod
    def _base_address(cls, value: str) -> str:
        return _checked(value, "http", "https", base=True)

    @field_validator("payment_webhook_url", "push_url")
    @classmethod
    def _web_address(cls, value: str | SecretStr) -> str | SecretStr:
        return _checked(value, "http", "https")

    @field_validator("payment_return_url")
    @classmethod
    def _returned_to(cls, value: str) -> str:  # an app may have its own scheme
        return _checked(value)

    @field_validator("elasticsearch_url")
    @classmethod
    def _search_server(cls, value: SecretStr) -> SecretStr:
        return _checked(value, "http", "https", base=True, port_needed=True)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if each != "*":
                ip_network(each, strict=False)
        return value

    @field_validator("rabbitmq_url")
    @classmethod
    def _amqp(cls, value: SecretStr) -> SecretStr:
        return _checked(value, "amqp", "amqps")

    @field_validator("kafka_url")
    @classmethod
    def _brokers(cls, value: SecretStr) -> SecretStr:
        if url := value.get_secret_value():
            check_kafka(url)
            if find_spec("aiokafka") is None:
                raise ValueError("it needs the extra `kafka`: pip install 'ludoteca[kafka]'")
        return value

    @field_validator("kafka_topic")
    @classmethod
    def _topic(cls, value: str) -> str:
        if not _TOPIC.fullmatch(value.replace("{context}", "context", 1)):
            raise ValueError(
                "it is up to 200 letters, digits, dots, _ and -, among them perhaps {context}"
            )
        return value

    @field_validator("database_url")
    @classmethod
    def _conninfo(cls, value: SecretStr) -> SecretStr:
        import psycopg  # slow to import, and not every command uses a database
        from psycopg.conninfo import conninfo_to_dict

        text = value.get_secret_value()
        try:
            parameters = conninfo_to_dict(text)
        except psycopg.Error:  # its message would repeat a part of the value, perhaps the password
            parameters = {}
        if text and not parameters:
            raise ValueError(
                "it is postgresql://user:password@host:port/database, or key=value pairs of libpq"
            )
        check_ports(str(parameters.get("port") or ""))
        return value

    @field_validator("kurrentdb_url")
    @classmethod
    def _not_yet(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            raise ValueError(
                "the log on KurrentDB is not supported yet; leave LUDOTECA_KURRENTDB_URL empty"
            )
        return value

    @field_validator("stripe_api_key")
    @classmethod
    def _key_of_stripe(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if info.data.get("payment_provider") == "stripe" and not value.get_secret_value():
            raise ValueError("Stripe's secret key is needed with LUDOTECA_PAYMENT_PROVIDER=stripe")
        return value

    @field_validator("payment_webhook_secrets")
    @classmethod
    def _secrets_of_stripe(
        cls, value: tuple[SecretStr, ...], info: ValidationInfo
    ) -> tuple[SecretStr, ...]:
        if info.data.get("payment_provider") == "stripe" and not value:
            raise ValueError(
                "the webhook's signing secret is needed with LUDOTECA_PAYMENT_PROVIDER=stripe"
            )
        return value

    @field_validator("images_url")
    @classmethod
    def _bucket(cls, value: str) -> str:
        if not value:
            return value
        if not _BUCKET.match(value):
            raise ValueError("it is s3://, and a bucket")
        options = dict(parse_qsl(urlsplit(value).query))
        if unknown := options.keys() - {"endpoint", "region"}:
            raise ValueError(
                f"behind ? there may be endpoint=URL and region=NAME, not {', '.join(sorted(unknown))}"
            )
        if "endpoint" in options:
            check_url(options["endpoint"], "http", "https", base=True)
        if not _REGION.fullmatch(options.get("region", "")):
            raise ValueError("a region is a name such as eu-central-1")
        if find_spec("boto3") is None:
            raise ValueError("it needs the extra `s3`: pip install 'ludoteca[s3]'")
        return value

    @field_validator("smtp_url")
    @classmethod
    def _smtp(cls, value: SecretStr) -> SecretStr:
        return _checked(value, "smtp", "smtp+starttls", "smtps")

    @field_validator("mail_from")
    @classmethod
    def _sender(cls, value: str, info: ValidationInfo) -> str:
        smtp_url = info.data.get("smtp_url")
        if (
            smtp_url is not None
            and smtp_url.get_secret_value()
            and not parseaddr(value)[1].rpartition("@")[0]
        ):
            raise ValueError("an e-mail address is needed with LUDOTECA_SMTP_URL")
        return value

    @model_validator(mode="after")
    def _reached_through_proxies(self) -> "Settings":
        if self.payment_provider == "stripe" or self.images_url:
            check_proxies()
        return self

    @property
    def api_url(self) -> str:
        """Where clients reach the API."""
        return self.public_url.rstrip("/") or self.local_url

    @property
    def local_url(self) -> str:
        """The URL at which this machine's processes reach the API."""
        return _http(self.host, self.port)

    @property
    def provider_host(self) -> str:
        """The address that the simulated payment provider and fiscal operator listen on. Only this
        machine needs to reach them, unless the API listens on all addresses."""
        return self.host if _is_wildcard(self.host) else "127.0.0.1"

    @property
    def provider_is_published(self) -> bool:
        """Whether other machines can reach the simulated payment provider and fiscal operator."""
        return self.provider_host != "127.0.0.1"

    @property
    def provider_address(self) -> str:
        """The simulated payment provider's API."""
        return self.provider_url.rstrip("/") or _http(
            self.provider_host, self.provider_port or beside(self.port, 1000)
        )

    @property
    def fiscal_address(self) -> str:
        """The fiscal operator's API."""
        return self.fiscal_url.rstrip("/") or _http(
            self.provider_host, self.fiscal_port or beside(self.port, 2000)
        )

    @property
    def provider_listens_on(self) -> int:
        """The port of the simulated payment provider when it runs on its own."""
        return urlsplit(self.provider_address).port or beside(self.port, 1000)

    @property
    def fiscal_listens_on(self) -> int:
        """The port of the simulated fiscal operator when it runs on its own."""
        return urlsplit(self.fiscal_address).port or beside(self.port, 2000)

    @property
    def webhook_url(self) -> str:
        """Where the simulated provider sends its webhooks."""
        return self.payment_webhook_url or f"{self.local_url}/api/v1/payments/webhook"

    @property
    def relayed(self) -> bool:
        """Whether there is an event bus for the relay to publish to."""
        return bool(self.rabbitmq_url.get_secret_value() or self.kafka_url.get_secret_value())

    @property
    def embedded(self) -> bool:
        """Whether this instance runs its own PostgreSQL."""
        return not self.database_url.get_secret_value()


def _checked(value: T, *schemes: str, base: bool = False, port_needed: bool = False) -> T:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if text:
        check_url(text, *schemes, base=base, port_needed=port_needed)
    return value


def beside(port: int, distance: int) -> int:
    """The port of a simulator that has no port set."""
    return port + distance if port + distance < 65536 else port - distance


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:  # a name
        return False


def _http(host: str, port: int) -> str:
    """The URL of a server on this machine that listens on this address. One that listens on all
    addresses is reached by loopback."""
    if _is_wildcard(host):
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
