"""Outgoing webhooks as reactors: whoever subscribed to an event is to hear of it.

event ─► webhook.delivery_requested for each endpoint that wants it
      ─► webhook queue ─► webhook.delivered | webhook.delivery_failed
webhook.redelivery_requested ─► webhook queue
user.deactivated, user.forgotten ─► webhook_endpoint.disabled
user.reactivated ─► webhook_endpoint.enabled
"""

from typing import Any
from uuid import UUID

import msgspec

from commands.aggregates import USER, WEBHOOK_DELIVERY, WEBHOOK_ENDPOINT, WEBHOOK_INDEX
from commands.handler import CommandHandler
from commands.ports.queue import WorkQueue
from commands.reactors.reactor import React, Reactor, caused, job_for, once_for
from commands.webhook_payloads import merchant_event_of
from domain import webhook_deliveries, webhook_endpoints
from domain.events import Event
from domain.identity import UserDeactivated, UserForgotten, UserReactivated
from domain.ids import PLATFORM_ID
from domain.merchant_events import PUBLIC_FIELDS
from domain.webhook_deliveries import DeliveryRequested, RedeliveryRequested
from domain.webhook_endpoints import WebhookEndpoint
from eventstore.log import Envelope
from eventstore.unit_of_work import UnitOfWork

REMEMBERED = 10_000
"""Sellers without an endpoint that a process keeps in mind."""


def merchant_webhooks(handler: CommandHandler) -> Reactor:
    """Asks for a delivery to each endpoint that wants an event; all of an event's in one append, so
    once."""
    name, without = "merchant_webhooks", _Without()
    handler.log.history.when_it_changes(without.forget)

    async def happened(event: Event, env: Envelope) -> None:
        merchant_event = await merchant_event_of(handler.repository, event, env)
        sellers = set() if merchant_event is None else {PLATFORM_ID, *merchant_event.sellers}
        if without.are(sellers, env.position):
            return
        head = await handler.log.head()

        async def decision(unit: UnitOfWork) -> None:
            endpoints = await _endpoints_of(unit, sellers)
            without.note(sellers - {endpoint.seller_id for _, endpoint in endpoints}, head)
            for endpoint_id, endpoint in endpoints:
                if endpoint.wants(event.NAME):
                    delivery_id = webhook_deliveries.delivery_id(endpoint_id, env.event_id)
                    requested = webhook_deliveries.request(
                        await unit.load(WEBHOOK_DELIVERY, delivery_id),
                        endpoint_id=endpoint_id,
                        event_id=env.event_id,
                        event_name=event.NAME,
                        position=env.position,
                    )
                    unit.emit(delivery_id, requested)

        await handler.handle(decision, caused(name, env), once_for(name, env))

    async def account_moved(
        _: UserDeactivated | UserForgotten | UserReactivated, env: Envelope
    ) -> None:
        """The account as it is by now counts: it may have been opened again."""

        async def decision(unit: UnitOfWork) -> None:
            seller = await unit.load(USER, env.stream_id)
            for endpoint_id, endpoint in await _endpoints_of(unit, {env.stream_id}):
                is_open = seller is not None and seller.may_act
                unit.emit(
                    endpoint_id,
                    webhook_endpoints.reopen(endpoint)
                    if is_open
                    else webhook_endpoints.disable(endpoint, "account_closed"),
                )

        await handler.handle(decision, caused(name, env), once_for(name, env))

    reactions: dict[type[msgspec.Struct], React] = {
        **dict.fromkeys(PUBLIC_FIELDS, happened),
        **dict.fromkeys((UserDeactivated, UserForgotten, UserReactivated), account_moved),
    }
    writes = (WEBHOOK_DELIVERY, WEBHOOK_ENDPOINT)
    return Reactor(name, reactions, starts_from="now", writes=writes)


class _Without:
    """Sellers who had no endpoint up to a position of the log: most never have one, and need not be
    asked about at each of their events. Who gets one later does not hear of what was before."""

    def __init__(self) -> None:
        self._until: dict[UUID, int] = {}

    def are(self, sellers: set[UUID], position: int) -> bool:
        """Whether nobody of these is to hear of an event at this position."""
        return all(self._until.get(seller, -1) >= position for seller in sellers)

    def forget(self) -> None:
        """The log went back: positions are of other events."""
        self._until.clear()

    def note(self, sellers: set[UUID], head: int) -> None:
        """These had none when the log went as far as `head`."""
        if len(self._until) > REMEMBERED:
            self._until.clear()
        self._until.update(dict.fromkeys(sellers, head))


async def _endpoints_of(unit: UnitOfWork, sellers: set[UUID]) -> list[tuple[UUID, WebhookEndpoint]]:
    """The endpoints of some sellers, as they are now: the unit checks that what it decided on still
    holds."""
    found = []
    for seller_id in sorted(sellers):
        index = await unit.load(WEBHOOK_INDEX, webhook_endpoints.index_id(seller_id))
        for endpoint_id in index.endpoint_ids if index is not None else ():
            endpoint = await unit.load(WEBHOOK_ENDPOINT, endpoint_id)
            if endpoint is not None:
                found.append((endpoint_id, endpoint))
    return found


def webhook_jobs(queue: WorkQueue) -> Reactor:
    """Puts on the webhook queue what is to be delivered."""

    async def requested(event: Any, env: Envelope) -> None:
        await queue.publish(
            [job_for(env, "webhook", delivery_id=env.stream_id, endpoint_id=event.endpoint_id)]
        )

    return Reactor("webhook_jobs", {DeliveryRequested: requested, RedeliveryRequested: requested})
