"""Buying a digital game over HTTP, with a worker and a card provider."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest

from adapters.webhooks.signature import sign
from api.app import create_app
from domain.payments import PaymentRequested
from tests.support.servers.provider import SECRET
from tests.support.shops.gateway import CARD, DECLINED, SECURE, Person, Shop
from tests.support.shops.small_gateway import client_of

WAIT = {"Prefer": "wait=10"}


def paying(token: str) -> dict[str, object]:
    return {"payment_method": {"type": "card", "token": token}}


async def buy(
    buyer: Person | httpx.AsyncClient,
    game: dict[str, object],
    token: str | None = CARD,
    **headers: str,
) -> httpx.Response:
    body = {"game_id": game["id"], **(paying(token) if token else {})}
    return await buyer.post("/api/v1/orders", json=body, headers={**WAIT, **headers})


async def test_the_payer_owns_the_game(shop: Shop, buyer: Person, seller: Person) -> None:
    game = await shop.game(seller)

    answer = await buy(buyer, game)
    order = answer.json()

    assert answer.status_code == 201, answer.text
    assert answer.headers["preference-applied"] == "wait=10"
    assert answer.headers["location"] == f"/api/v1/orders/{order['order_id']}"
    assert (order["status"], order["amount_cents"], order["currency"]) == ("COMPLETED", 1999, "USD")
    assert order["transaction_id"] == order["payment_id"]

    async def owned() -> Any:
        return (await buyer.get("/jogos/biblioteca", headers=await shop.reached())).json()["items"]

    (own,) = await shop.eventually(owned)
    assert own["purchase_date"].endswith("Z")
    assert (own["game_id"], own["title"], own["order_id"]) == (
        game["id"],
        "Celeste",
        order["order_id"],
    )


async def test_an_order_tells_its_lines_its_payment_and_what_happened(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    game = await shop.game(seller)
    placed = await buy(buyer, game)

    order = (
        await buyer.get(
            placed.headers["location"], headers={"Min-Position": placed.headers["event-position"]}
        )
    ).json()

    assert order["id"] == order["order_id"] == placed.json()["order_id"]
    assert order["user_id"] == str(buyer.id)
    assert [
        (line["game_id"], line["quantity"], line["unit_price_cents"]) for line in order["lines"]
    ] == [(game["id"], 1, 1999)]
    assert (order["payment"]["status"], order["payment"]["id"]) == ("CAPTURED", order["payment_id"])
    names = [each["name"] for each in order["timeline"]]
    assert names[0] == "order.created.v1"
    assert {
        "payment.requested.v1",
        "payment.transaction.completed.v1",
        "order.completed.v1",
    } <= set(names)
    payment = await buyer.get(f"/pagamento/{order['payment_id']}")
    assert payment.json()["history"][0]["name"] == "payment.requested.v1"
    assert (await buyer.post(f"/pagamento/{order['payment_id']}")).json() == payment.json()


async def test_a_free_game_needs_no_card(shop: Shop, buyer: Person, seller: Person) -> None:
    game = await shop.game(seller, prices=[{"region": "*", "amount_cents": 0, "currency": "USD"}])

    answer = await buy(buyer, game, token=None)

    assert (answer.status_code, answer.json()["status"]) == (201, "COMPLETED")


async def test_a_declined_card_is_402_and_the_game_can_be_ordered_again(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    game = await shop.game(seller)

    declined = await buy(buyer, game, DECLINED)

    problem = declined.json()
    assert (declined.status_code, problem["code"]) == (402, "payment_failed")
    assert declined.headers["content-type"] == "application/problem+json"
    assert problem["decline_code"] == "card_declined"
    assert problem["try_next"] == ["another_card", "wallet"]
    assert "You can pay with another card or pay from your wallet." in problem["detail"]
    assert UUID(problem["payment_id"])

    async def cancelled() -> bool:
        seen = await buyer.get(
            f"/api/v1/orders/{problem['order_id']}", headers=await shop.reached()
        )
        return bool(seen.json()["status"] == "CANCELLED")

    await shop.eventually(cancelled)
    assert (await buy(buyer, game)).status_code == 201


async def test_an_answer_that_waits_for_nothing_is_202(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    game = await shop.game(seller)

    answer = await buy(buyer, game, Prefer="respond-async")

    assert (answer.status_code, answer.json()["status"]) == (202, "PENDING_PAYMENT")
    assert answer.headers["preference-applied"] == "respond-async"


async def test_a_game_is_bought_once(shop: Shop, buyer: Person, seller: Person) -> None:
    game = await shop.game(seller)
    await buy(buyer, game)

    again = await buy(buyer, game)

    assert (again.status_code, again.json()["code"]) == (409, "already_owned")


async def test_one_of_many_simultaneous_orders_is_placed(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    game = await shop.game(seller)

    answers = await asyncio.gather(*(buy(buyer, game, Prefer="respond-async") for _ in range(8)))

    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 7


async def test_a_repeat_under_a_key_orders_nothing_and_tells_the_same(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    game, key = await shop.game(seller), {"Idempotency-Key": uuid4().hex}
    first = await buy(buyer, game, **key)

    again = await buyer.post(
        "/jogos/compra", json={"game_id": game["id"], **paying(CARD)}, headers=key
    )

    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    orders = await buyer.get("/api/v1/orders", headers=await shop.reached())
    assert len(orders.json()["items"]) == 1


async def test_requests_at_once_under_one_key_order_once(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    game, key = await shop.game(seller), {"Idempotency-Key": uuid4().hex}

    answers = await asyncio.gather(*(buy(buyer, game, **key) for _ in range(5)))

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    busy = next(answer for answer in answers if answer.status_code == 409)
    assert (busy.json()["code"], busy.headers["retry-after"]) == ("idempotency_in_progress", "1")


async def test_another_process_that_lost_the_race_gives_the_winners_answer(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    game, key = await shop.game(seller), {"Idempotency-Key": uuid4().hex}
    elsewhere = client_of(create_app(shop.services))
    elsewhere.headers["authorization"] = buyer.client.headers["authorization"]

    answers = await asyncio.gather(buy(buyer, game, **key), buy(elsewhere, game, **key))

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json()["order_id"] == answers[1].json()["order_id"]
    assert ["idempotent-replayed" in answer.headers for answer in answers].count(True) == 1


async def test_a_key_is_one_persons_own(shop: Shop, buyer: Person, seller: Person) -> None:
    game, key, other = (
        await shop.game(seller),
        {"Idempotency-Key": uuid4().hex},
        await shop.register(),
    )

    orders = [(await buy(person, game, **key)) for person in (buyer, other)]

    assert [order.status_code for order in orders] == [201, 201]
    assert orders[0].json()["order_id"] != orders[1].json()["order_id"]


async def test_a_declined_order_is_declined_again_under_its_key(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    game, key = await shop.game(seller), {"Idempotency-Key": uuid4().hex}

    first, again = [await buy(buyer, game, DECLINED, **key) for _ in range(2)]

    assert (again.status_code, again.content) == (402, first.content)


async def test_the_answer_is_kept_encrypted(shop: Shop, buyer: Person, seller: Person) -> None:
    game, key = await shop.game(seller), {"Idempotency-Key": uuid4().hex}
    answer = await buy(buyer, game, **key)

    async with shop.core.log.pool.connection() as conn:
        rows = await (
            await conn.execute("SELECT answer FROM log.once WHERE answer IS NOT NULL")
        ).fetchall()

    assert rows
    order_id = answer.json()["order_id"].encode()
    assert not [row for row in rows if order_id in bytes(row[0])]


async def test_an_answer_that_was_lost_is_made_again_from_what_happened(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    game, key = await shop.game(seller), {"Idempotency-Key": uuid4().hex}
    first = await buy(buyer, game, **key)
    await shop.core.log.keys.destroy(buyer.id)
    await shop.core.log.keys.create([buyer.id])

    again = await buy(buyer, game, **key)

    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotent-replayed"] == "true"


async def test_a_key_has_255_characters_at_most(shop: Shop, buyer: Person) -> None:
    answer = await buyer.post(
        "/api/v1/orders", json={"game_id": str(uuid4())}, headers={"Idempotency-Key": "k" * 256}
    )

    assert answer.status_code == 422


async def test_a_game_that_is_not_on_sale_cannot_be_bought(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    elsewhere = await shop.game(
        seller, prices=[{"region": "BR", "amount_cents": 1, "currency": "BRL"}]
    )

    assert (await buy(buyer, {"id": str(uuid4())})).status_code == 404
    assert (await buy(buyer, elsewhere)).json()["code"] == "game_unavailable"
    wallet = {"game_id": (await shop.game(seller))["id"], "payment_method": {"type": "wallet"}}
    assert (await buyer.post("/api/v1/orders", json=wallet)).json()["code"] == "wallet_not_found"


async def test_an_order_without_a_method_awaits_one(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    game = await shop.game(seller)
    placed = (await buy(buyer, game, token=None)).json()
    assert (placed["status"], placed["payment_status"]) == ("PENDING_PAYMENT", "REQUESTED")
    assert placed["client_secret"]

    paid = await buyer.post(
        "/pagamento", json={"order_id": placed["order_id"], **paying(CARD)}, headers=WAIT
    )

    assert (paid.status_code, paid.json()["status"]) == (201, "CAPTURED")
    assert paid.json()["payment_id"] == placed["payment_id"]
    again = await buyer.post(
        "/api/v1/payments", json={"order_id": placed["order_id"], **paying(CARD)}
    )
    assert (again.status_code, again.json()["code"]) == (409, "order_paid")


async def test_the_providers_intent_is_made_sure_of(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    placed = (await buy(buyer, await shop.game(seller), token=None, Prefer="respond-async")).json()

    intent = await buyer.post(
        "/api/v1/payments/intents", json={"order_id": placed["order_id"]}, headers=WAIT
    )

    assert (intent.status_code, intent.json()["status"]) == (201, "REQUESTED")
    assert intent.json()["client_secret"]


async def test_three_d_secure_sends_the_buyer_on_and_the_providers_notice_settles_it(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    placed = (await buy(buyer, await shop.game(seller), SECURE)).json()
    assert (placed["status"], placed["payment_status"]) == ("PENDING_PAYMENT", "REQUIRES_ACTION")
    assert placed["redirect_url"].startswith("http")

    body = await succeeded(shop, UUID(placed["payment_id"]))
    answer = await notify(shop, body)

    assert (answer.status_code, answer.json()) == (200, {"received": True})
    assert int(answer.headers["event-position"]) > 0
    repeat = await notify(shop, body)
    assert (repeat.status_code, "event-position" in repeat.headers) == (200, True)

    async def completed() -> bool:
        return (
            await shop.services.commands.orders.when_ready(UUID(placed["order_id"]), 0)
        ).order.status == "COMPLETED"

    await shop.eventually(completed)


async def succeeded(shop: Shop, payment_id: UUID) -> bytes:
    """A notice that a payment's intent has succeeded."""
    (requested, *_) = await shop.core.log.read_stream(payment_id)
    assert isinstance(requested.event, PaymentRequested)
    order_id = requested.event.order_id
    assert order_id is not None
    payment = (await shop.services.commands.orders.when_ready(order_id, 0)).payment
    intent = {
        "id": payment.provider_ref,
        "amount": payment.amount_cents,
        "currency": payment.currency.lower(),
        "status": "succeeded",
        "metadata": {"payment_id": str(payment_id)},
    }
    return orjson.dumps(
        {
            "id": f"evt_{uuid4().hex}",
            "type": "payment_intent.succeeded",
            "created": int(datetime.now(UTC).timestamp()),
            "data": {"object": intent},
        }
    )


