"""Card numbers: refused wherever they stand in a request, and nowhere kept, logged or told."""

import logging
from pathlib import Path
from uuid import uuid4

import pytest

from api.card_numbers import has_card_number, is_card_token
from tests.api.shop import Person, Shop

in_the_shop = pytest.mark.asyncio(loop_scope="module")

NUMBER = "4242424242424242"
SPACED = "4242 4242 4242 4242"

# -- what looks like one -----------------------------------------------------------------------------------------------


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
        "4222222222222",
        "6304000000000000",
        "tok_4242424242424242",
        "my card is 5555 5555 5555 4444 123 12/30, thanks",
        '{"nested": [{"number": 4242424242424242}]}',
        "４２４２４２４２４２４２４２４２",
        "4242\u00a04242\u00a04242\u00a04242",
    ],
)
def test_digits_with_the_length_and_the_check_digit_of_a_card_number_look_like_one(text: str) -> None:
    assert has_card_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "4242424242424243",
        "42424242424242424242",
        "424242424242",
        "0000000000000000",
        "0197f0a0-4242-4242-8242-424242424242",
        "a4242424242424242b",
        "+4242424242424242",
        "0.4242424242424242",
        "from 2026-03-01 - 2026-04-01 to 2026-05-01",
        "pm_card_visa",
    ],
)
def test_other_digits_do_not(text: str) -> None:
    assert not has_card_number(text)


@pytest.mark.parametrize("token", ["tok4242424242424242x", "4242x4242x4242x4242", NUMBER])
def test_a_token_is_none_when_its_digits_are_a_card_number(token: str) -> None:
    assert is_card_token(token)
    assert not is_card_token("pm_1N3T00LkdIwHu7ixt44h1F8k")


# -- in requests -------------------------------------------------------------------------------------------------------


def requests_with(number: str) -> list[tuple[str, str, dict[str, object]]]:
    """A card number in every place that one could be sent in, known to us or not."""
    method = {"type": "card", "token": number}
    json: list[tuple[str, str, object]] = [
        ("POST", "/api/v1/orders", {"game_id": str(uuid4()), "payment_method": method}),
        ("POST", "/api/v1/payments", {"order_id": str(uuid4()), "payment_method": method}),
        ("POST", "/pagamento", {"card": {"number": number, "cvc": "123"}}),
        ("POST", "/api/v1/wallets", {"currency": "USD", "note": f"card {number}"}),
        ("POST", f"/api/v1/wallets/{uuid4()}/add-funds", {"amount_cents": 1, "reason": number}),
        ("POST", "/api/v1/transactions", {"type": "deposit", "amount_cents": 1, "payment_method": method}),
        ("POST", "/transactions/create", {"type": "deposit", number: 1}),
        ("POST", f"/api/v1/payments/{uuid4()}/refund", {"reason": f"to {number}"}),
        ("POST", "/api/v1/users", {"name": number, "email": "a@example.com", "password": "x"}),
        ("PUT", f"/api/v1/users/{uuid4()}", {"name": number}),
        ("POST", "/api/v1/nowhere", [[number]]),
    ]
    return [
        *((verb, path, {"json": body}) for verb, path, body in json),
        ("POST", "/api/v1/wallets", {"params": {"card": number}, "json": {"currency": "USD"}}),
        ("POST", f"/api/v1/wallets/{number}/deactivate", {"json": {"reason": "x"}}),
        ("GET", f"/api/v1/payments/{number}", {}),
        ("POST", "/api/v1/orders", {"data": {"card": number}}),
    ]


@in_the_shop
@pytest.mark.parametrize("number", [NUMBER, SPACED])
async def test_a_card_number_is_refused_wherever_it_is_and_neither_kept_logged_nor_told(
    shop: Shop, admin: Person, number: str, caplog: pytest.LogCaptureFixture
) -> None:
    head = await shop.core.log.head()
    with caplog.at_level(logging.DEBUG):
        for verb, path, sent in requests_with(number):
            answer = await admin.request(verb, path, **sent)
            assert (answer.status_code, answer.json()["code"]) == (422, "card_data_refused"), (verb, path, sent)
            assert NUMBER not in answer.text.replace(" ", "")
    own_lines = [record.getMessage() for record in caplog.records if not record.name.startswith("httpx")]
    since = await shop.core.log.read(head)  # somebody may be told welcome meanwhile
    assert [each.env.name for each in since if each.env.actor == f"user:{admin.id}"] == []
    told = [(await admin.get("/metrics")).text, *own_lines, *(path.read_text() for path in text_logs(shop))]
    assert not [line for line in told if NUMBER in line.replace(" ", "").replace("%20", "")]


def text_logs(shop: Shop) -> list[Path]:
    shop.core.text_log("payment-worker.txt")  # there, even if nothing was written
    return list((shop.core.settings.home / "logs").glob("*.txt"))


@in_the_shop
@pytest.mark.parametrize(
    "body",
    [
        b'{"currency": 4242424242424242}',
        b'{"currency": 4242424242424242.0}',
        b'{"currency": "\\u0034242424242424242"}',
        '{"currency": "4242424242424242"}'.encode("utf-16"),
        b'{"currency": "4242 4242 4242 4242"',
    ],
)
async def test_no_way_of_writing_json_hides_it(admin: Person, body: bytes) -> None:
    answer = await admin.post("/api/v1/wallets", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "card_data_refused")


@in_the_shop
async def test_a_large_body_is_looked_through_and_arrives_whole(admin: Person) -> None:
    long = "x" * 19_000
    fine = await admin.post("/api/v1/wallets", json={"currency": "USD", "note": long})
    assert (fine.status_code, fine.json()["code"]) == (422, "invalid_request")
    assert [error["field"] for error in fine.json()["errors"]] == ["note"]
    assert (await admin.post("/api/v1/wallets", json={"note": long + " " + NUMBER})).json()[
        "code"
    ] == "card_data_refused"
