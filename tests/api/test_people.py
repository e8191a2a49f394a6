"""People over HTTP: masked, and disclosed on asking; and the settings."""

from tests.support.shops.gateway import Person, Shop


async def test_names_and_addresses_are_masked(
    shop: Shop, buyer: Person, admin: Person, auditor: Person
) -> None:
    path = f"/api/v1/ops/people/{buyer.id}"
    headers = await shop.reached()
    seen = (await admin.get(path, headers=headers)).json()
    assert (seen["name"], seen["email"]) == ("A•••", f"{buyer.email[0]}•••@e•••")
    audited = (await auditor.get(path, headers=headers)).json()
    assert (audited["name"], audited["email"]) == ("[encrypted]", "[encrypted]")
    listed = await auditor.get("/api/v1/ops/people?account_type=BUYER", headers=headers)
    assert str(buyer.id) in {each["id"] for each in listed.json()["items"]}
    assert "Ann" not in listed.text
    assert "@" not in listed.text
    assert (await buyer.get(path)).status_code == 403


async def test_asking_for_personal_data_is_recorded_first(
    shop: Shop, buyer: Person, admin: Person, auditor: Person
) -> None:
    path = f"/api/v1/ops/people/{buyer.id}/disclosure"
    asked = {"reason": "the court asked"}
    assert (await auditor.post(path, json=asked)).status_code == 403
    assert (await admin.post(path, json={})).status_code == 422
    answer = await admin.post(path, json=asked)
    assert answer.headers["cache-control"] == "no-store"
    shown = answer.json()
    assert (shown["name"], shown["email"]) == ("Ann", buyer.email)

    (event,) = (await auditor.get(f"/api/v1/audit/streams/{shown['disclosure_id']}")).json()[
        "items"
    ]
    assert (event["name"], event["actor"]) == ("disclosure.made.v1", f"user:{admin.id}")
    assert event["payload"]["person_ids"] == [str(buyer.id)]
    assert event["payload"]["reason"] == "the court asked"


async def test_settings_are_shown_with_their_source(
    shop: Shop, buyer: Person, auditor: Person
) -> None:
    assert (await buyer.get("/api/v1/ops/settings")).status_code == 403
    found = {
        each["variable"]: each
        for each in (await auditor.get("/api/v1/ops/settings")).json()["items"]
    }
    port = found["LUDOTECA_PORT"]
    assert (port["value"], port["source"], port["default"]) == ("8000", "default", "8000")
    secrets = found["LUDOTECA_PAYMENT_WEBHOOK_SECRETS"]
    assert set(secrets["value"]) <= {"*", ","}
