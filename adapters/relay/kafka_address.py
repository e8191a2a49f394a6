"""Where Kafka is, and how to sign in: a URL."""

import ssl
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit


class KafkaAddress(NamedTuple):
    """The parts of kafka://USER:PASSWORD@HOST:PORT,HOST:PORT?sasl=MECHANISM. With kafkas:// it is
    TLS, by `cafile`, `certfile` and `keyfile` behind the ?, or by the system's authorities."""

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

    def arguments(self) -> dict[str, object]:
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
            arguments["ssl_context"] = self._tls_context()
        return arguments

    def _tls_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.files.get("cafile"))
        if certificate := self.files.get("certfile"):
            context.load_cert_chain(certificate, self.files.get("keyfile"))
        return context
