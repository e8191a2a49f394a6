"""How personal data is stored, over HTTP."""

from pathlib import Path

from adapters.master_key_file import MasterKeyFile
from eventstore.database.postgres import connect
from runtime.database.key_rotation import rotate
from tests.support.shops.gateway import Person, Shop

PATH = "/api/v1/audit/personal-data"


async def test_master_keys_and_whoever_is_not_erased_yet_are_shown(
    shop: Shop, buyer: Person, auditor: Person, tmp_path: Path
) -> None:
    with connect(shop.core.url, "test", role="") as conn:
        rotate(conn, MasterKeyFile(tmp_path / "keys"))
        done = rotate(conn, MasterKeyFile(tmp_path / "keys"))
    answer = await buyer.delete("/api/v1/users/me", params={"forget": True})
    assert answer.status_code == 204, answer.text
    found = (await auditor.get(PATH)).json()
    before, current = found["master_keys"][-2:]
    assert (before["id"], before["current"], before["wraps"]) == (done.unused[-1], False, 0)
    assert (current["id"], current["current"]) == (done.current, True)
    assert current["wraps"] > 0
    assert found["unwrapped"] == 0
    assert str(buyer.id) in [each["user_id"] for each in found["to_be_erased"]]


async def test_only_auditors_and_admins_see_it(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    assert [(await who.get(PATH)).status_code for who in (buyer, seller)] == [403, 403]
    assert (await shop.client().get(PATH)).status_code == 401
    assert (await admin.get(PATH)).status_code == 200
