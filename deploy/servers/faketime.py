"""libfaketime: a library that stands between a program and its clock; the system's package, which
takes root."""

import os
from pathlib import Path

from deploy.servers.common import Missing, apt_install

_PLACES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")


def faketime_library() -> str:
    """The file to preload: the environment's, else the package's. Raises Missing."""
    if chosen := os.environ.get("LUDOTECA_TEST_FAKETIME"):
        if Path(chosen).is_file():
            return chosen
        raise Missing(f"there is no {chosen}")
    for place in _PLACES:
        for found in Path("/").glob(place.removeprefix("/")):
            return str(found)
    raise Missing("the package faketime is not installed")


def check_faketime() -> None:
    """Raises Missing unless it is installed."""
    faketime_library()


def install_faketime() -> None:
    """Install it if need be."""
    try:
        check_faketime()
    except Missing as missing:
        if os.environ.get("LUDOTECA_TEST_FAKETIME"):
            raise
        if os.geteuid() != 0:
            raise Missing(
                f"{missing}; that takes root: run `sudo python3 deploy/services.py up`"
            ) from missing
        apt_install("faketime")
        check_faketime()


def leave_faketime() -> None:
    """It is no process: there is nothing to stop."""
