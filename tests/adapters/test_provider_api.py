"""The simulated provider's API, over plain HTTP."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.servers.provider import PATIENCE, running_provider
from tests.support.servers.shared import free_port


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    store: Path = tmp_path_factory.mktemp("provider") / "provider.sqlite"
    nobody = f"http://127.0.0.1:{free_port()}/"
    with (
        running_provider(store, nobody, webhook_retry_seconds=60) as url,
        httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client,
    ):
        yield client


def create(api: httpx.Client, *, key: str | None = None, **body: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return api.post(
        "/v1/payment_intents", json={"amount": 5990, "currency": "BRL"} | body, headers=headers
    )


def confirm(api: httpx.Client, ref: str, method: str) -> httpx.Response:
    return api.post(f"/v1/payment_intents/{ref}/confirm", json={"payment_method": method})


def cancel(api: httpx.Client, ref: str) -> httpx.Response:
    return api.post(f"/v1/payment_intents/{ref}/cancel")


def refund(api: httpx.Client, ref: str, **body: Any) -> httpx.Response:
    return api.post("/v1/refunds", json={"payment_intent": ref} | body)


def code(response: httpx.Response) -> str:
    assert response.json()["error"]["message"]
    return str(response.json()["error"]["code"])


def test_a_new_intent_awaits_a_method(api: httpx.Client) -> None:
    intent = create(api, metadata={"payment_id": "p-new"}).json()
    assert intent["id"].startswith("pi_")
    assert intent["client_secret"].startswith(intent["id"] + "_secret_")
    assert (
        intent
        | {
            "object": "payment_intent",
            "amount": 5990,
            "currency": "brl",
            "status": "requires_payment_method",
            "metadata": {"payment_id": "p-new"},
            "last_payment_error": None,
            "next_action": None,
        }
        == intent
    )
    assert api.get(f"/v1/payment_intents/{intent['id']}").json() == intent


@pytest.mark.parametrize("body", ['{"amount": 5990, "currency": "BRL"}', '{"amount": 5990}'])
def test_the_way_to_the_endpoint_does_not_change_the_answer(api: httpx.Client, body: str) -> None:
    """FastAPI handles a content type with parameters, DirectRoute one without."""
    key = {"Idempotency-Key": f"either way {body}"}
    answers = [
        api.post("/v1/payment_intents", content=body, headers=key | {"Content-Type": each})
        for each in ("application/json", "application/json; charset=utf-8", "application/json")
    ]
    assert len({(each.status_code, each.content) for each in answers}) == 1
    assert len({tuple(each.headers.keys()) for each in answers}) == 1


def test_an_intent_is_found_by_its_payment_newest_first(api: httpx.Client) -> None:
    first, second = (create(api, metadata={"payment_id": "p-found"}).json() for _ in range(2))
    answer = api.get("/v1/payment_intents", params={"payment_id": "p-found"}).json()
    assert answer == {"object": "list", "data": [second, first]}


def test_no_intent_is_found_for_a_payment_that_never_was(api: httpx.Client) -> None:
    assert api.get("/v1/payment_intents", params={"payment_id": "nobody"}).json()["data"] == []


def test_a_good_card_is_captured(api: httpx.Client) -> None:
    assert create(api, payment_method="pm_card_visa").json()["status"] == "succeeded"


def test_after_a_decline_another_card_may_be_tried(api: httpx.Client) -> None:
    intent = create(api).json()
    declined = confirm(api, intent["id"], "pm_card_chargeDeclined")
    assert declined.status_code == 200
    assert declined.json()["status"] == "requires_payment_method"
    assert declined.json()["last_payment_error"]["code"] == "card_declined"
    assert declined.json()["last_payment_error"]["decline_code"] == "generic_decline"
    paid = confirm(api, intent["id"], "pm_card_visa").json()
    assert (paid["status"], paid["last_payment_error"]) == ("succeeded", None)


def test_a_paid_intent_cannot_be_confirmed_again(api: httpx.Client) -> None:
    intent = create(api, payment_method="pm_card_visa").json()
    answer = confirm(api, intent["id"], "pm_card_visa")
    assert (answer.status_code, code(answer)) == (400, "payment_intent_unexpected_state")


def test_a_processor_that_is_down_answers_503_each_time_and_changes_nothing(
    api: httpx.Client,
) -> None:
    body = {"metadata": {"payment_id": "p-down"}, "payment_method": "pm_card_processorDown"}
    for _ in range(2):
        answer = create(api, key="down", **body)
        assert (answer.status_code, code(answer)) == (503, "processor_unavailable")
    assert api.get("/v1/payment_intents", params={"payment_id": "p-down"}).json()["data"] == []

    waiting = create(api).json()
    assert confirm(api, waiting["id"], "pm_card_processorDown").status_code == 503
    assert api.get(f"/v1/payment_intents/{waiting['id']}").json() == waiting


def test_an_unknown_method_is_refused_and_makes_no_intent(api: httpx.Client) -> None:
    answer = create(api, payment_method="pm_card_golden", metadata={"payment_id": "p-golden"})
    assert (answer.status_code, code(answer)) == (400, "payment_method_unknown")
    assert api.get("/v1/payment_intents", params={"payment_id": "p-golden"}).json()["data"] == []


def test_a_waiting_intent_can_be_canceled_and_then_no_longer_paid(api: httpx.Client) -> None:
    intent = create(api).json()
    assert cancel(api, intent["id"]).json()["status"] == "canceled"
    assert code(confirm(api, intent["id"], "pm_card_visa")) == "payment_intent_unexpected_state"


@pytest.mark.parametrize("method", ["pm_card_visa", "pm_card_slow"])
def test_money_that_came_or_is_on_its_way_cannot_be_canceled(
    api: httpx.Client, method: str
) -> None:
    answer = cancel(api, create(api, payment_method=method).json()["id"])
    assert (answer.status_code, code(answer)) == (400, "payment_intent_unexpected_state")


def test_money_can_be_refunded_in_parts_until_none_is_left(api: httpx.Client) -> None:
    ref = create(api, payment_method="pm_card_visa").json()["id"]
    part = refund(api, ref, amount=1000).json()
    assert part["id"].startswith("re_")
    assert (part["amount"], part["currency"], part["payment_intent"], part["status"]) == (
        1000,
        "brl",
        ref,
        "succeeded",
    )
    assert code(refund(api, ref, amount=4991)) == "amount_too_large"
    assert refund(api, ref).json()["amount"] == 4990
    assert code(refund(api, ref)) == "charge_already_refunded"
    assert api.get(f"/v1/payment_intents/{ref}").json()["amount_refunded"] == 5990


def test_an_open_intent_can_be_refunded_by_as_much_as_is_said(api: httpx.Client) -> None:
    ref = create(api).json()["id"]
    given = refund(api, ref, amount=1999).json()
    assert (given["amount"], given["currency"], given["payment_intent"]) == (1999, "brl", ref)
    assert code(refund(api, ref)) == "parameter_missing"
    assert api.get(f"/v1/payment_intents/{ref}").json()["amount_refunded"] == 0


@pytest.mark.parametrize("kind", ["payment_intents", "refunds"])
def test_a_list_does_not_end_at_what_is_not_known(api: httpx.Client, kind: str) -> None:
    answer = api.get(f"/v1/{kind}", params={"starting_after": "pi_of_lost_books"})
    assert (answer.status_code, code(answer)) == (404, "resource_missing")


def test_an_unknown_intent_is_404(api: httpx.Client) -> None:
    for answer in (
        api.get("/v1/payment_intents/pi_nothing"),
        confirm(api, "pi_nothing", "pm_card_visa"),
        cancel(api, "pi_nothing"),
    ):
        assert (answer.status_code, code(answer)) == (404, "resource_missing")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"amount": 0}, "parameter_invalid"),
        ({"amount": -1}, "parameter_invalid"),
        ({"amount": 1.5}, "parameter_invalid"),
        ({"amount": "100"}, "parameter_invalid"),
        ({"amount": 10**14}, "parameter_invalid"),
        ({"currency": "reais"}, "parameter_invalid"),
        ({"currency": None}, "parameter_invalid"),
        ({"metadata": {"payment_id": 7}}, "parameter_invalid"),
        ({"metadata": {"payment_id": "x" * 501}}, "parameter_invalid"),
        ({"colour": "red"}, "parameter_unknown"),
    ],
)
def test_a_wrong_field_is_named_and_refused(
    api: httpx.Client, body: dict[str, Any], expected: str
) -> None:
    answer = create(api, **body)
    assert (answer.status_code, code(answer)) == (400, expected)
    assert next(iter(body)) in answer.json()["error"]["message"]


def test_a_missing_field_is_named_and_refused(api: httpx.Client) -> None:
    answer = api.post("/v1/payment_intents", json={"currency": "BRL"})
    assert (answer.status_code, code(answer)) == (400, "parameter_missing")
    assert "amount" in answer.json()["error"]["message"]


def test_a_body_that_is_not_json_is_refused(api: httpx.Client) -> None:
    answer = api.post(
        "/v1/payment_intents", content=b"{", headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, code(answer)) == (400, "json_invalid")


def test_an_unknown_path_or_verb_is_told_in_the_same_shape(api: httpx.Client) -> None:
    assert code(api.get("/v1/customers")) == "resource_missing"
    assert code(api.delete("/v1/refunds")) == "method_not_allowed"


# -- idempotency keys ------------------------------------------------------------------------------


def test_the_same_key_gets_the_same_answer_and_acts_once(api: httpx.Client) -> None:
    body = {"metadata": {"payment_id": "p-once"}, "payment_method": "pm_card_visa"}
    first, again = create(api, key="once", **body), create(api, key="once", **body)
    assert first.content == again.content
    assert len(api.get("/v1/payment_intents", params={"payment_id": "p-once"}).json()["data"]) == 1


def test_the_same_key_at_the_same_time_acts_once(api: httpx.Client) -> None:
    answers: list[bytes] = []

    def ask() -> None:
        answers.append(create(api, key="race", metadata={"payment_id": "p-race"}).content)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert len(set(answers)) == 1


def test_a_refund_repeated_under_its_key_is_given_once(api: httpx.Client) -> None:
    ref = create(api, payment_method="pm_card_visa").json()["id"]
    body, headers = {"payment_intent": ref, "amount": 100}, {"Idempotency-Key": "refund-once"}
    first, again = (api.post("/v1/refunds", json=body, headers=headers) for _ in range(2))
    assert first.content == again.content
    assert api.get(f"/v1/payment_intents/{ref}").json()["amount_refunded"] == 100


def test_a_refusal_is_repeated_under_its_key_although_it_would_now_be_granted(
    api: httpx.Client,
) -> None:
    ref = create(api, payment_method="pm_card_authenticationRequired").json()["id"]
    path, body = f"/v1/payment_intents/{ref}/confirm", {"payment_method": "pm_card_visa"}
    early = api.post(path, json=body, headers={"Idempotency-Key": "too-early"})
    api.post(f"/3ds/{ref}", data={"decision": "decline"})
    again = api.post(path, json=body, headers={"Idempotency-Key": "too-early"})
    assert (again.status_code, again.content) == (400, early.content)


def test_a_key_used_for_another_request_is_refused(api: httpx.Client) -> None:
    create(api, key="mine", amount=100)
    answer = create(api, key="mine", amount=200)
    assert (answer.status_code, code(answer)) == (400, "idempotency_key_reused")


# -- the 3-D Secure page ---------------------------------------------------------------------------


def awaiting_authentication(api: httpx.Client) -> tuple[str, str]:
    intent = create(api, payment_method="pm_card_authenticationRequired").json()
    assert intent["status"] == "requires_action"
    return intent["id"], intent["next_action"]["redirect_to_url"]["url"]


def status(api: httpx.Client, ref: str) -> str:
    return str(api.get(f"/v1/payment_intents/{ref}").json()["status"])


def test_the_page_shows_the_amount_and_asks_for_a_decision(api: httpx.Client) -> None:
    _, url = awaiting_authentication(api)
    page = api.get(url)
    assert page.headers["content-type"].startswith("text/html")
    assert "59.90 BRL" in page.text
    assert '<form method="post">' in page.text
    assert 'name="decision" value="approve"' in page.text
    assert 'name="decision" value="decline"' in page.text


def test_a_payer_who_approves_pays(api: httpx.Client) -> None:
    ref, url = awaiting_authentication(api)
    page = api.post(url, data={"decision": "approve"})
    assert page.status_code == 200
    assert "Payment approved" in page.text
    assert status(api, ref) == "succeeded"
    assert "Payment approved" in api.get(url).text


def test_a_payer_who_declines_may_try_another_card(api: httpx.Client) -> None:
    ref, url = awaiting_authentication(api)
    page = api.post(url, data={"decision": "decline"})
    assert page.status_code == 200
    assert "Payment declined" in page.text
    intent = api.get(f"/v1/payment_intents/{ref}").json()
    assert intent["status"] == "requires_payment_method"
    assert intent["last_payment_error"]["code"] == "payment_intent_authentication_failure"
    assert confirm(api, ref, "pm_card_visa").json()["status"] == "succeeded"


def test_the_first_decision_counts(api: httpx.Client) -> None:
    ref, url = awaiting_authentication(api)
    api.post(url, data={"decision": "approve"})
    late = api.post(url, data={"decision": "decline"})
    assert late.status_code == 409
    assert "Payment approved" in late.text
    assert status(api, ref) == "succeeded"


def test_an_approval_after_the_cancellation_takes_no_money(api: httpx.Client) -> None:
    ref, url = awaiting_authentication(api)
    cancel(api, ref)
    late = api.post(url, data={"decision": "approve"})
    assert late.status_code == 409
    assert "Payment canceled" in late.text
    assert status(api, ref) == "canceled"


@pytest.mark.parametrize("form", [{}, {"decision": "maybe"}])
def test_no_decision_changes_nothing(api: httpx.Client, form: dict[str, str]) -> None:
    ref, url = awaiting_authentication(api)
    assert api.post(url, data=form).status_code == 400
    assert status(api, ref) == "requires_action"


def test_a_page_for_no_intent_is_404_and_harmless(api: httpx.Client) -> None:
    for page in (api.get("/3ds/<b>"), api.post("/3ds/<b>", data={"decision": "approve"})):
        assert page.status_code == 404
        assert "<b>" not in page.text
