"""Posts webhooks to servers of merchants, signed by Standard Webhooks 1.0
(https://www.standardwebhooks.com).

It never reaches our own network (`adapters.public_http`), and follows no redirects.
"""

import asyncio
import socket
import ssl
from urllib.parse import urlsplit

import aiohttp
from standardwebhooks import Webhook

from adapters.public_http import AddressRefused, PublicClient
from commands.ports.webhooks import WebhookMessage, WebhookUnsent
from domain.errors import Invalid
from domain.web_addresses import check_address, check_url
from kit.metrics import timed_call

RESOLVE_SECONDS = 3.0
MAX_ANSWER_BYTES = 64 * 1024
USER_AGENT = "Ludoteca-Webhooks/1.0"


class HttpWebhookSender(PublicClient):
    """Implements `WebhookSender`. `private`: whether other addresses, and http, are allowed."""

    RESOLVER = "webhook-resolver"
    TIMEOUT_SECONDS = 15.0

    async def check(self, url: str) -> None:
        """Raises Invalid("webhook_url_refused") when it would not call this URL. A name that cannot
        be resolved now is allowed: that may pass, and each sending checks again."""
        check_url(url, private_allowed=self._private_allowed)
        if self._private_allowed:
            return
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                found = await self._resolver.resolve(
                    urlsplit(url).hostname or "", family=socket.AF_UNSPEC
                )
        except (OSError, UnicodeError):  # a timeout is an OSError
            return
        for each in found:
            check_address(each["host"])

    async def send(self, message: WebhookMessage) -> int:
        """Post the message. Returns the answer's status. Raises WebhookUnsent: address_refused,
        unreachable, tls_failed, timeout, malformed_answer."""
        try:
            # the rules may have changed since
            check_url(message.url, private_allowed=self._private_allowed)
            with timed_call("merchants") as call:
                async with self._http.post(
                    message.url, data=message.body, headers=_headers(message), allow_redirects=False
                ) as response:
                    call.answered(response.status)
                    await _drain(response)
                    return response.status
        except Invalid as error:
            raise WebhookUnsent("address_refused") from error
        except TimeoutError as error:
            raise WebhookUnsent("timeout") from error
        except (
            ssl.SSLError,
            aiohttp.ClientConnectorSSLError,
            aiohttp.ClientConnectorCertificateError,
        ) as error:
            raise WebhookUnsent("tls_failed") from error
        except aiohttp.ClientConnectorError as error:
            refused = isinstance(error.os_error, AddressRefused)
            raise WebhookUnsent("address_refused" if refused else "unreachable") from error
        except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError) as error:
            raise WebhookUnsent("malformed_answer") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise WebhookUnsent("unreachable") from error


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read a short answer to its end, so that the connection can be reused. The status alone
    decides: a long, slow or broken answer is cut off."""
    left = MAX_ANSWER_BYTES
    try:
        while left > 0 and (chunk := await response.content.read(left)):
            left -= len(chunk)
    except (aiohttp.ClientError, TimeoutError):
        response.close()


def _headers(message: WebhookMessage) -> dict[str, str]:
    """The three headers of the standard: one signature per secret, the newest first."""
    body = message.body.decode()
    signatures = [
        Webhook(secret).sign(message.message_id, message.sent_at, body)
        for secret in message.secrets
    ]
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": message.message_id,
        "webhook-timestamp": str(int(message.sent_at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
