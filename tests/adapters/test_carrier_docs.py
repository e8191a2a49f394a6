"""docs/carriers.md: the program accepts the notice that the page tells carriers to send."""

import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from adapters.webhooks.signature import SignatureVerifier
from commands.shipments import DeliveryNotice
from domain.ids import derived

PAGE = (Path(__file__).parents[2] / "docs" / "carriers.md").read_text()
SECRET, SHIPMENT = "whsec_carrier", derived("shipment", "of this test")


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not here")
def test_the_example_signs_a_notice_of_the_shipment() -> None:
    (example,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    variables = {
        "SECRET": SECRET,
        "SHIPMENT": str(SHIPMENT),
        "SHOP": "http://shop",
        "PATH": "/usr/bin:/bin:/usr/local/bin",
    }
    curl = """curl() { printf '%s\\n' "$@"; }\n"""
    said = subprocess.run(
        ["bash", "-euc", curl + example], env=variables, capture_output=True, text=True, check=True
    )
    arguments = said.stdout.splitlines()

    (signature,) = [
        each.removeprefix("Carrier-Signature: ")
        for each in arguments
        if each.startswith("Carrier-")
    ]
    body = arguments[-1].encode()
    SignatureVerifier([SECRET]).check(body, signature, datetime.now(UTC))
    notice = msgspec.json.decode(body, type=DeliveryNotice)
    assert notice.shipment_id == SHIPMENT
    assert notice.delivered_at is not None
    assert f"http://shop/api/v1/shipments/{SHIPMENT}/delivered" in arguments
