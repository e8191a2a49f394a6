"""Help texts, and how commands end when they cannot do what was asked."""

import fcntl
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from pydantic import ValidationError
from typer.main import get_command

from runtime.cli import app
from runtime.cli_commands.failures import explain
from runtime.settings import Settings
from tests.support.shops.commands import Ludoteca, Shop

CLOSED = "postgresql://shop:hunter22@127.0.0.1:1/shop"

COMMANDS = [
    [name, *([sub] if sub else [])]
    for name, command in get_command(app).commands.items()  # type: ignore[attr-defined]
    for sub in getattr(command, "commands", {"": None})
]

NEED_AN_INSTANCE = [
    ["projections", "list"],
    ["projections", "verify"],
    ["projections", "rebuild", "--all"],
    ["projections", "rollback", "orders"],
    ["projections", "pause", "orders"],
    ["quarantine", "list"],
    ["quarantine", "retry", "--all"],
    ["events", "tail"],
    ["events", "show", "1"],
    ["events", "export"],
    ["audit", "verify"],
    ["dlq", "list"],
    ["receipts", "reconcile"],
    ["payments", "reconcile"],
    ["admin", "create", "--email", "ana@example.org"],
    ["api"],
    ["projector"],
    ["worker"],
    ["provider"],
]


def test_the_help_lists_every_command_and_the_exit_codes(ludoteca: Ludoteca) -> None:
    shown = ludoteca("--help").stdout
    assert all(re.search(rf"\b{name[0]}\b", shown) for name in COMMANDS)
    assert "nothing is running" in shown


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_help_of_every_command_shows_an_example(ludoteca: Ludoteca, command: list[str]) -> None:
    result = ludoteca(*command, "--help")
    assert result.exit_code == 0
    examples = " ".join(result.stdout.split("Example")[1].split())
    assert f"ludoteca {' '.join(command)}" in examples


def test_help_does_not_load_what_only_commands_need() -> None:
    heavy = (
        "import runtime.cli, sys; print({'psycopg', 'pydantic', 'fastapi', 'structlog', 'rich'} &"
        " set(sys.modules))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", heavy], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "set()"


def test_the_version_is_the_packages(ludoteca: Ludoteca) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", ludoteca("--version").stdout)


ODD = [
    (("events", "tail", "--no-follow", "-n", "9" * 30), 2, "less than or equal to 1000000"),
    (("dlq", "list", "--limit", "9" * 30), 2, "less than or equal to 1000000"),
    (("quarantine", "retry", "--all", "--wait", "nan"), 2, "no number of seconds"),
    (("quarantine", "retry", "--all", "--wait", "inf"), 2, "no number of seconds"),
    (("quarantine", "list", "--feed", "gamse.1"), 2, "there is no feed gamse.1"),
    (("quarantine", "list", "--feed", "\udcff"), 2, "there is no feed"),
    (("projections", "pause", "\udcff"), 2, "there is no projection that has run"),
    (("projections", "resume", "\0"), 2, "there is no projection that has run"),
    (("restore", ""), 2, "the name is empty"),
    (("restore", "/dev/null"), 1, "/dev/null is no backup"),
    (("restore", "/no/such/folder"), 1, "/no/such/folder is no backup"),
    (("load", "games", "/no/such/file"), 2, "does not exist"),
    (("load", "games", "/dev"), 2, "is a directory"),
]


