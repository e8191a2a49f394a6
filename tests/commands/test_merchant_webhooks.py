"""The reactor that requests deliveries to merchants' endpoints."""

from commands.aggregates import WEBHOOK_INDEX
from commands.reactors.webhooks import merchant_webhooks
from domain.webhook_deliveries import DeliveryRequested
from domain.webhook_endpoints import EndpointAdded, EndpointCreated, EndpointRemoved, index_id
from tests.support.commands import Shop
from tests.support.given_when_then import an_id
from tests.support.past import BOARD, GAME, SELLER_ID, game

ENDPOINT, INDEX = an_id("endpoint"), index_id(SELLER_ID)
MADE = EndpointCreated(
    seller_id=SELLER_ID, url="https://merchant.example/hook", events=("game.*",), secret_ref="s"
)


async def test_an_endpoint_made_in_another_process_gets_every_event_from_then_on(
    shop: Shop,
) -> None:
    earlier = an_id("an earlier endpoint")
    await shop.append(
        {INDEX: [EndpointAdded(endpoint_id=earlier), EndpointRemoved(endpoint_id=earlier)]}
    )
    await shop.handler.state(WEBHOOK_INDEX, INDEX)  # which has none, as far as is known here
    await shop.append({ENDPOINT: [MADE], INDEX: [EndpointAdded(endpoint_id=ENDPOINT)]})
    await shop.append(game())
    await shop.append(game(BOARD, "PHYSICAL"))
    reactor = merchant_webhooks(shop.handler)
    told = [(await shop.log.read_stream(each))[0] for each in (GAME, BOARD)]
    for recorded in told:
        await reactor.react(recorded)
    requested = [
        each.event.event_name
        for each in await shop.log.read(0)
        if isinstance(each.event, DeliveryRequested)
    ]
    assert requested == [each.env.name for each in told]
