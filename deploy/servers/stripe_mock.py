"""stripe-mock: the server that Stripe itself publishes for tests.

It knows what calls and answers look like (from Stripe's OpenAPI description), and remembers
nothing.

Go fetches and builds it the first time, a minute or two. Calls need a key that looks like one of
Stripe's test keys.
"""

import os
import shutil
import subprocess
from pathlib import Path

from deploy.servers.common import (
    Missing,
    cache_directory,
    free_port,
    http,
    remember,
    remembered,
    run,
    stop_process,
    wait,
)

STRIPE_MOCK_MODULE = "github.com/stripe/stripe-mock@latest"
STRIPE_TEST_KEY = "sk_test_123"


def stripe_mock_url() -> str:
    """The URL of the stripe-mock for tests: the environment's, else the one that `up` found or
    started."""
    if chosen := os.environ.get("LUDOTECA_TEST_STRIPE_MOCK_URL"):
        return chosen.rstrip("/")
    return remembered().get("stripe_mock_url", "http://127.0.0.1:12111")


def check_stripe_mock(url: str | None = None) -> None:
    """Raises Missing unless stripe-mock answers."""
    url = url or stripe_mock_url()
    try:
        intents = http(
            "GET", url.replace("://", f"://{STRIPE_TEST_KEY}:@", 1) + "/v1/payment_intents?limit=1"
        )
    except (OSError, ValueError) as error:
        raise Missing(f"nothing usable answers at {url} ({error})") from error
    if not isinstance(intents, dict) or "data" not in intents:
        raise Missing(f"what answers at {url} is not stripe-mock")


def start_stripe_mock() -> None:
    """Build it if need be, start it on port 12111 or another that is free, wait until it
    answers."""
    try:
        return check_stripe_mock()
    except Missing:
        if os.environ.get("LUDOTECA_TEST_STRIPE_MOCK_URL"):
            raise
    program, port = _built(), free_port(12111)
    url = f"http://127.0.0.1:{port}"
    with (cache_directory() / "stripe-mock.log").open("ab") as log:
        server = subprocess.Popen(
            [program, "-http-addr", f"127.0.0.1:{port}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    remember(stripe_mock_url=url, stripe_mock_pid=str(server.pid))
    return wait(lambda: check_stripe_mock(url), f"{cache_directory()}/stripe-mock.log")


def stop_stripe_mock() -> None:
    """Stop it, if it was this program that started it."""
    stop_process("stripe_mock", b"stripe-mock")


def _built() -> Path:
    folder = cache_directory() / "bin"
    program = folder / "stripe-mock"
    if not program.exists():
        if not shutil.which("go"):
            raise Missing(
                "Go builds it: install Go (https://go.dev/dl), or set LUDOTECA_TEST_STRIPE_MOCK_URL"
            )
        run(["go", "install", STRIPE_MOCK_MODULE], env=os.environ | {"GOBIN": str(folder)})
    return program
