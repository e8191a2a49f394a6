"""`ludoteca audit acts`: what operators did at the command line, and elsewhere."""

import asyncio
import getpass
import os
import pwd
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest

from queries.engine.read_models import ReadModels
from runtime.cli_commands import opening
from runtime.processes.lost_acts import give_up_lost_acts
from tests.support.shops.commands import Ludoteca, Shop, until

ME = f"operator:{pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"


def acts(ludoteca: Ludoteca, shop: Shop, *filters: str) -> list[dict[str, Any]]:
    shop.project()
    found: list[dict[str, Any]] = ludoteca.json("audit", "acts", *filters)
    return found


def test_a_command_is_recorded_with_who_ran_it_and_why(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_games(2)
    shop.project()
    assert ludoteca("projections", "pause", "games", "--reason", "a test").exit_code == 0
    assert ludoteca("projections", "resume", "games").exit_code == 0
    rebuilt = ludoteca.json("projections", "rebuild", "games", "--reason", "to see it")

    last, resumed, paused = acts(ludoteca, shop)
    assert (paused["act"], paused["target"], paused["actor"], paused["reason"]) == (
        "projection.pause",
        "games",
        ME,
        "a test",
    )
    assert (resumed["act"], resumed["reason"], resumed["status"]) == (
        "projection.resume",
        None,
        "DONE",
    )
    assert (last["act"], last["affected"]) == ("projection.rebuild", 2)
    assert last["details"] == {"games": rebuilt["rebuilt"][0]["storage"]}


def test_who_names_themselves_otherwise_is_recorded_all_the_same(
    ludoteca: Ludoteca, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.list_games(1)
    shop.project()
    monkeypatch.setenv("LOGNAME", "somebody-else")
    assert getpass.getuser() == "somebody-else"
    assert ludoteca("projections", "resume", "games").exit_code == 0
    assert [each["actor"] for each in acts(ludoteca, shop)] == [ME]


def test_what_fails_is_recorded_as_that(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_games(1)
    shop.project()
    assert ludoteca("projections", "rollback", "games", "--reason", "a test").exit_code == 1
    (failed,) = acts(ludoteca, shop)
    assert (failed["act"], failed["status"]) == ("projection.rollback", "FAILED")
    assert failed["error"]


def test_a_wrong_word_is_no_act(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_games(1)
    shop.project()
    assert ludoteca("projections", "pause", "nothing").exit_code == 2
    assert ludoteca("projections", "pause", "games", "--reason", " ").exit_code == 2
    assert acts(ludoteca, shop) == []


def test_a_verification_is_recorded_if_a_reason_is_given(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_games(1)
    before = ludoteca.json("audit", "verify")
    assert ludoteca.json("audit", "verify") == before
    assert ludoteca("audit", "verify", "--reason", "the yearly audit").exit_code == 0
    (verified,) = acts(ludoteca, shop, "--act", "log.*")
    assert (verified["act"], verified["reason"], verified["status"]) == (
        "log.verify",
        "the yearly audit",
        "DONE",
    )
    assert verified["details"]["anchor"].startswith("2:")  # with the record of its begin


def test_an_account_of_an_administrator_is_an_act(ludoteca: Ludoteca, shop: Shop) -> None:
    made = ludoteca("admin", "create", "--email", "ana@example.org", stdin="a long password\n")
    assert made.exit_code == 0, made.output
    (created,) = acts(ludoteca, shop)
    assert (created["act"], created["actor"]) == ("account.create", ME)
    assert created["details"] == {"account_type": "ADMIN"}


def test_the_list_is_of_those_asked_for(ludoteca: Ludoteca, shop: Shop) -> None:
    shop.list_games(1)
    shop.project()
    for _ in range(3):
        ludoteca("projections", "resume", "games")
    assert len(acts(ludoteca, shop, "--limit", "2")) == 2
    assert acts(ludoteca, shop, "--act", "keys.*") == []
    assert acts(ludoteca, shop, "--actor", "user:*") == []
    assert acts(ludoteca, shop, "--since", "2199-01-01") == []
    shown = ludoteca("audit", "acts").output
    assert "projection.resume" in shown
    assert "operator:" in shown


DYING = """
import os, signal
from runtime.cli_commands import acting, opening
from runtime.cli_commands.projections import pause

{before}
pause("games", reason="a test")
"""
KILL = "lambda *_: os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    ("step", "is_paused"),
    [
        ("queries.operations.control.Operations.pause", False),
        ("commands.acts.ActCommands.end", True),
    ],
    ids=["before it is done", "before its end is recorded"],
)
def test_an_act_whose_process_dies_has_begun_until_a_worker_gives_it_up(
    ludoteca: Ludoteca, shop: Shop, step: str, is_paused: bool
) -> None:
    shop.list_games(1)
    shop.project()
    module, cls, method = step.rsplit(".", 2)
    dying = f"import {module}\n{module}.{cls}.{method} = {KILL}"
    code = DYING.format(before=dying)
    done = subprocess.run([sys.executable, "-P", "-c", code], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL

    feeds = ludoteca.json("projections", "list")
    assert [each["paused"] for each in feeds if each["projection"] == "games"] == [is_paused]
    ludoteca("projections", "resume", "games")
    begun = acts(ludoteca, shop, "--act", "projection.pause")
    assert [(each["status"], each["reason"]) for each in begun] == [("BEGUN", "a test")]

    def given_up() -> list[str]:
        asyncio.run(_give_up())
        return [each["status"] for each in acts(ludoteca, shop, "--act", "projection.pause")]

    until(lambda: given_up() == ["INTERRUPTED"])  # PostgreSQL notices a moment after the death


async def _give_up() -> None:
    async with opening.core(opening.quiet_settings()) as core:
        await give_up_lost_acts(core, ReadModels(core.log.pool))
