"""Where Kafka is, and how to sign in: a URL."""

from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from kit.tls import USUAL, Trust


class KafkaAddress(NamedTuple):
    """The parts of kafka://USER:PASSWORD@HOST:PORT,HOST:PORT?sasl=MECHANISM. With kafkas:// it is
    TLS, by `cafile`, `certfile` and `keyfile` behind the ?, or by the usual authorities."""

    servers: str
    user: str
    password: str
    sasl: str
    tls: bool
    files: dict[str, str]

    @classmethod
    def of(cls, url: str) -> "KafkaAddress":
        parts = urlsplit(url)
        credentials, _, servers = parts.netloc.rpartition("@")
        user, _, password = credentials.partition(":")
        options = dict(parse_qsl(parts.query))
        return cls(
            servers,
            unquote(user),
            unquote(password),
            options.pop("sasl", "PLAIN"),
            parts.scheme == "kafkas",
            options,
        )

    def arguments(self, trust: Trust = USUAL) -> dict[str, object]:
        """The arguments of aiokafka's clients. Raises OSError if a file cannot be read."""
        protocol = "SSL" if self.tls else "PLAINTEXT"
        arguments: dict[str, object] = {
            "bootstrap_servers": self.servers,
            "security_protocol": f"SASL_{protocol}" if self.user else protocol,
        }
        if self.user:
            arguments |= {
                "sasl_mechanism": self.sasl,
                "sasl_plain_username": self.user,
                "sasl_plain_password": self.password,
            }
        if self.tls:
            arguments["ssl_context"] = trust.context_of(self.files)
        return arguments
