"""The expressions of rules and dashboards."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.support import ROOT

RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))

_THRESHOLD = re.compile(r"\s*(>|<|==)\s*[\d.]+\s*$")


def rules() -> list[dict[str, Any]]:
    """All rules: those that record, and alerts."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def expressions() -> Iterator[str]:
    """The expressions of all rules and panels; those of alerts without the threshold."""
    for rule in rules():
        yield _THRESHOLD.sub("", rule["expr"])
    for dashboard in DASHBOARDS:
        for panel in json.loads(dashboard.read_text(encoding="utf-8"))["panels"]:
            for target in panel["targets"]:
                yield target["expr"]
