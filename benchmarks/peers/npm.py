"""The peers that npm has, in the versions of package-lock.json beside this module."""

import shutil
import subprocess
from pathlib import Path

from deploy.servers.common import Missing, cache_directory, one_at_a_time

MANIFESTS = ("package.json", "package-lock.json")


def node_program() -> str:
    """Node.js. Raises Missing."""
    if (found := shutil.which("node")) and shutil.which("npm"):
        return found
    raise Missing("Node.js with npm is not installed: Message DB and Emmett cannot be measured")


def node_modules() -> Path:
    """The folder of the installed packages; installs them if need be. Raises Missing."""
    node_program()
    here, there = Path(__file__).parent, cache_directory() / "benchmark-peers"
    with one_at_a_time():
        if any(not _same(here / name, there / name) for name in MANIFESTS):
            shutil.rmtree(there, ignore_errors=True)
            there.mkdir(parents=True)
            shutil.copy(here / "package.json", there)
            shutil.copy(here / "package-lock.json", there / "npm-shrinkwrap.json")
            said = subprocess.run(
                ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
                cwd=there,
                capture_output=True,
                text=True,
                check=False,
            )
            if said.returncode:
                raise Missing(f"npm could not install the peers: {said.stderr.strip()[-400:]}")
            shutil.copy(here / "package-lock.json", there)
    return there / "node_modules"


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.read_bytes() == other.read_bytes()
