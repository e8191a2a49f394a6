"""CONTRIBUTING.md is consistent with the repository: its files, imports and make targets exist."""

import ast
import re
from importlib import import_module

import pytest

from tests.support import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n# (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
"""Files of the recipes, each with its code, or with what is added to it."""

MADE = {path for path, _ in BLOCKS if not (ROOT / path).exists()}


def imported(code: str) -> list[tuple[str, str]]:
    """Imported modules, each with a name."""
    nodes = [node for node in ast.parse(code).body if isinstance(node, ast.ImportFrom)]
    return [(node.module or "", alias.name) for node in nodes for alias in node.names]


def defined_by_recipes(module: str) -> set[str]:
    """The names that the recipes' blocks define in a module."""
    names = set()
    for path, code in BLOCKS:
        if path == module.replace(".", "/") + ".py":
            for node in ast.parse(code).body:
                if isinstance(node, ast.Assign):
                    names |= {ast.unparse(target) for target in node.targets}
                elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    names.add(node.name)
    return names


def is_there(module: str, name: str) -> bool:
    if name in defined_by_recipes(module):
        return True
    if f"{module}.{name}".replace(".", "/") + ".py" in MADE:
        return True
    try:
        return hasattr(import_module(module), name) or bool(import_module(f"{module}.{name}"))
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize(("path", "code"), BLOCKS, ids=[path for path, _ in BLOCKS])
def test_every_import_of_the_recipes_exists(path: str, code: str) -> None:
    missing = [(module, name) for module, name in imported(code) if not is_there(module, name)]
    assert missing == []


def test_the_files_that_are_named_are_there_or_made_by_a_recipe() -> None:
    in_text = re.findall(r"`((?:[a-z_]+/)+\w+\.\w+)`", PAGE)
    to_run = re.findall(r"(?<=\s)tests/[\w/.]+", PAGE)
    missing = {path for path in (*in_text, *to_run) if not (ROOT / path).exists()}
    assert len(in_text) > 20
    assert len(to_run) > 20
    assert missing - MADE <= {"adapters/loyalty/__init__.py"}


def test_every_target_of_make_is_described() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))
    assert set(re.findall(r"^\| `make (\w+)` \|", PAGE, re.MULTILINE)) == targets
