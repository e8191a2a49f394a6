"""Card numbers are refused wherever somebody could write one, and never stored, logged or returned;
other numbers pass."""

import logging
from pathlib import Path
from uuid import uuid4

import pytest

from kit.card_numbers import has_card_number, is_card_token
from tests.support.shops.gateway import Person, Shop, a_game
from tests.support.shops.market import stocked

in_the_shop = pytest.mark.asyncio(loop_scope="module")

NUMBER = "4242424242424242"
SPACED = "4242 4242 4242 4242"
BARCODE = "4006381333931"
"""An EAN-13 that passes Luhn's check, and is as long as old Visa numbers are."""

# -- detection -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        NUMBER,
        SPACED,
        "4242-4242-4242-4242",
        "4242.4242.4242.4242",
        "4242_4242_4242_4242",
        "4242/4242/4242/4242",
        "4242\u20114242\u20114242\u20114242",
        "3782-822463-10005",
        "378282246310005",
        "30569309025904",
        "4222222222222",
        "6304000000000000",
        "6011111111111117",
        "3530111333300000",
        "2223003122003222",
        "6205500000000000004",
        "tok_4242424242424242",
        "my card is 5555 5555 5555 4444 123 12/30, thanks",
        "４２４２４２４２４２４２４２４２",
        "٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢",
        "4242\u00a04242\u00a04242\u00a04242",
    ],
)
def test_digits_as_an_issuer_issues_them_look_like_a_card_number(text: str) -> None:
    assert has_card_number(text)
    assert is_card_token(text)


@pytest.mark.parametrize(
    "text",
    [
        "4242424242424243",
        "42424242424242424242",
        "424242424242",
        "0000000000000000",
        "7992739871300003",
        "2100000000000005",
        "5555555555554",
        "42424242424242426",
        "0197f0a0-4242-4242-8242-424242424242",
        "0.4242424242424242",
        "+4242424242424242",
        "from 2026-03-01 - 2026-04-01 to 2026-05-01",
        "pm_card_visa",
        BARCODE,
    ],
)
def test_other_digits_do_not(text: str) -> None:
    assert not has_card_number(text)


def test_a_token_with_letters_between_its_digits_is_a_token() -> None:
    assert not is_card_token("pm_4242x4242x4242x4242")
    assert not is_card_token("pm_1N3T00LkdIwHu7ixt44h1F8k")
    assert is_card_token("tok4242424242424242x")


# -- in requests -----------------------------------------------------------------------------------


def requests_with(number: str) -> list[tuple[str, str, dict[str, object]]]:
    """A card number in every place where a card may be written, known to us or not."""
    method = {"type": "card", "token": number}
    order = {"order_id": str(uuid4())}
    return [
        ("POST", "/api/v1/orders", {"game_id": str(uuid4()), "payment_method": method}),
        ("POST", "/jogos/compra", {"game_id": str(uuid4()), "payment_method": {"type": number}}),
        ("POST", "/api/v1/cart/checkout", {"payment_method": method}),
        ("POST", "/api/v1/payments", {**order, "payment_method": method}),
        (
            "POST",
            "/api/v1/payments",
            {**order, "payment_method": {**method, "token": int(number.replace(" ", ""))}},
        ),
        ("POST", "/api/v1/payments", {**order, "payment_method": number}),
        (
            "POST",
            "/api/v1/payments",
            {**order, "payment_method": {"type": "card", "cards": [{"number": number}]}},
        ),
        (
            "POST",
            "/api/v1/payments",
            {**order, "payment_method_details": {"card": {number: "123"}}},
        ),
        ("POST", "/pagamento", {"card": {"number": number, "cvc": "123"}}),
        (
            "POST",
            "/api/v1/transactions",
            {"type": "deposit", "amount_cents": 1, "payment_method": method},
        ),
        ("POST", "/transactions/create", {"type": "deposit", number: 1}),
        ("POST", f"/api/v1/wallets/{uuid4()}/add-funds", {"amount_cents": 1, "reason": number}),
        ("POST", f"/api/v1/payments/{uuid4()}/refund", {"reason": f"to {number}"}),
        ("POST", f"/api/v1/orders/{uuid4()}/refund", {"reason": f"{number} is theirs"}),
    ]


@in_the_shop
@pytest.mark.parametrize("number", [NUMBER, SPACED])
async def test_a_card_number_is_refused_wherever_it_is_and_never_kept_logged_or_echoed(
    shop: Shop, admin: Person, number: str, caplog: pytest.LogCaptureFixture
) -> None:
    head = await shop.core.log.head()
    with caplog.at_level(logging.DEBUG):
        for verb, path, body in requests_with(number):
            answer = await admin.request(verb, path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, "card_data_refused"), (
                verb,
                path,
                body,
            )
            assert NUMBER not in answer.text.replace(" ", "")
    own_lines = [
        record.getMessage() for record in caplog.records if not record.name.startswith("httpx")
    ]
    since = await shop.core.log.read(head)  # the welcome mail may still be under way
    assert [each.env.name for each in since if each.env.actor == f"user:{admin.id}"] == []
    told = [
        (await admin.get("/metrics")).text,
        *own_lines,
        *(path.read_text() for path in text_logs(shop)),
    ]
    assert not [line for line in told if NUMBER in line.replace(" ", "").replace("%20", "")]


def text_logs(shop: Shop) -> list[Path]:
    assert shop.core.adapters.payment_worker_log  # there, even if nothing was written
    return list((shop.core.settings.home / "logs").glob("*.txt"))


@in_the_shop
@pytest.mark.parametrize(
    "method",
    [
        b'{"type": "card", "token": 4242424242424242}',
        b'{"type": "card", "token": 4242424242424242.0}',
        b'{"type": "card", "token": "\\u0034242424242424242"}',
    ],
)
async def test_no_way_of_writing_json_hides_it(admin: Person, method: bytes) -> None:
    body = b'{"order_id": "%s", "payment_method": %s}' % (str(uuid4()).encode(), method)
    for content in (body, body.decode().encode("utf-16")):
        answer = await admin.post(
            "/api/v1/payments", content=content, headers={"Content-Type": "application/json"}
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "card_data_refused")


@in_the_shop
async def test_barcodes_parcels_and_keys_are_no_cards(
    shop: Shop, seller: Person, admin: Person
) -> None:
    for number in (BARCODE, NUMBER):
        listed = await seller.post(
            "/api/v1/games",
            json=a_game(
                sku=number, title=f"Barcode {number}", description=f"GTIN {number}", tags=[number]
            ),
            headers={"Idempotency-Key": number},
        )
        assert listed.status_code == 201, listed.text
        found = await admin.get("/api/v1/games/search", params={"q": number})
        assert found.status_code == 200, found.text
    dispatch = {"tracking_number": NUMBER, "carrier": "Post"}
    assert (await admin.put(f"/api/v1/shipments/{uuid4()}/ship", json=dispatch)).status_code == 404
    game = await stocked(shop, seller, 1)
    assert (
        await seller.put(f"/api/v1/games/{game['id']}", json={"sku": BARCODE + "0"})
    ).status_code == 200
