"""`ludoteca alerts`."""

import asyncio
import os
import pwd
import socket
from uuid import uuid4

from domain.alerts import Seen
from runtime.settings import Settings
from runtime.wiring.core import open_core
from tests.support.shops.commands import Ludoteca, Shop

SEEN = Seen("ludoteca", "DeadLetters", {"queue": "mail"}, "warning", "mail has dead letters")


def raised(shop: Shop) -> None:
    async def work() -> None:
        async with open_core(Settings()) as core:
            await core.commands.alerts.raise_alert(SEEN)

    asyncio.run(work())
    shop.project()


def test_an_alert_is_listed_and_acknowledged(ludoteca: Ludoteca, shop: Shop) -> None:
    raised(shop)
    (listed,) = ludoteca.json("alerts", "list")
    assert (listed["alert_id"], listed["status"]) == (str(SEEN.alert_id), "RAISED")
    taken = ludoteca("alerts", "acknowledge", SEEN.alert_id, "--note", "looking")
    assert taken.exit_code == 0, taken.output
    shop.project()
    (listed,) = ludoteca.json("alerts", "list", "--status", "acknowledged")
    me = f"operator:{pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"
    assert (listed["acknowledged_by"], listed["note"]) == (me, "looking")
    assert "DeadLetters" in ludoteca("alerts", "list").output
    assert ludoteca.json("alerts", "list", "--status", "resolved") == []


def test_what_cannot_be_acknowledged_says_why(ludoteca: Ludoteca, shop: Shop) -> None:
    raised(shop)
    assert ludoteca("alerts", "acknowledge", uuid4(), "--note", "looking").exit_code == 1
    assert ludoteca("alerts", "acknowledge", SEEN.alert_id, "--note", " ").exit_code == 1
    assert ludoteca("alerts", "acknowledge", SEEN.alert_id, "--note", "looking").exit_code == 0
    again = ludoteca("alerts", "acknowledge", SEEN.alert_id, "--note", "me too")
    assert (again.exit_code, "already" in again.output) == (1, True)
