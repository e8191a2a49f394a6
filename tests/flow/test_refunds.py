"""A refund that stays pending for a while, through real processes: all its consequences follow its
success."""

from typing import Any

from tests.support.processes.instance import Instance, eventually

PENDING_REFUND, REFUND_FAIL = "pm_card_pendingRefund", "pm_card_refundFail"


def refund_of(shop: Instance, order: dict[str, Any]) -> dict[str, Any]:
    answer = shop.admin().post(
        f"/api/v1/orders/{order['order_id']}/refund", json={"reason": "regret"}
    )
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def position_of(shop: Instance, stream: str, name: str) -> int:
    (event,) = [each for each in shop.events(stream=stream) if each["name"] == name]
    return int(event["position"])


def test_a_refund_takes_the_game_and_is_notified_only_once_the_provider_confirms_it(
    shop: Instance,
) -> None:
    ann, game = shop.register(), shop.game()
    order = ann.buy(game, PENDING_REFUND).json()
    assert eventually(ann.titles)
    assert refund_of(shop, order)["status"] == "PENDING"
    done = eventually(
        lambda: ann.order(order["order_id"]), lambda o: o["refund_status"] == "SUCCEEDED"
    )
    assert (done["status"], done["refunded_cents"]) == ("REFUNDED", order["amount_cents"])
    assert (done["payment"]["status"], done["payment"]["refund_status"]) == (
        "REFUNDED",
        "SUCCEEDED",
    )
    eventually(ann.titles, lambda titles: not titles)
    eventually(ann.notices, lambda told: "refund" in told)
    payment = order["payment_id"]
    accepted = position_of(shop, payment, "payment.refund_accepted.v1")
    succeeded = position_of(shop, payment, "payment.refunded.v1")
    taken = [
        each["position"]
        for each in shop.events(name="library.game.removed.v1")
        if each["payload"]["game_id"] == game
    ]
    told = [
        each["position"]
        for each in shop.events(name="notification.requested.v1")
        if each["payload"]["user_id"] == ann.id and each["payload"]["template"] == "refund"
    ]
    assert accepted < succeeded < min(*taken, *told)


def test_a_refund_that_fails_leaves_the_game_and_is_a_dead_letter_and_may_be_tried_again(
    shop: Instance,
) -> None:
    ann, game = shop.register(), shop.game()
    order = ann.buy(game, REFUND_FAIL).json()
    assert eventually(ann.titles)
    first = refund_of(shop, order)
    failed = eventually(
        lambda: ann.order(order["order_id"]), lambda o: o["refund_status"] == "FAILED"
    )
    assert (failed["status"], failed["refunded_cents"], failed["payment"]["refunded_cents"]) == (
        "COMPLETED",
        0,
        0,
    )
    assert failed["payment"]["refunds"][0]["code"] == "expired_or_canceled_card"
    assert ann.titles()
    eventually(lambda: shop.cli("dlq", "list", "--json"), lambda dead: first["refund_id"] in dead)
    failing = (
        shop.admin().get("/api/v1/payments", params={"refund_status": "FAILED"}).json()["items"]
    )
    assert order["payment_id"] in {each["payment_id"] for each in failing}
    second = refund_of(shop, order)
    assert second["refund_id"] != first["refund_id"]
    again = eventually(
        lambda: ann.order(order["order_id"]), lambda o: len(o["payment"]["refunds"]) == 2
    )
    assert again["refunded_cents"] == 0
    assert "refund" not in ann.notices()
