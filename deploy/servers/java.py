"""Java and Maven, which some of the servers need."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from deploy.servers.common import Missing, apt_install

OLDEST_JDK = 21


def find_jdk() -> Path:
    """The home of a JDK from 21 on, installed if need be. Raises Missing."""
    if home := _installed_jdk():
        return home
    if os.geteuid() == 0 and shutil.which("apt-get"):
        apt_install(f"openjdk-{OLDEST_JDK}-jre-headless")
    if home := _installed_jdk():
        return home
    raise Missing(
        f"no JDK of version {OLDEST_JDK} or later: install one, or set ES_JAVA_HOME to it"
    )


def _installed_jdk() -> Path | None:
    named = [os.environ[name] for name in ("ES_JAVA_HOME", "JAVA_HOME") if os.environ.get(name)]
    installed = [
        home for folder in ("/usr/lib/jvm", "/opt/java") for home in sorted(Path(folder).glob("*"))
    ]
    for home in [*map(Path, named), *installed]:
        if (home / "bin" / "java").exists() and _jdk_version(home) >= OLDEST_JDK:
            return home
    return None


def _jdk_version(home: Path) -> int:
    said = subprocess.run(
        [home / "bin" / "java", "-version"], capture_output=True, text=True, check=False
    ).stderr
    number = re.search(r'version "(\d+)', said)
    return int(number[1]) if number else 0


def need_maven(server: str, setting: str) -> None:
    """Install Maven if need be. Raises Missing; `setting` is that of a server of one's own."""
    if not shutil.which("mvn"):
        if os.geteuid() != 0:
            raise Missing(f"Maven fetches {server}: install maven, or set {setting}")
        apt_install("maven")
