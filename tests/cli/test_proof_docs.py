"""The checker in docs/proofs.md does what it says: it is taken from there, and run."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.shops.commands import Ludoteca, Shop

DOCS = Path(__file__).parents[2] / "docs" / "proofs.md"


@pytest.fixture
def checker(tmp_path: Path) -> Path:
    (source,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(source.splitlines()) <= 62
    path = tmp_path / "check.py"
    path.write_text(source, encoding="utf-8")
    return path


def _run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Without anything that is installed: -I ignores the environment, -S the packages."""
    command = [sys.executable, "-I", "-S", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def _change(proof: dict[str, Any], field: str) -> None:
    if field == "checkpoint":
        proof[field] = proof[field].replace("\n20\n", "\n21\n", 1)
    elif field == "payload":
        proof["event"][field] = proof["event"][field].replace("Game", "Gift")
    elif field == "path":
        proof[field][0], proof[field][1] = proof[field][1], proof[field][0]
    elif field == "position":
        proof[field] += 1
    else:
        proof["event"][field] = "user:somebody"


def test_the_checker_in_the_docs_takes_real_proofs_and_no_changed_ones(
    ludoteca: Ludoteca, shop: Shop, tmp_path: Path, checker: Path
) -> None:
    shop.list_games(20)
    assert ludoteca("audit", "checkpoint").exit_code == 0
    key = ludoteca.json("audit", "keys")[-1]["key"]
    file = tmp_path / "proof.json"
    for position in (1, 7, 16, 17, 20):
        assert ludoteca("audit", "prove", position, "--output", file).exit_code == 0
        result = _run(checker, file, key)
        assert result.stdout.startswith("holds: game.created.v1"), result.stderr
    assert ludoteca("audit", "prove", 7, "--output", file).exit_code == 0
    whole = file.read_text()
    for field in ("checkpoint", "payload", "path", "position", "actor"):
        proof = json.loads(whole)
        _change(proof, field)
        file.write_text(json.dumps(proof))
        result = _run(checker, file, key)
        assert (result.returncode, result.stdout) == (1, ""), field
        assert "AssertionError" in result.stderr, field
    file.write_text(whole)
    ludoteca("audit", "keys", "--rotate")
    other = ludoteca.json("audit", "keys")[-1]["key"]
    assert "not signed by it" in _run(checker, file, other).stderr


def test_openssl_verifies_a_checkpoint_as_the_docs_say(
    ludoteca: Ludoteca, shop: Shop, tmp_path: Path
) -> None:
    shop.list_games(5)
    (tmp_path / "checkpoint.txt").write_text(ludoteca("audit", "checkpoint").stdout)
    key = ludoteca.json("audit", "keys")[-1]["key"]
    (commands,) = re.findall(r"( +\{ printf .*?-sigfile signature\n)", DOCS.read_text(), re.DOTALL)
    run = ["bash", "-ec", commands]
    for changed, code in ((False, 0), (True, 1)):
        if changed:
            text = (tmp_path / "checkpoint.txt").read_text().replace("\n5\n", "\n6\n", 1)
            (tmp_path / "checkpoint.txt").write_text(text)
        done = subprocess.run(
            run, cwd=tmp_path, env={"KEY": key, "PATH": "/usr/bin:/bin"}, check=False
        )
        assert done.returncode == code
