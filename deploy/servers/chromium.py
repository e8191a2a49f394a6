"""Chromium, in which tests look at the pages: the system's package, which takes root. Tests start
it themselves."""

import os
import shutil
from pathlib import Path

from deploy.servers.common import Missing, apt_install


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
    try:
        check_chromium()
    except Missing as missing:
        if os.environ.get("LUDOTECA_TEST_CHROMIUM"):
            raise
        if os.geteuid() != 0:
            raise Missing(
                f"{missing}; that takes root: run `sudo python3 deploy/services.py up`"
            ) from missing
        apt_install("chromium", "fonts-dejavu-core")
        check_chromium()


def leave_chromium() -> None:
    """Tests stop what they started."""