async def notify(shop: Shop, body: bytes, secret: str = SECRET) -> httpx.Response:
    headers = {"Stripe-Signature": sign(body, secret, int(datetime.now(UTC).timestamp()))}
    return await shop.client().post("/pagamento/webhook", content=body, headers=headers)


async def test_a_notice_with_a_bad_signature_is_refused(shop: Shop) -> None:
    forged = await notify(shop, b"{}", "whsec_another")
    unsigned = await shop.client().post("/api/v1/payments/webhook", content=b"{}")

    assert [(each.status_code, each.json()["code"]) for each in (forged, unsigned)] == [
        (400, "invalid_signature")
    ] * 2


async def test_an_unpaid_order_can_be_called_off(shop: Shop, buyer: Person, seller: Person) -> None:
    game, other = await shop.game(seller), await shop.register()
    placed = (await buy(buyer, game, token=None)).json()
    path = f"/api/v1/orders/{placed['order_id']}/cancel"

    assert (await other.post(path)).status_code == 403
    cancelled = await buyer.post(path)

    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "CANCELLED")
    assert (await buy(buyer, game)).status_code == 201


async def test_a_paid_order_cannot_be_called_off_but_refunded_by_an_admin(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    placed = (await buy(buyer, await shop.game(seller))).json()
    path = f"/api/v1/orders/{placed['order_id']}"
    assert (await buyer.post(path + "/cancel")).json()["code"] == "order_not_cancellable"
    assert (await buyer.post(path + "/refund", json={"reason": "sorry"})).status_code == 403

    key = {"Idempotency-Key": uuid4().hex}
    refunds = [
        await admin.post(path + "/refund", json={"reason": "sorry"}, headers=key) for _ in range(2)
    ]

    assert [refund.status_code for refund in refunds] == [201, 201]
    assert refunds[0].json() == refunds[1].json()
    assert refunds[0].json()["amount_cents"] == 1999

    async def seen() -> bool:
        return bool(
            (await buyer.get(path, headers=await shop.reached())).json()["status"] == "REFUNDED"
        )

    await shop.eventually(seen)
    for asked in ({"amount_cents": 1, "reason": "x"}, {"reason": "all of it, again"}):
        more = await admin.post(f"/api/v1/payments/{placed['payment_id']}/refund", json=asked)
        assert (more.status_code, more.json()["code"]) == (409, "refund_exceeds_capture")
        assert more.json()["refundable_cents"] == 0


async def test_orders_and_payments_are_their_buyers_and_the_admins(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    placed = (await buy(buyer, await shop.game(seller), token=None)).json()
    other = await shop.register()
    paths = [
        f"/api/v1/orders/{placed['order_id']}",
        f"/api/v1/payments/{placed['payment_id']}",
        f"/api/v1/orders/user/{buyer.id}",
        f"/api/v1/orders?user_id={buyer.id}",
    ]

    async def statuses(person: Person) -> list[int]:
        return [
            (await person.get(path, headers=await shop.reached())).status_code for path in paths
        ]

    assert await statuses(buyer) == [200] * 4
    assert await statuses(admin) == [200] * 4
    assert await statuses(other) == [403] * 4
    assert (await admin.get(paths[1])).json()["client_secret"] is None
    assert (await buyer.get(paths[1])).json()["client_secret"]
    assert (await other.get("/api/v1/orders", headers=await shop.reached())).json()["items"] == []
    everybodys = await admin.get("/api/v1/orders?status=PENDING_PAYMENT&limit=200")
    assert placed["order_id"] in {each["id"] for each in everybodys.json()["items"]}


async def test_a_library_is_searched_as_the_catalog_is(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    games = {
        title: await shop.game(seller, title=title, genres=[title.split()[0]])
        for title in ("Stardew Valley", "Hollow Knight")
    }
    for game in games.values():
        await buy(buyer, game)

    async def owned(query: str = "") -> list[str]:
        answer = await buyer.get(f"/api/v1/library{query}", headers=await shop.reached())
        return [each["title"] for each in answer.json()["items"]]

    await shop.eventually(owned, lambda titles: len(titles) == 2)
    assert await owned("?q=holow") == ["Hollow Knight"]
    assert await owned("?genre=stardew") == ["Stardew Valley"]
    assert await owned("?q=celeste") == []
    knight = games["Hollow Knight"]["id"]
    assert await owned(f"?game_id={knight}") == ["Hollow Knight"]
    assert await owned(f"?game_id={knight}&q=holow") == ["Hollow Knight"]
    assert await owned(f"?game_id={knight}&q=stardew") == []
    assert await owned(f"?game_id={buyer.id}") == []


async def test_a_buyer_is_notified_of_a_purchase(shop: Shop, buyer: Person, seller: Person) -> None:
    await buy(buyer, await shop.game(seller))

    async def sent() -> set[str]:
        notices = (await buyer.get("/api/v1/notifications", headers=await shop.reached())).json()[
            "items"
        ]
        return {notice["template"] for notice in notices if notice["status"] == "SENT"}

    assert await shop.eventually(sent, lambda found: len(found) == 2) == {"welcome", "purchase"}


@pytest.mark.parametrize("number", ["4242424242424242", "4242 4242 4242 4242", "3782-822463-10005"])
async def test_a_card_number_is_refused_and_not_kept(
    shop: Shop, buyer: Person, seller: Person, number: str
) -> None:
    game, head = await shop.game(seller), await shop.core.log.head()
    method = {"type": "card", "token": number}
    answer = await buyer.post(
        "/api/v1/orders", json={"game_id": game["id"], "payment_method": method}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "card_data_refused")
    assert number not in answer.text
    stored = b"".join(payload for _, payload in await shop.core.log.read_raw(head))
    assert number.encode() not in stored
