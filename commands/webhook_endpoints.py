"""Commands on webhook endpoints: create, edit, disable, delete; rotate the secret; redeliver, and
send a test."""

from base64 import b64encode
from collections.abc import Callable, Sequence
from os import urandom
from uuid import UUID

from commands.accounts.open_accounts import must_be_open
from commands.aggregates import WEBHOOK_DELIVERY, WEBHOOK_ENDPOINT, WEBHOOK_INDEX
from commands.caller import Caller
from commands.catalog import seller_of
from commands.handler import CommandHandler, CommandResult
from commands.ports.webhooks import WebhookSender
from commands.sealed_secrets import SealedSecrets
from domain import webhook_deliveries, webhook_endpoints
from domain.errors import Conflict
from domain.events import Event
from domain.ids import PLATFORM_ID
from domain.merchant_events import EVENT_NAMES
from domain.webhook_endpoints import WebhookEndpoint
from eventstore.log import IdempotencyKey
from eventstore.unit_of_work import UnitOfWork
from kit.uuid7 import uuid7

SECRET_BYTES = 32

Decide = Callable[[WebhookEndpoint], list[Event]]


class WebhookEndpointCommands:
    """Commands on webhook endpoints. A SELLER has their own endpoints; those that an ADMIN creates
    are the platform's. An ADMIN may change everybody's."""

    def __init__(
        self, handler: CommandHandler, sender: WebhookSender, secrets: SealedSecrets
    ) -> None:
        self._handler = handler
        self._sender = sender
        self._secrets = secrets

    async def create(
        self,
        caller: Caller,
        url: str,
        events: Sequence[str],
        description: str = "",
        *,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[UUID]:
        """Create an endpoint. Returns its id.

        Raises Forbidden("not_a_seller"); Invalid: webhook_url_refused, unknown_event_pattern;
        Conflict("too_many_webhook_endpoints").
        """
        seller_id, endpoint_id = seller_of(caller), uuid7()
        patterns = webhook_endpoints.check_patterns(events, EVENT_NAMES)
        await self._sender.check(url)
        secret_ref = self._new_secret(endpoint_id)

        async def decision(unit: UnitOfWork) -> UUID:
            if seller_id != PLATFORM_ID:
                await must_be_open(unit, seller_id)
            index = webhook_endpoints.index_id(seller_id)
            created, added = webhook_endpoints.create(
                await unit.load(WEBHOOK_INDEX, index),
                endpoint_id,
                seller_id=seller_id,
                url=url,
                events=patterns,
                secret_ref=secret_ref,
                description=description,
            )
            unit.create(WEBHOOK_ENDPOINT, endpoint_id, created)
            unit.emit(index, added)
            unit.record_ids(endpoint_id=endpoint_id)
            return endpoint_id

        return await self._handler.handle(decision, caller, once)

    async def update(
        self,
        caller: Caller,
        endpoint_id: UUID,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        description: str | None = None,
        expected_version: int | None = None,
    ) -> CommandResult[UUID]:
        """Edit the given fields. Raises NotFound, Stale, and Invalid as `create`."""
        patterns = None if events is None else webhook_endpoints.check_patterns(events, EVENT_NAMES)
        if url is not None:
            await self._sender.check(url)

        def decide(endpoint: WebhookEndpoint) -> list[Event]:
            return webhook_endpoints.update(
                endpoint, url=url, events=patterns, description=description
            )

        return await self._change(caller, endpoint_id, decide, expected_version=expected_version)

    async def rotate_secret(
        self, caller: Caller, endpoint_id: UUID, *, once: IdempotencyKey | None = None
    ) -> CommandResult[UUID]:
        """Sign with a new secret and, for a day, with the previous one, too. Raises NotFound."""
        secret_ref, now = self._new_secret(endpoint_id), self._handler.now()
        return await self._change(
            caller,
            endpoint_id,
            lambda _: webhook_endpoints.rotate_secret(secret_ref, now),
            once=once,
        )

    async def enable(
        self, caller: Caller, endpoint_id: UUID, *, once: IdempotencyKey | None = None
    ) -> CommandResult[UUID]:
        """Enable an endpoint for events from now on. Raises NotFound,
        Forbidden("disabled_by_operator")."""
        return await self._change(
            caller,
            endpoint_id,
            lambda endpoint: webhook_endpoints.enable(endpoint, by_operator=caller.is_admin),
            once=once,
        )

    async def disable(
        self, caller: Caller, endpoint_id: UUID, *, once: IdempotencyKey | None = None
    ) -> CommandResult[UUID]:
        """Stop sending to an endpoint. Raises NotFound."""

        def decide(endpoint: WebhookEndpoint) -> list[Event]:
            is_own = endpoint.seller_id == seller_of(caller)
            return webhook_endpoints.disable(endpoint, "owner" if is_own else "operator")

        return await self._change(caller, endpoint_id, decide, once=once)

    async def delete(
        self, caller: Caller, endpoint_id: UUID, *, expected_version: int | None = None
    ) -> CommandResult[None]:
        """Delete an endpoint for good. Raises NotFound, Stale."""

        async def decision(unit: UnitOfWork) -> None:
            endpoint = await _owned(unit, caller, endpoint_id, expected_version)
            index = webhook_endpoints.index_id(endpoint.seller_id)
            await unit.load(WEBHOOK_INDEX, index)
            deleted, removed = webhook_endpoints.delete(endpoint_id)
            unit.emit(endpoint_id, deleted)
            unit.emit(index, removed)

        return await self._handler.handle(decision, caller)

    # -- deliveries --------------------------------------------------------------------------------

    async def test(
        self, caller: Caller, endpoint_id: UUID, *, once: IdempotencyKey | None = None
    ) -> CommandResult[UUID]:
        """Send a test. Returns the delivery's id. Raises NotFound,
        Conflict("webhook_endpoint_disabled")."""
        event_id = uuid7()
        delivery_id = webhook_deliveries.delivery_id(endpoint_id, event_id)

        async def decision(unit: UnitOfWork) -> UUID:
            _must_be_enabled(await _owned(unit, caller, endpoint_id))
            requested = webhook_deliveries.request(
                None, endpoint_id=endpoint_id, event_id=event_id, event_name=webhook_deliveries.TEST
            )
            unit.create(WEBHOOK_DELIVERY, delivery_id, requested)
            unit.record_ids(delivery_id=delivery_id)
            return delivery_id

        return await self._handler.handle(decision, caller, once)

    async def redeliver(
        self,
        caller: Caller,
        endpoint_id: UUID,
        delivery_id: UUID,
        *,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[UUID]:
        """Send a delivery again, whatever its outcome was. Returns its id.

        Raises NotFound: webhook_endpoint_not_found, webhook_delivery_not_found;
        Conflict("webhook_endpoint_disabled").
        """

        async def decision(unit: UnitOfWork) -> UUID:
            _must_be_enabled(await _owned(unit, caller, endpoint_id))
            delivery = await unit.get(WEBHOOK_DELIVERY, delivery_id)
            if delivery.endpoint_id != endpoint_id:
                raise WEBHOOK_DELIVERY.missing()
            unit.emit(delivery_id, webhook_deliveries.redeliver(delivery))
            unit.record_ids(delivery_id=delivery_id)
            return delivery_id

        return await self._handler.handle(decision, caller, once)

    # -- shared ------------------------------------------------------------------------------------

    def secret(self, endpoint_id: UUID, endpoint: WebhookEndpoint) -> str | None:
        """The secret that signs the endpoint's webhooks. Show it only to the owner."""
        return self._secrets.open(endpoint_id, endpoint.secret_ref)

    def _new_secret(self, endpoint_id: UUID) -> str:
        secret = "whsec_" + b64encode(urandom(SECRET_BYTES)).decode()
        return self._secrets.seal(endpoint_id, secret)

    async def _change(
        self,
        caller: Caller,
        endpoint_id: UUID,
        decide: Decide,
        *,
        expected_version: int | None = None,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[UUID]:
        async def decision(unit: UnitOfWork) -> UUID:
            unit.emit(
                endpoint_id, decide(await _owned(unit, caller, endpoint_id, expected_version))
            )
            unit.record_ids(endpoint_id=endpoint_id)
            return endpoint_id

        return await self._handler.handle(decision, caller, once)


async def _owned(
    unit: UnitOfWork, caller: Caller, endpoint_id: UUID, expected_version: int | None = None
) -> WebhookEndpoint:
    """The caller's endpoint, or anybody's for an ADMIN. Raises NotFound, also for another seller's;
    Stale."""
    seller_id, endpoint = seller_of(caller), await unit.get(WEBHOOK_ENDPOINT, endpoint_id)
    if endpoint.deleted or not (caller.is_admin or endpoint.seller_id == seller_id):
        raise WEBHOOK_ENDPOINT.missing()
    unit.expect(endpoint_id, expected_version)
    return endpoint


def _must_be_enabled(endpoint: WebhookEndpoint) -> None:
    if not endpoint.is_enabled:
        raise Conflict("webhook_endpoint_disabled", "the endpoint is disabled: enable it first")
