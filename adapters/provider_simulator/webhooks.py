"""Delivers webhooks: many at a time, in no set order, each again and again until its receiver says 2xx."""

import asyncio
import logging
import time

import httpx

from adapters.provider_simulator.background import Alarm
from adapters.provider_simulator.store import Store, Webhook
from adapters.webhook_signature import sign

log = logging.getLogger(__name__)

LONGEST_BACKOFF_SECONDS = 3600.0


class WebhookSender:
    """Sends what the store holds. A webhook that no one accepted for `give_up_seconds` is kept, but no longer sent."""

    def __init__(
        self,
        store: Store,
        queued: Alarm,
        url: str,
        secret: str,
        *,
        timeout_seconds: float,
        retry_seconds: float,
        give_up_seconds: float,
        concurrency: int,
    ) -> None:
        self._store, self._alarm, self._url, self._secret = store, queued, httpx.URL(url), secret
        self._timeout, self._retry, self._give_up = timeout_seconds, retry_seconds, give_up_seconds
        self._concurrency = concurrency
        self._sending: set[asyncio.Task[None]] = set()
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        self._http = httpx.AsyncClient(timeout=timeout_seconds, limits=limits, trust_env=False)

    async def send_due(self) -> None:
        """Start sending what is due, as far as there is room, then wait for more (a background step)."""
        room = self._concurrency - len(self._sending)
        now = time.time()
        # Connecting, sending and reading may each take the time-out; the lease must outlast them.
        for webhook in self._store.lease_webhooks(now, until=now + 4 * self._timeout, limit=room):
            task = asyncio.create_task(self._send(webhook))
            self._sending.add(task)
            task.add_done_callback(self._sent)
        is_full = len(self._sending) == self._concurrency
        await self._alarm.wait(None if is_full else self._store.next_webhook_at())

    async def aclose(self) -> None:
        """Stop; what was under way is sent again after the next start."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        await self._http.aclose()

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._alarm.ring()
        if not task.cancelled() and (error := task.exception()):
            log.error("a webhook's outcome could not be kept; it is sent again", exc_info=error)

    async def _send(self, webhook: Webhook) -> None:
        headers = {
            "Content-Type": "application/json",
            "Stripe-Signature": sign(webhook.body, self._secret, int(time.time())),
        }
        try:
            response = await self._http.post(self._url, content=webhook.body, headers=headers)
            outcome, delivered = f"HTTP {response.status_code}", response.is_success
        except httpx.HTTPError as error:
            outcome, delivered = repr(error), False
        if delivered:
            self._store.webhook_delivered(webhook.id)
        else:
            self._put_off(webhook, outcome)

    def _put_off(self, webhook: Webhook, outcome: str) -> None:
        now = time.time()
        if now - webhook.created_at >= self._give_up:
            log.error("webhook %s given up after %d attempts: %s", webhook.id, webhook.attempts, outcome)
            self._store.webhook_failed(webhook.id, due_at=None)
            return
        # The exponent is bounded because a float overflows long before three days' worth of attempts.
        backoff = min(self._retry * 2.0 ** min(webhook.attempts - 1, 30), LONGEST_BACKOFF_SECONDS)
        log.warning("webhook %s not accepted (%s); again in %.1f s", webhook.id, outcome, backoff)
        self._store.webhook_failed(webhook.id, due_at=now + backoff)
