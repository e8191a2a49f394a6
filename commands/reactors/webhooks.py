"""Outgoing webhooks as reactors: they request and queue a delivery for each subscribed endpoint.

event ─► webhook.delivery_requested for each endpoint that subscribes to it
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

MAX_REMEMBERED_SELLERS = 10_000
"""How many sellers without an endpoint a process remembers."""


def merchant_webhooks(handler: CommandHandler) -> Reactor:
    """Requests a delivery to each endpoint that subscribes to an event, all in one append."""
    name, without_endpoint = "merchant_webhooks", _SellersWithoutEndpoint()
    handler.log.history.when_it_changes(without_endpoint.forget)

    async def happened(event: Event, env: Envelope) -> None:
        merchant_event = await merchant_event_of(handler.repository, event, env)
        sellers = set() if merchant_event is None else {PLATFORM_ID, *merchant_event.sellers}
        if without_endpoint.covers(sellers, env.position):
            return
        history = handler.log.history
        seen, generation = history.mark.position, history.generation

        async def decision(unit: UnitOfWork) -> set[UUID]:
            endpoints = await _endpoints_of(unit, sellers)
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
            return sellers - {endpoint.seller_id for _, endpoint in endpoints}

        # not while deciding, which may be on outdated states
        without = (await handler.handle(decision, caused(name, env), once_for(name, env))).value
        if generation == history.generation:
            without_endpoint.note(without, seen)

    async def account_moved(
        _: UserDeactivated | UserForgotten | UserReactivated, env: Envelope
    ) -> None:
        """Follow the account's current state: it may have been reopened since."""

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


class _SellersWithoutEndpoint:
    """Sellers who had no endpoint up to a position of the log. Most never have one, and need no
    look-up at each of their events. A new endpoint gets no events from before."""

    def __init__(self) -> None:
        self._until: dict[UUID, int] = {}

    def covers(self, sellers: set[UUID], position: int) -> bool:
        """Whether none of these sellers had an endpoint at this position."""
        return all(self._until.get(seller, -1) >= position for seller in sellers)

    def forget(self) -> None:
        """Forget everything: the log went back, so positions belong to other events."""
        self._until.clear()

    def note(self, sellers: set[UUID], head: int) -> None:
        """Remember that these sellers had no endpoint up to `head`."""
        if len(self._until) > MAX_REMEMBERED_SELLERS:
            self._until.clear()
        self._until.update(dict.fromkeys(sellers, head))


async def _endpoints_of(unit: UnitOfWork, sellers: set[UUID]) -> list[tuple[UUID, WebhookEndpoint]]:
    """The current endpoints of some sellers. The append checks that they have not changed."""
    found = []
    for seller_id in sorted(sellers):
        index = await unit.load(WEBHOOK_INDEX, webhook_endpoints.index_id(seller_id))
        for endpoint_id in index.endpoint_ids if index is not None else ():
            endpoint = await unit.load(WEBHOOK_ENDPOINT, endpoint_id)
            if endpoint is not None:
                found.append((endpoint_id, endpoint))
    return found


def webhook_jobs(queue: WorkQueue) -> Reactor:
    """Queues each requested delivery."""

    async def requested(event: Any, env: Envelope) -> None:
        await queue.publish(
            [job_for(env, "webhook", delivery_id=env.stream_id, endpoint_id=event.endpoint_id)]
        )

    return Reactor("webhook_jobs", {DeliveryRequested: requested, RedeliveryRequested: requested})