@pytest.mark.parametrize(
    ("command", "code", "said"), ODD, ids=[f"{number}" for number in range(len(ODD))]
)
def test_an_invalid_argument_is_explained_in_a_sentence(
    ludoteca: Ludoteca,
    module_database: str,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.setenv("LUDOTECA_DATABASE_URL", module_database)
    result = ludoteca(*command)
    assert result.exit_code == code, result.exception
    assert said in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("command", NEED_AN_INSTANCE, ids=" ".join)
def test_without_an_instance_a_command_says_how_to_start_one(
    ludoteca: Ludoteca, command: list[str]
) -> None:
    result = ludoteca(*command)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "start one with `ludoteca run`" in result.stderr


def test_a_database_that_does_not_answer_is_named_without_its_password(
    ludoteca: Ludoteca, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUDOTECA_DATABASE_URL", CLOSED)
    result = ludoteca("projections", "list")
    assert result.exit_code == 3
    assert "LUDOTECA_DATABASE_URL does not answer" in result.stderr
    assert "hunter22" not in result.output


def test_a_database_without_tables_is_distinguished_from_an_unreachable_one(
    ludoteca: Ludoteca, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUDOTECA_DATABASE_URL", empty_database)
    result = ludoteca("audit", "verify")
    assert result.exit_code == 3
    assert "no tables of Ludoteca yet" in result.stderr


def test_each_setting_that_makes_no_sense_gets_a_line(
    ludoteca: Ludoteca, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUDOTECA_PORT", "high")
    monkeypatch.setenv("LUDOTECA_LOG_FORMAT", "xml")
    monkeypatch.setenv("LUDOTECA_KURRENTDB_URL", "kurrentdb://me:hunter22@host")
    for command in (["settings"], ["projections", "list"], ["run"], ["api"], ["relay"]):
        result = ludoteca(*command)
        assert result.exit_code == 2
        lines = result.stderr.splitlines()
        assert [line.split(":")[0] for line in lines] == [
            "LUDOTECA_PORT",
            "LUDOTECA_KURRENTDB_URL",
            "LUDOTECA_LOG_FORMAT",
        ]
        assert "'high'" in lines[0]
        assert "hunter22" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["projection"],
        ["projections", "rebuild"],
        ["projections", "rebuild", "orders", "--all"],
        ["quarantine", "retry"],
        ["quarantine", "retry", "no-uuid"],
        ["dlq", "redrive"],
        ["events", "show", "first"],
        ["events", "tail", "--stream", "x"],
        ["audit", "verify", "--from-anchor", "12"],
        ["audit", "verify", "--from-anchor", "12:abc"],
        ["load", "games", "/no/such/file.csv"],
        ["admin", "create"],
        ["relay"],
        ["mirror"],
        ["log", "copy", "--from", "postgresql", "--to", "kurrentdb"],
        ["log", "copy", "--from", "postgresql", "--to", "postgresql://other"],
        ["log", "copy", "--from", "postgresql", "--to", "mysql://other"],
        ["log", "copy", "--from", "kurrentdb://me:hunter22@one", "--to", "postgresql"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(ludoteca: Ludoteca, shop: Shop, arguments: list[str]) -> None:
    result = ludoteca(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.strip()


def test_an_unknown_projection_is_answered_with_the_one_that_was_meant(
    ludoteca: Ludoteca, shop: Shop
) -> None:
    for command in ("rebuild", "verify", "rollback"):
        result = ludoteca("projections", command, "oders")
        assert result.exit_code == 2
        assert "did you mean orders?" in result.stderr
        assert "payments" in result.stderr


def test_an_unknown_event_name_is_answered_with_the_one_that_was_meant(
    ludoteca: Ludoteca, shop: Shop
) -> None:
    result = ludoteca("events", "tail", "--no-follow", "--name", "game.creatd.v1")
    assert result.exit_code == 2
    assert "did you mean game.created.v1?" in result.stderr


def test_a_second_run_in_the_same_home_is_refused(ludoteca: Ludoteca, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with (tmp_path / "home" / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = ludoteca("run")
    assert result.exit_code == 3
    assert "LUDOTECA_HOME" in result.stderr


def test_of_several_errors_at_once_a_bug_is_not_hidden_by_the_others() -> None:
    away = psycopg.OperationalError("gone")
    explained = explain(ExceptionGroup("tasks", [away, ExceptionGroup("more", [away])]))
    assert explained is not None
    assert (explained.code, explained.message) == (3, "the database: gone")
    assert explain(ExceptionGroup("tasks", [away, ZeroDivisionError()])) is None


def test_errors_of_the_system_are_told_without_their_numbers(tmp_path: Path) -> None:
    refused = explain(ConnectionRefusedError(111, "Connection refused"))
    assert refused is not None
    assert refused.message == "Connection refused"
    with pytest.raises(ValidationError) as wrong:
        Settings(tls_ca=str(tmp_path / "nowhere.pem"))
    unreadable = explain(wrong.value)
    assert unreadable is not None
    assert "PEM format: No such file or directory" in unreadable.message
