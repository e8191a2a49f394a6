"""The example of docs/eventsourcing-library.md does what the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.library import environment

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "eventsourcing-library.md").read_text(encoding="utf-8")


def test_the_example_runs_and_its_chain_verifies(empty_database: str, tmp_path: Path) -> None:
    (tmp_path / "shelves.py").write_text(_block("python"), encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment(empty_database)}
    assert _run("shelves.py", env=env, cwd=tmp_path) == _block("text")

    ours = {
        **os.environ,
        "LUDOTECA_HOME": str(tmp_path / "home"),
        "LUDOTECA_DATABASE_URL": empty_database,
    }
    said = _run("-m", "runtime.cli", "audit", "verify", env=ours, cwd=ROOT)
    assert re.search(r"\b2:[0-9a-f]{64}\b", said), said


def _block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def _run(*arguments: str, env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(  # noqa: PLW1510
        [sys.executable, *arguments], env=env, cwd=cwd, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
