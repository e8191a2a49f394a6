"""Alertmanager and amtool: the system's package, which takes root. Tests start it themselves."""

import os
import shutil
from pathlib import Path

from deploy.servers.common import Missing, install_package

NAMES = ("prometheus-alertmanager", "alertmanager")
"""Debian's name, and its makers'."""


def alertmanager_program() -> str:
    """The program, beside which amtool is: the environment's, else the package's. Raises
    Missing."""
    if chosen := os.environ.get("LUDOTECA_TEST_ALERTMANAGER"):
        if Path(chosen).is_file() and Path(chosen).with_name("amtool").is_file():
            return chosen
        raise Missing(f"there is no alertmanager with amtool at {chosen}")
    for found in filter(None, map(shutil.which, NAMES)):
        if shutil.which("amtool", path=str(Path(found).parent)):
            return found
    raise Missing("the package prometheus-alertmanager is not installed")


def check_alertmanager() -> None:
    """Raises Missing unless it is installed."""
    alertmanager_program()


def install_alertmanager() -> None:
    """Install it if need be."""
    install_package(check_alertmanager, "LUDOTECA_TEST_ALERTMANAGER", "prometheus-alertmanager")


def leave_alertmanager() -> None:
    """Tests stop what they started."""
