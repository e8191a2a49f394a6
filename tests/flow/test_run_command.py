"""`ludoteca run`: started, killed, started again, refused, beside another one, by root and by an
ordinary user."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.processes.instance import PASSWORD, eventually
from tests.support.processes.supervised import (
    ORDINARY,
    Run,
    homes,
    is_alive,
    ordinary_python,
    owner,
    refused,
    run_in,
)
from tests.support.servers.shared import free_port

PROCESSES = {"postgres", "provider", "fiscal", "carrier", "api", "projector", "worker"}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with homes() as folder:
        yield folder


@pytest.fixture(scope="module")
def ordinary(folder: Path) -> Iterator[Run]:
    """An instance of an ordinary user, without the sample; ended by Ctrl-C."""
    user = _ordinary_user()
    with run_in(folder, "ordinary", user, LUDOTECA_SAMPLE="off") as run:
        run.start()
        yield run
        assert run.signal(signal.SIGINT) == 0


def _ordinary_user() -> str | None:
    """The user of an ordinary user's instance: ourselves, unless we are root."""
    if os.geteuid() != 0:
        return None
    if not shutil.which("setpriv") or not ordinary_python():
        pytest.skip(
            "an ordinary user cannot start the program here: no setpriv, or no Python that they may"
            " start"
        )
    return ORDINARY


# -- a running instance ----------------------------------------------------------------------------


def test_an_ordinary_user_can_run_the_shop(ordinary: Run) -> None:
    children = ordinary.children()
    assert children.keys() == PROCESSES
    assert {owner(pid) for pid in children.values()} == {ordinary.user or owner(os.getpid())}


def test_it_prints_where_to_click_and_a_login_that_works(ordinary: Run) -> None:
    for path in ("/docs", "/health/ready", "/api/v1/games/search?q=witcher"):
        assert f"{ordinary.shop.base}{path}" in ordinary.output
        assert httpx.get(f"{ordinary.shop.base}{path}", timeout=30).status_code == 200
    email, password = ordinary.login()
    answer = ordinary.shop.http().post(
        "/api/v1/auth/admin/login", json={"email": email, "password": password}
    )
    assert answer.status_code == 200, answer.text


def test_its_home_and_all_that_is_in_it_is_closed_to_others(ordinary: Run) -> None:
    ordinary.shop.http().post(
        "/api/v1/users", json={"email": "a@example.com", "password": PASSWORD, "name": "Ann"}
    )
    mails = eventually(lambda: list((ordinary.home / "mail").glob("*.eml")), bool)
    found = [ordinary.home, *(path for path in ordinary.home.rglob("*") if path.exists())]
    assert {"provider.sqlite3", "payment-webhook.txt", mails[0].name} <= {
        path.name for path in found
    }
    assert [path for path in found if path.stat().st_mode & 0o077] == []


def test_without_the_sample_the_catalog_is_empty(ordinary: Run) -> None:
    assert ordinary.shop.http().get("/api/v1/games").json()["items"] == []


def test_a_second_run_in_the_same_home_is_refused_in_one_line(ordinary: Run) -> None:
    done = refused(ordinary, LUDOTECA_PORT=str(free_port()))
    assert done.returncode == 3
    (line,) = done.stderr.strip().splitlines()
    assert str(ordinary.home) in line
    assert "LUDOTECA_HOME" in line
    assert done.stdout == ""


def test_a_port_that_is_taken_is_refused_in_one_line(ordinary: Run, tmp_path: Path) -> None:
    with run_in(tmp_path, "another") as another:
        done = refused(another, LUDOTECA_PORT=str(ordinary.port))
        assert done.returncode == 3
        (line,) = done.stderr.strip().splitlines()
        assert f"port {ordinary.port}" in line
        assert "LUDOTECA_PORT" in line
        assert not (another.home / "postgres").exists()


def test_a_killed_process_is_started_again(ordinary: Run) -> None:
    before = ordinary.children()
    for name in ("worker", "api", "postgres"):
        os.kill(before[name], signal.SIGKILL)
    after = eventually(
        ordinary.children, lambda now: now.keys() == PROCESSES and now["api"] != before["api"]
    )
    assert {name for name in PROCESSES if after[name] != before[name]} >= {
        "worker",
        "api",
        "postgres",
    }
    eventually(lambda: registers(ordinary, "back@example.com"), patience=120)


# -- killed and started again ----------------------------------------------------------------------


def test_a_second_instance_runs_beside_it_and_outlives_its_own_supervisor(
    ordinary: Run, folder: Path
) -> None:
    with run_in(folder, "with a space", LUDOTECA_SAMPLE="off") as run:
        run.start()
        login, children = run.login(), run.children()
        assert registers(run, "kept@example.com")
        assert run.shop.http().get("/health/ready").status_code == 200
        assert ordinary.shop.http().get("/health/ready").status_code == 200

        run.signal(signal.SIGKILL)
        eventually(
            lambda: [pid for pid in children.values() if is_alive(pid)], lambda alive: alive == []
        )

        run.start()
        assert run.login() == login
        assert not registers(run, "kept@example.com")
        body = {"email": login[0], "password": login[1]}
        assert run.shop.http().post("/api/v1/auth/login", json=body).status_code == 200
        assert "intact" in run.shop.cli("audit", "verify")

        children, asked = run.children(), time.monotonic()
        assert run.signal(signal.SIGTERM) == 0
        assert time.monotonic() - asked < 15
        assert [pid for pid in children.values() if is_alive(pid)] == []
    assert ordinary.shop.http().get("/health/ready").status_code == 200


def registers(run: Run, email: str) -> bool:
    """Whether an account could be opened: not when the address has one, nor while the shop is
    away."""
    body = {
        "email": email,
        "password": PASSWORD,
        "name": "Ann",
        "account_type": "BUYER",
        "region": "US",
    }
    try:
        answer = run.shop.http().post("/api/v1/users", json=body)
    except httpx.TransportError:
        return False
    assert answer.status_code in {201, 409, 500, 503}, answer.text
    return answer.status_code == 201
