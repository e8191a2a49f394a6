"""An Alertmanager that tells a shop, as that of docker-compose.yml but at once, for one test."""

import subprocess
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support import ROOT
from tests.support.servers.shared import free_port, require_alertmanager

CONFIGURATION = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"


class Alertmanager:
    """`with Alertmanager(folder, shop, token) as alertmanager:`. Skips the test, or fails it where
    services are required, unless Alertmanager is installed."""

    def __init__(self, folder: Path, shop: str, token: str) -> None:
        """`shop` is the API's URL; `token` is that of LUDOTECA_ALERTMANAGER_TOKEN."""
        self._program = require_alertmanager()
        self._folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "token").write_text(token)
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(self._configuration(shop)))

    def _configuration(self, shop: str) -> dict[str, Any]:
        text = CONFIGURATION.read_text(encoding="utf-8")
        for deployed, here in (
            ("http://api:8000/", f"{shop}/"),
            ("/etc/alertmanager/token", str(self._folder / "token")),
        ):
            assert deployed in text
            text = text.replace(deployed, here)
        configuration: dict[str, Any] = yaml.safe_load(text)
        configuration["route"] |= {"group_wait": "1s", "group_interval": "1s"}
        return configuration

    def __enter__(self) -> Self:
        command = [
            str(self._program),
            f"--config.file={self._folder / 'alertmanager.yml'}",
            f"--storage.path={self._folder / 'alertmanager'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]
        log = (self._folder / "alertmanager.log").open("wb")
        self._process = subprocess.Popen(command, stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(20)
