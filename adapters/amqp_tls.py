"""Whom connections to RabbitMQ trust."""

import ssl
from urllib.parse import parse_qsl, urlsplit

from kit.tls import Trust


def amqp_context(url: str, trust: Trust) -> ssl.SSLContext | None:
    """The context for an amqps URL, which may have `cafile`, `certfile` and `keyfile` behind the
    ?; None for another. Raises OSError."""
    parts = urlsplit(url)
    return trust.context_of(dict(parse_qsl(parts.query))) if parts.scheme == "amqps" else None
