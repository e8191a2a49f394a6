"""Types of settings' values, and how addresses are checked and made."""

from ipaddress import ip_address
from typing import Annotated, TypeVar

from pydantic import Field, SecretStr
from pydantic_settings import NoDecode

from runtime.host.addresses import check_url

T = TypeVar("T", str, SecretStr)

Strings = Annotated[tuple[str, ...], NoDecode]
"""Comma separated; its field needs `split`."""

Duration = Annotated[float, Field(ge=0, le=10 * 365 * 86_400, allow_inf_nan=False)]
"""Seconds, at most ten years."""

Seconds = Annotated[tuple[Duration, ...], NoDecode]
"""Several durations, comma separated; its field needs `split`."""


def split(value: object) -> object:
    """The parts of a text with commas; another value as it is."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def checked(value: T, *schemes: str, base: bool = False, port_needed: bool = False) -> T:
    """The value, if it is empty or a URL as `check_url` takes it. Raises ValueError."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if text:
        check_url(text, *schemes, base=base, port_needed=port_needed)
    return value


def beside(port: int, distance: int) -> int:
    """The port of a simulator that has no port set."""
    return port + distance if port + distance < 65536 else port - distance


def is_wildcard(host: str) -> bool:
    """Whether a server with this address listens on all addresses."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:  # a name
        return False


def http_url(host: str, port: int, *, tls: bool = False) -> str:
    """The URL of a server on this machine that listens on this address. One that listens on all
    addresses is reached by loopback."""
    if is_wildcard(host):
        host = "::1" if ":" in host else "127.0.0.1"
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
