"""The catalog of events over HTTP, and the comparison with another release's."""

import json
from pathlib import Path

from domain.events import EVENTS
from tests.support.shops.gateway import Person

RELEASE_1 = Path(__file__).parents[2] / "docs" / "events-release-1.json"


async def test_every_event_is_listed_with_its_fields(auditor: Person) -> None:
    found = (await auditor.get("/api/v1/audit/catalog")).json()["items"]
    assert {each["event"] for each in found} == EVENTS.keys()
    some = (await auditor.get("/api/v1/audit/catalog?name=wallet.created.*")).json()["items"]
    assert [each["fields"]["user_id"]["shape"] for each in some] == ["uuid"]


async def test_another_release_s_events_are_compared(auditor: Person) -> None:
    old = json.loads(RELEASE_1.read_bytes())
    answer = await auditor.post("/api/v1/audit/catalog/check", json=old)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["against"], answer.json()["holds"]) == (1, True)

    lost = {**old, "events": {**old["events"], "dragon.slain.v1": {"kind": "dragon", "fields": {}}}}
    report = (await auditor.post("/api/v1/audit/catalog/check", json=lost)).json()
    assert not report["holds"]
    assert [each["event"] for each in report["events"] if not each["holds"]] == ["dragon.slain.v1"]


async def test_what_is_no_release_is_refused(auditor: Person, buyer: Person) -> None:
    wrong = {"release": 1, "events": {"x": 1}, "upcasters": {}}
    answer = await auditor.post("/api/v1/audit/catalog/check", json=wrong)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_event_shapes")
    assert (await buyer.get("/api/v1/audit/catalog")).status_code == 403
