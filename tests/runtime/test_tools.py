"""The contributors' tools: the Makefile's targets, and the checks at each commit."""

import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import yaml

from benchmarks.__main__ import measure
from benchmarks.http.wrk import Failed
from benchmarks.measuring import Table
from deploy.servers.common import Missing

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_help_has_a_line_for_every_target() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    printed = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[1] for line in printed.splitlines()] == phony.split()


def test_each_commit_is_checked_as_make_lint_checks_by_tools_that_are_there_offline() -> None:
    config: dict[str, Any] = yaml.safe_load(
        (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    )
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert {hook["language"] for hook in hooks} == {"system"}
    lint = MAKEFILE.split("\nlint:")[1].split("\n\n")[0].replace("$(BIN)", ".venv/bin")
    at_lint = {re.sub(r" --check| \.$", "", line.strip()) for line in lint.splitlines()[1:]}
    assert {hook["entry"].removesuffix(" --force-exclude") for hook in hooks} == at_lint


def test_the_licence_that_the_package_names_is_in_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "MIT"
    for name in project["license-files"]:
        assert (ROOT / name).read_text(encoding="utf-8").startswith("MIT License")
        assert f"!{name}" in (ROOT / ".dockerignore").read_text(encoding="utf-8").split()


def test_every_package_is_checked_built_and_put_into_the_image() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    packages = set(tool["importlinter"]["root_packages"])
    assert packages == {path.parent.name for path in ROOT.glob("*/__init__.py")} - {
        "tests",
        "benchmarks",
        "deploy",
    }
    assert packages <= set(tool["mypy"]["packages"])
    assert {f"{name}*" for name in packages} <= set(
        tool["setuptools"]["packages"]["find"]["include"]
    )
    assert {f"!{name}" for name in packages} <= set(
        (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    )


def test_a_benchmark_that_cannot_run_costs_no_figures_of_others() -> None:
    def missing() -> list[Table]:
        raise Missing("Node.js with npm is not installed")

    def failed() -> list[Table]:
        raise Failed("the twin answered 500")

    lag, transfer = Table("Lag", []), Table("Transfers", [])
    tables, failures = measure(
        {"append": missing, "lag": lambda: [lag], "http": failed, "transfer": lambda: [transfer]}
    )
    assert tables == {"lag": [lag], "transfer": [transfer]}
    assert failures == [
        "append: Node.js with npm is not installed",
        "http: the twin answered 500",
    ]


def test_what_takes_minutes_comes_last_and_begins_only_if_it_can_be_over_in_time(
    tmp_path: Path,
) -> None:
    marks = {"a": "soak", "b": "soak(minutes=20)", "c": "soak(minutes=8)", "d": "usefixtures()"}
    for name, mark in marks.items():
        test = f"import pytest\n\n@pytest.mark.{mark}\ndef test_{name}() -> None: ...\n"
        (tmp_path / f"test_{name}.py").write_text(test)
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    until = {"PYTHONPATH": str(ROOT), "LUDOTECA_TEST_SOAK_UNTIL": str(time.time() + 10 * 60)}
    command = [sys.executable, "-m", "pytest", "-v", "-p", "tests.support.order", "--color=no"]
    printed = subprocess.run(
        command, cwd=tmp_path, env=alone | until, capture_output=True, text=True, check=True
    ).stdout
    ran = re.findall(r"::test_(\w) (PASSED|SKIPPED)", printed)
    assert ran == [("d", "PASSED"), ("b", "SKIPPED"), ("c", "PASSED"), ("a", "PASSED")]
