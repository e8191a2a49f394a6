"""Chromium, in which tests look at the pages: the system's package, which takes root. Tests start
it themselves."""

import os
import shutil
from pathlib import Path

from deploy.servers.common import Missing, install_package


def chromium_program() -> str:
    """The program: the environment's, else the package's. Raises Missing."""
    if chosen := os.environ.get("LUDOTECA_TEST_CHROMIUM"):
        if Path(chosen).is_file():
            return chosen
        raise Missing(f"there is no {chosen}")
    if found := shutil.which("chromium"):
        return found
    raise Missing("the package chromium is not installed")


def check_chromium() -> None:
    """Raises Missing unless it is installed."""
    chromium_program()


def install_chromium() -> None:
    """Install it if need be."""
    install_package(check_chromium, "LUDOTECA_TEST_CHROMIUM", "chromium", "fonts-dejavu-core")


def leave_chromium() -> None:
    """Tests stop what they started."""
