"""Delivers webhooks: many at a time, in any order, each repeatedly until its receiver answers 2xx.

With aiohttp, as this is the simulated provider's hottest path: measured with 64 at a time, that
server managed 1,030 intents a second on one core, and 210 with httpx, whose pool searches all its
connections for each request.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable

import aiohttp

from adapters.notices.background import Alarm
from adapters.notices.outbox import Outbox, Webhook
from adapters.webhooks.signature import sign
from kit import tracing

logger = logging.getLogger(__name__)

LONGEST_BACKOFF_SECONDS = 3600.0


class NoticeSender:
    """Sends the webhooks in the outbox to `url_of` each, with a signature in the field `header`.
    One not accepted for `give_up_seconds` is kept, but no longer sent. `tls` says whom to trust at
    each sending; without it, the system's authorities."""

    def __init__(
        self,
        outbox: Outbox,
        queued: Alarm,
        header: str,
        secret: str,
        url_of: Callable[[Webhook], str],
        *,
        timeout_seconds: float,
        retry_seconds: float,
        give_up_seconds: float,
        concurrency: int,
        tls: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        self._outbox = outbox
        self._alarm = queued
        self._header = header
        self._url_of = url_of
        self._secret = secret
        self._timeout = timeout_seconds
        self._retry = retry_seconds
        self._give_up = give_up_seconds
        self._concurrency = concurrency
        self._tls = tls
        self._sending: set[asyncio.Task[None]] = set()
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrency),
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def send_due(self) -> None:
        """Start sending what is due, as far as there is room, then wait for more (a background
        step)."""
        room = self._concurrency - len(self._sending)
        now = time.time()
        for webhook in self._outbox.lease_webhooks(now, until=now + 2 * self._timeout, limit=room):
            task = asyncio.create_task(self._send(webhook))
            self._sending.add(task)
            task.add_done_callback(self._sent)
        is_full = len(self._sending) == self._concurrency
        await self._alarm.wait(None if is_full else self._outbox.next_webhook_at())

    async def aclose(self) -> None:
        """Stop; what was under way is sent again after the next start."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        await self._http.close()

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._alarm.ring()
        if not task.cancelled() and (error := task.exception()):
            logger.error("a webhook's outcome could not be kept; it is sent again", exc_info=error)

    async def _send(self, webhook: Webhook) -> None:
        with tracing.span("send notice", webhook.traceparent, kind="client"):
            outcome, delivered = await self._post(webhook)
            tracing.describe({"notice.outcome": outcome}, failed=not delivered)
        if delivered:
            self._outbox.webhook_delivered(webhook.id)
        else:
            self._put_off(webhook, outcome)

    async def _post(self, webhook: Webhook) -> tuple[str, bool]:
        """What came of it, and whether the receiver has accepted it."""
        headers = {
            "Content-Type": "application/json",
            self._header: sign(webhook.body, self._secret, int(time.time())),
            **tracing.headers(),
        }
        try:
            async with self._http.post(
                self._url_of(webhook),
                data=webhook.body,
                headers=headers,
                allow_redirects=False,
                ssl=self._tls() if self._tls else True,
            ) as response:
                await response.read()  # so that the connection can be kept
                return f"HTTP {response.status}", 200 <= response.status < 300
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return repr(error), False

    def _put_off(self, webhook: Webhook, outcome: str) -> None:
        now = time.time()
        if now - webhook.created_at >= self._give_up:
            logger.error(
                "webhook %s given up after %d attempts: %s", webhook.id, webhook.attempts, outcome
            )
            self._outbox.webhook_failed(webhook.id, due_at=None)
            return
        # The exponent is bounded because a float overflows long before three days' worth of
        # attempts.
        backoff = min(self._retry * 2.0 ** min(webhook.attempts - 1, 30), LONGEST_BACKOFF_SECONDS)
        logger.warning(
            "webhook %s not accepted (%s); again in %.1f s", webhook.id, outcome, backoff
        )
        self._outbox.webhook_failed(webhook.id, due_at=now + backoff)
