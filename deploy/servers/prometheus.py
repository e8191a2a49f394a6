"""Prometheus and promtool: the system's package, which takes root. Tests start it themselves."""

import os
import shutil
from pathlib import Path

from deploy.servers.common import Missing, install_package

PROGRAMS = ("prometheus", "promtool")


def prometheus_folder() -> str:
    """The folder with both programs: the environment's, else the package's. Raises Missing."""
    if chosen := os.environ.get("LUDOTECA_TEST_PROMETHEUS"):
        if all((Path(chosen) / name).is_file() for name in PROGRAMS):
            return chosen
        raise Missing(f"there is no prometheus with promtool in {chosen}")
    found = shutil.which("prometheus")
    if found and shutil.which("promtool", path=str(Path(found).parent)):
        return str(Path(found).parent)
    raise Missing("the package prometheus is not installed")


def check_prometheus() -> None:
    """Raises Missing unless it is installed."""
    prometheus_folder()


def install_prometheus() -> None:
    """Install it if need be."""
    install_package(check_prometheus, "LUDOTECA_TEST_PROMETHEUS", "prometheus")


def leave_prometheus() -> None:
    """Tests stop what they started."""
