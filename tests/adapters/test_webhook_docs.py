"""docs/webhooks.md: the code for merchants works, and the lists are complete."""

import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from domain.merchant_events import ORDER_WIDE_AMOUNTS, PUBLIC_FIELDS

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = '{"type":"webhook.test","timestamp":"2026-03-01T12:00:00Z","data":{"title":"Pokémon"}}'


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def signed(body: str) -> dict[str, str]:
    now = datetime.now(UTC)
    signature = f"v1,forged {Webhook(SECRET).sign('msg-1', now, body)}"
    return {
        "webhook-id": "msg-1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }


def test_the_example_in_python_tells_a_genuine_message_from_a_forged_one() -> None:
    example: dict[str, Any] = {}
    exec(block("python"), example)
    headers = {**signed(BODY), "webhook-signature": signed(BODY)["webhook-signature"].split()[1]}
    assert example["receive"](BODY.encode(), headers, SECRET)["type"] == "webhook.test"
    with pytest.raises(WebhookVerificationError):
        example["receive"](BODY.encode() + b" ", headers, SECRET)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not here")
@pytest.mark.parametrize(("body", "verdict"), [(BODY, "genuine"), (BODY + " ", "forged")])
def test_the_example_in_a_shell_does_so_too(tmp_path: Path, body: str, verdict: str) -> None:
    (tmp_path / "body.json").write_text(body)
    headers = signed(BODY)
    variables = {
        "SECRET": SECRET,
        "ID": headers["webhook-id"],
        "TIMESTAMP": headers["webhook-timestamp"],
        "SIGNATURE": headers["webhook-signature"],
        "PATH": "/usr/bin:/bin:/usr/local/bin",
    }
    said = subprocess.run(
        ["bash", "-euc", block("bash")],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == verdict


def test_every_event_and_every_fact_that_merchants_are_told_is_listed() -> None:
    rows = dict(re.findall(r"^\| (`\w+\..*?) \| (.*) \|$", PAGE, re.MULTILINE))
    listed = {
        name: facts for names, facts in rows.items() for name in re.findall("`([^`]+)`", names)
    }
    assert {name for name in listed if re.search(r"\.v\d+$", name)} == {
        event.NAME for event in PUBLIC_FIELDS
    }
    for event, facts in PUBLIC_FIELDS.items():
        if not event.NAME.startswith("game."):
            told = {*facts, *([ORDER_WIDE_AMOUNTS[event]] if event in ORDER_WIDE_AMOUNTS else [])}
            assert set(re.findall(r"`(\w+)`", listed[event.NAME])) >= told, event.NAME
