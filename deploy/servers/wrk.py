"""wrk, a load generator for HTTP: the system's package, which takes root to install."""

import os
import shutil

from deploy.servers.common import Missing, apt_install, one_at_a_time


def wrk_program() -> str:
    """The program; installed if need be. Raises Missing."""
    if found := shutil.which("wrk"):
        return found
    if os.geteuid() != 0:
        raise Missing("wrk is not installed: install it (Debian, Ubuntu: apt-get install wrk)")
    with one_at_a_time():
        apt_install("wrk")
    return shutil.which("wrk") or "wrk"
