"""libfaketime: a library that stands between a program and its clock; the system's package, which
takes root."""

import os
from pathlib import Path

from deploy.servers.common import Missing, install_package

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
    install_package(check_faketime, "LUDOTECA_TEST_FAKETIME", "faketime")


def leave_faketime() -> None:
    """It is no process: there is nothing to stop."""
