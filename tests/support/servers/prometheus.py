"""A Prometheus that scrapes a shop's processes every second, for one test."""

import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from tests.support import ROOT
from tests.support.servers.shared import free_port, require_prometheus

RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
_FOR = re.compile(r"for: \d+m")


class Prometheus:
    """`with Prometheus(folder, addresses) as prometheus: prometheus.query("up")`. Skips the test,
    or fails it where services are required, unless Prometheus is installed."""

    def __init__(self, folder: Path, addresses: Iterable[str], alertmanager: str = "") -> None:
        """`addresses` are `host:port` of what is scraped, as the job `ludoteca`. With that of an
        `alertmanager`, it is told of alerts that have held for a second."""
        self._program = require_prometheus() / "prometheus"
        self._folder = folder
        self._base = f"http://127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None
        scraped = {"job_name": "ludoteca", "static_configs": [{"targets": list(addresses)}]}
        config: dict[str, object] = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [scraped],
        }
        if alertmanager:
            rules = _FOR.sub("for: 1s", RULES.read_text(encoding="utf-8"))
            (folder / "rules.yml").write_text(rules)
            told = {"static_configs": [{"targets": [alertmanager]}]}
            config |= {"rule_files": ["rules.yml"], "alerting": {"alertmanagers": [told]}}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def __enter__(self) -> Self:
        command = [
            str(self._program),
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address={self._base.removeprefix('http://')}",
            "--log.level=warn",
        ]
        log = (self._folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(command, stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(20)

    def query(self, expression: str) -> list[float]:
        """The values of an expression now; none before Prometheus answers."""
        try:
            found = httpx.get(
                f"{self._base}/api/v1/query", params={"query": expression}, timeout=10
            )
        except httpx.ConnectError:
            return []
        if found.status_code == httpx.codes.SERVICE_UNAVAILABLE:  # it starts
            return []
        answer: dict[str, Any] = json.loads(found.text)
        assert answer["status"] == "success", (expression, answer)
        return [float(each["value"][1]) for each in answer["data"]["result"]]
