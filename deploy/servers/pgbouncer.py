"""pgbouncer: the system's package, which takes root. Tests start it themselves."""

import os
import shutil
from pathlib import Path

from deploy.servers.common import Missing, install_package


def pgbouncer_program() -> str:
    """The program: the environment's, else the package's. Raises Missing."""
    if chosen := os.environ.get("LUDOTECA_TEST_PGBOUNCER"):
        if Path(chosen).is_file():
            return chosen
        raise Missing(f"there is no {chosen}")
    if found := shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return found
    raise Missing("the package pgbouncer is not installed")


def check_pgbouncer() -> None:
    """Raises Missing unless it is installed."""
    pgbouncer_program()


def install_pgbouncer() -> None:
    """Install it if need be."""
    install_package(check_pgbouncer, "LUDOTECA_TEST_PGBOUNCER", "pgbouncer")


def leave_pgbouncer() -> None:
    """Tests stop what they started."""
