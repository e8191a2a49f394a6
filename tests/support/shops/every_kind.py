"""A shop with at least one stream of every kind, and their ids."""

from uuid import UUID

import msgspec

from adapters.webhooks.signature import sign
from commands.acts import Asked
from commands.aggregates import ALL
from commands.caller import Caller
from domain.alerts import Seen
from eventstore.aggregate import Aggregate
from eventstore.codec import kind_of
from tests.support.servers.merchant import running_merchant
from tests.support.shops.gateway import CARD, Shop
from tests.support.shops.market import WAIT, check_out, put_in, stocked
from tests.support.shops.money import filled_wallet, open_wallet, transfer

KINDS: dict[str, Aggregate[object]] = {aggregate.kind: aggregate for aggregate in ALL}


async def one_of_every_kind(shop: Shop) -> dict[str, UUID]:
    """Run commands that create a stream of every kind; returns the id of the latest of each."""
    seller, buyer, other, admin = [
        await shop.register(role) for role in ("SELLER", "BUYER", "BUYER", "ADMIN")
    ]
    async with running_merchant() as merchant:
        endpoint = {"url": merchant.url, "events": ["order.completed.v1"]}
        assert (await seller.post("/api/v1/webhook-endpoints", json=endpoint)).status_code == 201
        order = {
            "game_id": (await shop.game(seller))["id"],
            "payment_method": {"type": "card", "token": CARD},
        }
        bought = (await buyer.post("/api/v1/orders", json=order, headers=WAIT)).json()
        assert bought["status"] == "COMPLETED"
        await _noticed(shop, bought["payment_id"])
        source, target = await filled_wallet(buyer, admin), await open_wallet(other)
        assert (await transfer(buyer, source, target, 100)).status_code == 201
        await put_in(buyer, await stocked(shop, seller, 1_000_000))
        assert (await check_out(buyer)).status_code == 201
        await _audited(shop, buyer.id)

        found: dict[str, UUID] = {}

        async def missing() -> set[str]:
            recorded = await shop.core.log.read(0, limit=100_000)
            found.update((kind_of(type(each.event)), each.env.stream_id) for each in recorded)
            return KINDS.keys() - found.keys()

        try:
            await shop.eventually(missing, lambda kinds: not kinds)
        except TimeoutError:
            raise AssertionError(f"nothing here makes a stream of {await missing()}") from None
        return found


async def _noticed(shop: Shop, payment_id: str) -> None:
    """What the provider says of a payment."""
    intent = {"id": "pi_1", "amount": 1, "currency": "usd", "metadata": {"payment_id": payment_id}}
    said = {"id": "evt_1", "type": "payment_intent.processing", "created": 1}
    body = msgspec.json.encode({**said, "data": {"object": intent}})
    signature = sign(body, shop.core.secrets.webhook[0], int(shop.core.clock.now().timestamp()))
    answer = await shop.client().post(
        "/api/v1/payments/webhook", content=body, headers={"Stripe-Signature": signature}
    )
    assert answer.status_code == 200, answer.text


async def _audited(shop: Shop, subject: UUID) -> None:
    """What auditors and operators leave in the log: a finding, a disclosure, an alert, an act, an
    amendment that was withdrawn."""
    admin = Caller("test", account_type="ADMIN")
    await shop.commands.findings.open("an invariant", str(subject), "it does not hold", 1)
    position = await shop.core.log.head()
    await shop.commands.disclosures.disclose(admin, "wallet", subject, [], "a court asked")
    await shop.commands.alerts.raise_alert(Seen("test", "X", {}, "warning", "to try it"))
    await shop.commands.acts.begin(admin, "projection.pause", None, Asked("orders"))
    await shop.commands.amendments.skip(admin, position, "to try it")
    await shop.commands.amendments.withdraw(admin, position, "it was tried")
