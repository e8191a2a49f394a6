"""The webhook worker: sends an event to a merchant's endpoint, and records the outcome.

Each attempt builds the message from the log's event, and always the same one. A repeat has the same
id, by which the receiver recognises it, so a job may run any number of times.
"""

from collections.abc import Callable
from uuid import UUID

from commands.aggregates import WEBHOOK_DELIVERY, WEBHOOK_ENDPOINT
from commands.handler import CommandHandler
from commands.ports.queue import JobAttempt, JobWorker
from commands.ports.webhooks import WebhookMessage, WebhookSender, WebhookUnsent
from commands.reactors.reactor import on_behalf
from commands.sealed_secrets import SealedSecrets
from commands.webhook_payloads import body_of, encode, merchant_event_of
from domain import webhook_deliveries, webhook_endpoints
from domain.events import Event
from domain.webhook_deliveries import WebhookDelivery
from domain.webhook_endpoints import WebhookEndpoint
from eventstore.database.patience import outlast
from eventstore.unit_of_work import UnitOfWork

GONE = 410

Decide = Callable[[WebhookDelivery, WebhookEndpoint], tuple[list[Event], list[Event]]]
"""Returns the events of the delivery, and those of its endpoint."""


class WebhookWorker(JobWorker):
    """Handles the jobs of the webhook queue. Their `body` has delivery_id."""

    def __init__(
        self, handler: CommandHandler, sender: WebhookSender, secrets: SealedSecrets
    ) -> None:
        self._handler = handler
        self._sender = sender
        self._secrets = secrets

    async def handle(self, attempt: JobAttempt) -> None:
        """Deliver the webhook, unless it was delivered already or its endpoint is disabled. Raises
        WebhookUnsent: the job is retried, and dead after the last attempt."""
        delivery_id = UUID(attempt.job.body["delivery_id"])
        delivery = await self._handler.state(WEBHOOK_DELIVERY, delivery_id)
        if delivery is None or delivery.status == "DELIVERED":
            return
        endpoint = await self._handler.state(WEBHOOK_ENDPOINT, delivery.endpoint_id)
        if endpoint is None or not endpoint.is_enabled:
            code = (
                "endpoint_deleted" if endpoint is None or endpoint.deleted else "endpoint_disabled"
            )
            await self._record(
                attempt, delivery_id, lambda d, _: (webhook_deliveries.abandon(d, code), [])
            )
            return
        body = await self._body(delivery_id, delivery, endpoint)
        try:
            status = await self._send(delivery_id, delivery.endpoint_id, endpoint, body)
            if status != GONE and not 200 <= status < 300:
                raise WebhookUnsent(f"http_{status}")
        except WebhookUnsent as unsent:
            await self._record_failure(attempt, delivery_id, unsent.code)
            raise
        await self._record_answer(attempt, delivery_id, status)

    async def _body(
        self, delivery_id: UUID, delivery: WebhookDelivery, endpoint: WebhookEndpoint
    ) -> bytes:
        repository, position = self._handler.repository, delivery.position
        if position is None:
            (requested,) = await repository.log.read_stream(delivery_id, limit=1)
            data: dict[str, object] = {
                "event_id": delivery.event_id,
                "endpoint_id": delivery.endpoint_id,
            }
            return encode(delivery.event_name, requested.env.occurred_at, data)
        (recorded,) = await repository.log.read(position - 1, upto=position, limit=1)
        merchant_event = await merchant_event_of(repository, recorded.event, recorded.env)
        assert merchant_event is not None
        return body_of(delivery.event_name, merchant_event, recorded.env, endpoint.seller_id)

    async def _send(
        self, delivery_id: UUID, endpoint_id: UUID, endpoint: WebhookEndpoint, body: bytes
    ) -> int:
        now = self._handler.now()
        opened = [self._secrets.open(endpoint_id, ref) for ref in endpoint.secret_refs(now)]
        secrets = [secret for secret in opened if secret is not None]
        return await self._sender.send(
            WebhookMessage(str(delivery_id), endpoint.url, body, secrets, now)
        )

    async def _record_answer(self, attempt: JobAttempt, delivery_id: UUID, status: int) -> None:
        """Record that the webhook arrived, or that the endpoint is gone for good (410)."""

        def decide(
            delivery: WebhookDelivery, endpoint: WebhookEndpoint
        ) -> tuple[list[Event], list[Event]]:
            if status == GONE:
                failed = webhook_deliveries.mark_failed(delivery, "gone", last=True)
                return failed, webhook_endpoints.disable(endpoint, "gone")
            return webhook_deliveries.mark_delivered(
                delivery, status
            ), webhook_endpoints.note_success(endpoint)

        await self._record(attempt, delivery_id, decide)

    async def _record_failure(self, attempt: JobAttempt, delivery_id: UUID, code: str) -> None:
        def decide(
            delivery: WebhookDelivery, endpoint: WebhookEndpoint
        ) -> tuple[list[Event], list[Event]]:
            failed = webhook_deliveries.mark_failed(delivery, code, last=attempt.last)
            return failed, webhook_endpoints.note_failure(
                endpoint
            ) if attempt.last and failed else []

        await self._record(attempt, delivery_id, decide)

    async def _record(self, attempt: JobAttempt, delivery_id: UUID, decide: Decide) -> None:
        async def decision(unit: UnitOfWork) -> None:
            delivery = await unit.get(WEBHOOK_DELIVERY, delivery_id)
            endpoint = await unit.get(WEBHOOK_ENDPOINT, delivery.endpoint_id)
            about_delivery, about_endpoint = decide(delivery, endpoint)
            unit.emit(delivery_id, about_delivery)
            unit.emit(delivery.endpoint_id, about_endpoint)

        await outlast(
            lambda: self._handler.handle(decision, on_behalf("worker:webhooks", attempt.job))
        )  # else it would be sent again
