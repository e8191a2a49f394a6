"""Asks the instance's own API how it is."""

import httpx

from kit.tls import pinned

API = "api"
"""The command of the API's processes."""


def _get(url: str, timeout: float, certificate: str) -> httpx.Response:
    """Request a page from one of this instance's own processes, which may have a certificate,
    without the environment's proxies and authorities."""
    verify = pinned(certificate) if certificate else True
    return httpx.get(url, timeout=timeout, trust_env=False, verify=verify)


def is_ok(url: str, certificate: str = "") -> bool:
    """Whether the page is answered with 200."""
    try:
        return _get(url, 2, certificate).status_code == 200
    except (httpx.HTTPError, OSError, ValueError):
        return False


def health(base: str, certificate: str = "") -> tuple[list[str], int, int]:
    """The servers that the API cannot reach; and of the read models that it cannot read yet, the
    sum of their positions and of those to reach."""
    try:
        state = _get(f"{base}/health/ready", 5, certificate).json()
        down = [name for name, found in state["dependencies"].items() if found["status"] != "ok"]
        behind = state.get("read_models", {}).values()
        return (
            down,
            sum(min(each["position"], each["upto"]) for each in behind),
            sum(each["upto"] for each in behind),
        )
    except (httpx.HTTPError, OSError, ValueError, KeyError):
        return [API], 0, 0
