"""The shop's flows with every cached state an old one: they behave as if caches were never
stale."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MINUTES = 20
FLOWS = [
    "tests/flow/test_wallets.py",
    "tests/flow/test_carts.py",
    "tests/flow/test_overdue_orders.py",
    "tests/flow/test_payment_races.py",
    "tests/flow/test_money_properties.py",
    "tests/api/test_buying.py",
    "tests/api/test_cart.py",
    "tests/api/test_identity.py",
    "tests/api/test_inventory.py",
    "tests/api/test_payment_notices.py",
    "tests/api/test_refusals.py",
    "tests/api/test_shipments.py",
    "tests/api/test_transactions.py",
    "tests/api/test_wallets.py",
    "tests/api/test_webhook_endpoints.py",
]


@pytest.mark.soak(minutes=MINUTES)
@pytest.mark.parametrize("seed", [1])
def test_no_outcome_depends_on_how_fresh_the_caches_are(seed: int) -> None:
    """Decisions, reactors and workers alike: tests/support/stale.py makes the states stale."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--stale-states",
        str(seed),
        *FLOWS,
    ]
    ran = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=MINUTES * 60, check=False
    )
    assert ran.returncode == 0, (
        "\n".join(re.findall(r"^(?:FAILED|ERROR).*", ran.stdout, re.MULTILINE)) or ran.stdout
    )
