"""Where the data is, and what carries the events on."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import BaseModel, Field, SecretStr, field_validator

from kit.tls import Trust
from kit.wording import reason
from runtime.host.addresses import check_kafka, check_kurrentdb, check_ports, check_url
from runtime.settings.values import checked

_BUCKET = re.compile(r"s3://[A-Za-z0-9._-]{3,255}(/[^\s#?]*)?(\?[^\s#]*)?\Z")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,200}")
_REGION = re.compile(r"[a-z0-9-]{0,63}")


class ServerSettings(BaseModel):
    """Where the data is, and what carries the events on."""

    home: Path = Field(
        Path("~/.ludoteca"),
        description="Folder of this instance: embedded database, logs, mail, images. Each instance needs its own.",
    )
    database_url: SecretStr = Field(
        SecretStr(""), description="PostgreSQL (16 or later). Empty: an embedded one in HOME."
    )
    direct_url: SecretStr = Field(
        SecretStr(""),
        description="The database itself, where LUDOTECA_DATABASE_URL leads to a connection pooler (pgbouncer). Empty: the same.",
    )
    read_url: SecretStr = Field(
        SecretStr(""),
        description="Standbys of the database, which answer queries while they are fresh enough. Empty: the database itself answers.",
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
    master_key_file: str = Field(
        "",
        description="File with the master key, which wraps persons' keys and the program's secrets: a line of 32 random bytes in base64 (docs/privacy.md). Empty: HOME/master.key with the embedded database, which is made at the first start; with another one, keys are not wrapped.",
    )
    tls_ca: str = Field(
        "",
        description="PEM file with authorities that are trusted beside the system's, for certificates of all servers that we connect to.",
    )
    kurrentdb_url: SecretStr = Field(
        SecretStr(""),
        description="KurrentDB as the log of record: kurrentdb://user:password@host:port,host:port?TlsCaFile=FILE, without TLS ?Tls=false. PostgreSQL mirrors it (docs/kurrentdb.md). Empty: PostgreSQL is the log.",
    )
    images_url: str = Field(
        "",
        description="Bucket for images of games: s3://BUCKET/PREFIX?endpoint=URL&region=NAME (needs the extra `s3`). Empty: files in HOME/images.",
    )
    allow_unsafe_database: Literal["on", "off"] = Field(
        "off",
        description="Whether a PostgreSQL that would lose acknowledged orders in a crash (fsync = off) is taken.",
    )
    clock_tolerance_seconds: float = Field(
        60,
        ge=5,
        le=86_400,
        allow_inf_nan=False,
        description="How far the clocks of this machine and of the database may be apart; beyond, nothing is recorded.",
    )
    pool_size: int = Field(10, ge=2, le=200, description="Database connections per process.")

    @field_validator("home")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        try:
            return value.expanduser().resolve()
        except (RuntimeError, OSError) as error:
            raise ValueError(
                f"{reason(error)}: set it to a folder of this instance's own"
            ) from error

    @field_validator("master_key_file")
    @classmethod
    def _key_file(cls, value: str) -> str:
        return str(Path(value).expanduser().resolve()) if value else value

    @field_validator("tls_ca")
    @classmethod
    def _authorities(cls, value: str) -> str:
        if not value:
            return value
        path = str(Path(value).expanduser().resolve())
        try:
            Trust(path).check()
        except OSError as error:  # an SSLError, too
            raise ValueError(
                f"it is a file with certificates in PEM format: {reason(error)}"
            ) from None
        return path

    @field_validator("elasticsearch_url")
    @classmethod
    def _search_server(cls, value: SecretStr) -> SecretStr:
        return checked(value, "http", "https", base=True, port_needed=True)

    @field_validator("rabbitmq_url")
    @classmethod
    def _amqp(cls, value: SecretStr) -> SecretStr:
        return checked(value, "amqp", "amqps")

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

    @field_validator("database_url", "direct_url", "read_url")
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
    def _nodes(cls, value: SecretStr) -> SecretStr:
        if url := value.get_secret_value():
            check_kurrentdb(url)
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

    @property
    def relayed(self) -> bool:
        """Whether there is an event bus for the relay to publish to."""
        return bool(self.rabbitmq_url.get_secret_value() or self.kafka_url.get_secret_value())

    @property
    def mirrored(self) -> bool:
        """Whether the log of record is KurrentDB, and PostgreSQL mirrors it."""
        return bool(self.kurrentdb)

    @property
    def kurrentdb(self) -> str:
        """KurrentDB's URL. It trusts the authorities of `tls_ca` unless it names its own."""
        url = self.kurrentdb_url.get_secret_value()
        options = {name.lower(): value.lower() for name, value in parse_qsl(urlsplit(url).query)}
        if not url or not self.tls_ca or "tlscafile" in options or options.get("tls") == "false":
            return url
        return f"{url}{'&' if options else '?'}{urlencode({'TlsCaFile': self.tls_ca})}"

    @property
    def embedded(self) -> bool:
        """Whether this instance runs its own PostgreSQL."""
        return not self.database_url.get_secret_value()
