"""URLs given by others for us to call: which of them we call.

Such a URL must not lead into our own network. What a name resolves to is known only at the call, so
`is_public` is asked about the very address that is connected to.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from domain.errors import Invalid

MAX_URL = 2048
REFUSED = "webhook_url_refused"
"""The default refusal code."""

_PRINTABLE = re.compile(r"[!-\[\]-~]+")
"""ASCII without blanks and backslashes, which all URL parsers read alike."""

_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")

_GLOBAL_IPV6 = ip_network("2000::/3")
"""Global unicast; NAT64, site-local and IPv4-mapped addresses all lie outside."""

_METADATA = {ip_address("168.63.129.16"), ip_address("192.0.0.192")}
"""Metadata services for virtual machines (Azure, Oracle) at addresses that look public; those of
others are link-local."""


def check_url(url: str, *, private_allowed: bool = False, code: str = REFUSED) -> None:
    """Raises Invalid with `code` unless we may call the URL, as far as the URL alone tells: https,
    no credentials, port 443 or above 1023, no literal address that is not public. `private_allowed`
    also admits http, any port and any address."""
    if len(url) > MAX_URL or not _PRINTABLE.fullmatch(url):
        raise Invalid(
            code, f"the URL may have at most {MAX_URL} characters, all of them printable ASCII"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid(code, f"the URL cannot be read: {error}") from error
    if parts.scheme != "https" and not (private_allowed and parts.scheme == "http"):
        raise Invalid(code, "the URL must begin with https://")
    if not host or not _HOST.fullmatch(host):
        raise Invalid(code, "the URL names no host")
    if "@" in parts.netloc:
        raise Invalid(code, "the URL must not contain a user or a password")
    if parts.fragment:
        raise Invalid(code, "the URL must not have a fragment")
    if not private_allowed:
        if port is not None and port != 443 and port < 1024:
            raise Invalid(code, "the port must be 443, or above 1023")
        _check_literal(host, code)
    elif port == 0:
        raise Invalid(code, "there is no port 0")


def check_address(address: str, *, code: str = REFUSED) -> None:
    """Raises Invalid with `code` unless the address is public."""
    if not is_public(address):
        raise Invalid(code, "the URL leads to an address that is not public")


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet: not private, loopback, link-local,
    multicast, reserved, a cloud's metadata service, or an IPv6 address that embeds an IPv4 one."""
    found = ip_address(address.partition("%")[0])
    if found in _METADATA or found.is_multicast or found.is_reserved or not found.is_global:
        return False
    return isinstance(found, IPv4Address) or _is_plain(found)


def _is_plain(address: IPv6Address) -> bool:
    return address in _GLOBAL_IPV6 and address.sixtofour is None and address.teredo is None


def _check_literal(host: str, code: str) -> None:
    try:
        ip_address(host)
    except ValueError:  # a name, or a number that only the resolver reads as an address
        return
    check_address(host, code=code)
