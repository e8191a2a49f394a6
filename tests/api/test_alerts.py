"""Alerts over HTTP: read by auditors, acknowledged by one ADMIN, told by Alertmanager."""

import asyncio
import dataclasses
import json
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from api.app import create_app
from domain.alerts import Seen
from tests.support.shops.gateway import Person, Shop
from tests.support.shops.small_gateway import client_of

ALERTS = "/api/v1/ops/alerts"
TOKEN = "a token of Alertmanager's"


@pytest.fixture
def alertmanager(shop: Shop) -> httpx.AsyncClient:
    """A client with Alertmanager's token, of a gateway that takes it."""
    settings = dataclasses.replace(shop.services.settings, alertmanager_token=TOKEN)
    client = client_of(create_app(dataclasses.replace(shop.services, settings=settings)))
    client.headers["authorization"] = f"Bearer {TOKEN}"
    return client


def seen() -> Seen:
    labels = {"consumer": uuid4().hex}
    return Seen("ludoteca", "ConsumerLate", labels, "warning", "orders is late", "consumerlate")


async def alert(shop: Shop, admin: Person, alert_id: UUID) -> dict[str, Any]:
    items = (await admin.get(ALERTS, headers=await shop.reached())).json()["items"]
    (found,) = [each for each in items if each["alert_id"] == str(alert_id)]
    return dict(found)


async def test_an_alert_is_acknowledged_by_one_and_resolved(shop: Shop, admin: Person) -> None:
    wrong = seen()
    assert await shop.commands.alerts.raise_alert(wrong)
    raised = await alert(shop, admin, wrong.alert_id)
    assert (raised["status"], raised["labels"], raised["summary"]) == (
        "RAISED",
        dict(wrong.labels),
        "orders is late",
    )

    path = f"{ALERTS}/{wrong.alert_id}/acknowledge"
    taken = await admin.post(path, json={"note": "looking"})
    assert (taken.status_code, "event-position" in taken.headers) == (204, True)
    shown = await alert(shop, admin, wrong.alert_id)
    assert (shown["status"], shown["acknowledged_by"], shown["note"]) == (
        "ACKNOWLEDGED",
        f"user:{admin.id}",
        "looking",
    )
    again = await admin.post(path, json={"note": "me too"})
    assert (again.status_code, again.json()["code"]) == (409, "alert_acknowledged")

    assert await shop.commands.alerts.resolve(wrong.alert_id)
    late = await admin.post(path, json={"note": "me too"})
    assert (late.status_code, late.json()["code"]) == (409, "alert_resolved")
    assert (await alert(shop, admin, wrong.alert_id))["status"] == "RESOLVED"


async def test_of_two_who_acknowledge_at_once_one_does(shop: Shop) -> None:
    wrong = seen()
    await shop.commands.alerts.raise_alert(wrong)
    admins = [await shop.register("ADMIN") for _ in range(2)]
    answers = await asyncio.gather(
        *(
            each.post(f"{ALERTS}/{wrong.alert_id}/acknowledge", json={"note": f"by {n}"})
            for n, each in enumerate(admins)
        )
    )
    assert sorted(each.status_code for each in answers) == [204, 409]
    stream = await shop.core.log.read_stream(wrong.alert_id)
    assert [each.env.name for each in stream] == ["alert.raised.v1", "alert.acknowledged.v1"]
    winner = [each.status_code for each in answers].index(204)
    assert stream[1].env.actor == f"user:{admins[winner].id}"


async def test_the_list_is_filtered(shop: Shop, admin: Person) -> None:
    first, second = seen(), seen()
    await shop.commands.alerts.raise_alert(first)
    await shop.commands.alerts.raise_alert(second)
    await shop.commands.alerts.resolve(first.alert_id)

    async def listed(**filters: str | int) -> list[str]:
        found = await admin.get(ALERTS, params=filters, headers=await shop.reached())
        return [each["alert_id"] for each in found.json()["items"]]

    assert str(first.alert_id) not in await listed(status="OPEN")
    assert (await listed(status="OPEN"))[0] == str(second.alert_id)
    assert (await listed(status="RESOLVED"))[0] == str(first.alert_id)
    assert await listed(status="RAISED", name="NoSuch") == []
    assert (await listed(limit=1)) == [str(second.alert_id)]


async def test_who_may_see_and_take_alerts(shop: Shop, admin: Person) -> None:
    auditor, buyer = await shop.register("AUDITOR"), await shop.register()
    path = f"{ALERTS}/{uuid4()}/acknowledge"
    assert (await auditor.get(ALERTS)).status_code == 200
    assert (await buyer.get(ALERTS)).status_code == 403
    assert (await auditor.post(path, json={"note": "looking"})).status_code == 403
    missing = await admin.post(path, json={"note": "looking"})
    assert (missing.status_code, missing.json()["code"]) == (404, "alert_not_found")
    assert (await admin.post(path, json={"note": " "})).status_code == 422


# -- Alertmanager ----------------------------------------------------------------------------------


