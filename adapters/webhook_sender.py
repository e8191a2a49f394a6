"""Posts webhooks to servers of merchants, signed by Standard Webhooks 1.0 (https://www.standardwebhooks.com).

Nothing leads it into our own network: each address is looked at when a socket for it is made, after the name was
resolved, so that a name which resolves to something else the next time is of no use; and no redirect is followed.
"""

import asyncio
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks import Webhook

from commands.ports import WebhookMessage, WebhookUnsent
from domain.errors import Invalid
from domain.web_addresses import check_address, check_url, is_public

TIMEOUT_SECONDS = 15.0
RESOLVE_SECONDS = 3.0
MAX_ANSWER_BYTES = 64 * 1024
CONNECTIONS_PER_HOST = 8
RESOLVERS = 8
"""Threads that look names up."""
USER_AGENT = "Ludoteca-Webhooks/1.0"


class AddressRefused(OSError):
    """An address that is not called. The text is the same for all, so that of several the first stands for them."""

    def __init__(self) -> None:
        super().__init__("the address is not public")


class _OwnResolver(AbstractResolver):
    """Looks names up in threads of its own: a merchant's name server that never answers holds up no payment, whose
    look-ups go through the loop's few threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVERS, "webhook-resolver")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises OSError."""
        look_up = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=int(address[1]), family=kind, proto=protocol, flags=0
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Let go of the threads; those that still wait end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class HttpWebhookSender:
    """Fulfils `WebhookSender`. `private`: whether addresses that are not public, and http, are called (for development
    and tests). To be made and closed within a running event loop."""

    def __init__(
        self, *, private: Literal["refuse", "allow"] = "refuse", timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._private_allowed = private == "allow"
        self._resolver = _OwnResolver()
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit_per_host=CONNECTIONS_PER_HOST, socket_factory=self._socket, resolver=self._resolver
            ),
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.close()
        await self._resolver.close()

    async def check(self, url: str) -> None:
        """Raises Invalid("webhook_url_refused") when it would not call this. A name that cannot be resolved now is not
        refused: that may pass, and each sending looks again."""
        check_url(url, private_allowed=self._private_allowed)
        if self._private_allowed:
            return
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                found = await self._resolver.resolve(urlsplit(url).hostname or "", family=socket.AF_UNSPEC)
        except (OSError, UnicodeError):  # a timeout is an OSError
            return
        for each in found:
            check_address(each["host"])

    async def send(self, message: WebhookMessage) -> int:
        """Post the message; returns the answer's status. Raises WebhookUnsent: address_refused, unreachable,
        tls_failed, timeout, malformed_answer."""
        try:
            check_url(message.url, private_allowed=self._private_allowed)  # what is allowed may have changed since
            async with self._http.post(
                message.url, data=message.body, headers=_headers(message), allow_redirects=False
            ) as response:
                await _drain(response)
                return response.status
        except Invalid as error:
            raise WebhookUnsent("address_refused") from error
        except TimeoutError as error:
            raise WebhookUnsent("timeout") from error
        except (ssl.SSLError, aiohttp.ClientConnectorSSLError, aiohttp.ClientConnectorCertificateError) as error:
            raise WebhookUnsent("tls_failed") from error
        except aiohttp.ClientConnectorError as error:
            refused = isinstance(error.os_error, AddressRefused)
            raise WebhookUnsent("address_refused" if refused else "unreachable") from error
        except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError) as error:
            raise WebhookUnsent("malformed_answer") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise WebhookUnsent("unreachable") from error

    def _socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        if not self._private_allowed and not is_public(str(address[0])):
            raise AddressRefused
        return socket.socket(family, kind, protocol)


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read a short answer to its end, so that the connection can be kept. What it says is decided by its status: one
    that is long, slow or broken is left at that."""
    left = MAX_ANSWER_BYTES
    try:
        while left > 0 and (chunk := await response.content.read(left)):
            left -= len(chunk)
    except (aiohttp.ClientError, TimeoutError):
        response.close()


def _headers(message: WebhookMessage) -> dict[str, str]:
    """The three headers of the standard: one signature for each secret, the newest first."""
    body = message.body.decode()
    signatures = [Webhook(secret).sign(message.message_id, message.sent_at, body) for secret in message.secrets]
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": message.message_id,
        "webhook-timestamp": str(int(message.sent_at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
