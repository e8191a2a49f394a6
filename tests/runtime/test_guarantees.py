"""docs/guarantees.md names the tests that show what it promises: each of them exists."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support import ROOT

_NAMED = re.compile(r"`(?P<file>[\w/]+\.py|…)(?:::(?P<test>\w+)(?P<more>…?))?`")


@cache
def _files(name: str) -> list[Path]:
    """The files of tests with this name, or path."""
    return [path for path in (ROOT / "tests").rglob("*.py") if f"/{path}".endswith(f"/{name}")]


@cache
def _functions(path: Path) -> list[str]:
    return re.findall(r"^(?:async )?def (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)


def _missing(text: str) -> Iterator[str]:
    """The tests that the text names, and that are not there. `…` is the file named before."""
    files: list[Path] = []
    for named in _NAMED.finditer(text):
        if named["file"] != "…":
            files = _files(named["file"])
        test, more = named["test"], named["more"]
        found = [name for path in files for name in _functions(path)]
        if not files or (
            test and not any(name.startswith(test) if more else name == test for name in found)
        ):
            yield named[0]


def test_every_test_that_is_named_exists() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    assert list(_missing(text)) == []