def notification(status: str, instance: str, **more: Any) -> dict[str, Any]:
    """As Alertmanager 0.27 sends it."""
    return {
        "receiver": "ludoteca",
        "status": status,
        "alerts": [
            {
                "status": status,
                "labels": {
                    "alertname": "ProcessDown",
                    "instance": instance,
                    "job": "ludoteca",
                    "severity": "critical",
                },
                "annotations": {
                    "summary": f"{instance} does not show its metrics",
                    "runbook": "docs/runbooks/alerts.md#processdown",
                },
                "startsAt": "2026-11-29T16:00:00Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus:9090/graph",
                "fingerprint": "b1d2",
            }
        ],
        "groupLabels": {"alertname": "ProcessDown"},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "version": "4",
        "groupKey": '{}:{alertname="ProcessDown"}',
        "truncatedAlerts": 0,
        **more,
    }


async def test_alertmanagers_alerts_are_raised_once_and_resolved(
    shop: Shop, admin: Person, alertmanager: httpx.AsyncClient
) -> None:
    instance = f"worker-{uuid4().hex}"
    before = await shop.core.log.head()
    told, again = [
        await alertmanager.post(f"{ALERTS}/alertmanager", json=notification("firing", instance))
        for _ in range(2)
    ]
    assert (told.status_code, again.status_code) == (204, 204), told.text
    items = (await admin.get(ALERTS, headers=await shop.reached())).json()["items"]
    (raised,) = [each for each in items if each["labels"].get("instance") == instance]
    assert (raised["name"], raised["source"], raised["severity"], raised["status"]) == (
        "ProcessDown",
        "alertmanager",
        "critical",
        "RAISED",
    )
    assert raised["labels"] == {"instance": instance, "job": "ludoteca"}
    assert raised["runbook"] == "processdown"

    over = notification("resolved", instance)
    told_over = await alertmanager.post(f"{ALERTS}/alertmanager", json=over)
    assert told_over.status_code == 204
    shown = await alert(shop, admin, UUID(raised["alert_id"]))
    assert (shown["status"], shown["times"]) == ("RESOLVED", 1)
    events = await shop.core.log.read(before, names=["alert.raised.v1", "alert.resolved.v1"])
    assert [each.env.actor for each in events] == ["alertmanager", "alertmanager"]
    assert [each.env.correlation_id for each in events] == [
        UUID(each.headers["x-correlation-id"]) for each in (told, told_over)
    ]


async def test_an_odd_label_does_not_keep_the_other_alerts_out(
    shop: Shop, admin: Person, alertmanager: httpx.AsyncClient
) -> None:
    instance = f"worker-{uuid4().hex}"
    odd, told = notification("firing", f"{instance}-HALF"), notification("firing", instance)
    odd["alerts"][0]["annotations"]["HALF"] = "HALF"
    told["alerts"] = odd["alerts"] + told["alerts"]
    answer = await alertmanager.post(
        f"{ALERTS}/alertmanager",
        content=json.dumps(told).replace("HALF", r"\ud800"),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 204, answer.text
    items = (await admin.get(ALERTS, headers=await shop.reached())).json()["items"]
    instances = {each["labels"].get("instance") for each in items}
    assert {instance, f"{instance}-?"} <= instances


async def test_only_alertmanager_tells_of_alerts(
    shop: Shop, admin: Person, alertmanager: httpx.AsyncClient
) -> None:
    body = notification("firing", "x")
    path = f"{ALERTS}/alertmanager"
    assert (await admin.post(path, json=body)).status_code == 401
    for token in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}"):
        answer = await alertmanager.post(path, json=body, headers={"authorization": token})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    # without the setting, no token is the right one
    unset = await shop.client("").post(path, json=body, headers={"authorization": "Bearer "})
    assert unset.status_code == 401


async def test_strangers_learn_nothing_of_the_form(
    alertmanager: httpx.AsyncClient, shop: Shop
) -> None:
    path = f"{ALERTS}/alertmanager?no_such_parameter=1"
    for body in (b"", b"{", b"{}", b" " * 2**21):
        assert (await shop.client().post(path, content=body)).status_code == 401
        known = await alertmanager.post(path.partition("?")[0], content=body)
        assert known.status_code in {400, 413, 422}, known.text


async def test_a_notification_of_another_form_is_refused(alertmanager: httpx.AsyncClient) -> None:
    path = f"{ALERTS}/alertmanager"
    for wrong in ({"version": "3"}, {"alerts": [{"status": "firing"}]}, {"alerts": "none"}):
        told = await alertmanager.post(path, json=notification("firing", "x", **wrong))
        assert told.status_code == 422, told.text


async def test_an_alert_of_long_and_odd_texts_is_shortened(
    shop: Shop, admin: Person, alertmanager: httpx.AsyncClient
) -> None:
    body = notification("firing", uuid4().hex)
    (told,) = body["alerts"]
    told["labels"] |= {"pod": "\x00" + uuid4().hex * 100, "é" * 200: "x"}
    told["labels"] |= {f"label-{n}": "x" for n in range(40)}
    told["annotations"]["summary"] = "a\x00b" * 1_000
    answer = await alertmanager.post(f"{ALERTS}/alertmanager", json=body)
    assert answer.status_code == 204, answer.text
    items = (await admin.get(ALERTS, headers=await shop.reached())).json()["items"]
    (raised,) = [
        each for each in items if each["labels"].get("instance") == told["labels"]["instance"]
    ]
    assert len(raised["labels"]) == 20
    assert (len(raised["summary"]), raised["summary"][:3]) == (1_000, "a\N{REPLACEMENT CHARACTER}b")
