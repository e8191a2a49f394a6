"""Check settings that contain an address: a URL, a host, a proxy. An invalid one is reported at
once, in a message that repeats nothing of the value, which may contain a password."""

import os
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from ipaddress import IPv4Network, ip_address, ip_network
from urllib.parse import SplitResult, parse_qsl, urlsplit

PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
"""Environment variables from which libraries read the proxy for outgoing requests."""

SASL = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
"""How one can sign in to Kafka by user and password."""

_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")
_HOST_IN_NO_PROXY = re.compile(r"\*|(https?://)?\*?\.?[\w-]+(\.[\w-]+)*\.?(:\d{1,5})?", re.ASCII)


def check_url(
    url: str, *schemes: str, port_needed: bool = False, base: bool = False
) -> SplitResult:
    """Parse a URL. Raises ValueError unless it has a host and one of the schemes (any scheme if
    none is given). A `base` URL, to which paths are appended, must have neither ? nor #."""
    wanted = (
        f"it is {' or '.join(f'{scheme}://' for scheme in schemes) or 'a scheme, ://'} and a host"
    )
    if _BLANK.search(url):
        raise ValueError(f"{wanted}, without blanks")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(
            f"{wanted}; an IPv6 address stands in [], a port is a number from 1 to 65535"
        ) from None
    if not parts.scheme or (schemes and parts.scheme not in schemes) or not host:
        raise ValueError(wanted)
    if port == 0:
        raise ValueError(f"{wanted}; a port is a number from 1 to 65535")
    if port is None and port_needed:
        raise ValueError("it names the port, too: http://host:9200, https://host:443")
    if base and (parts.query or parts.fragment):
        raise ValueError(f"{wanted}, without ? and #")
    check_host(host)
    return parts


def check_kafka(url: str) -> None:
    """Raises ValueError unless it is the URL of Kafka's brokers, of which there may be several."""
    scheme, _, rest = url.partition("://")
    where, _, query = rest.partition("?")
    credentials, _, servers = where.removesuffix("/").rpartition("@")
    for server in servers.split(","):
        if check_url(f"{scheme}://{server}", "kafka", "kafkas").port is None:
            raise ValueError("each host has a port: kafka://one:9092,two:9092")
    options = dict(parse_qsl(query, keep_blank_values=True))
    files = {"cafile", "certfile", "keyfile"} if scheme == "kafkas" else set()
    if unknown := options.keys() - files - ({"sasl"} if credentials else set()):
        raise ValueError(f"{', '.join(sorted(unknown))} behind ? has no meaning there")
    if options.get("sasl", SASL[0]) not in SASL:
        raise ValueError(f"sasl is {', '.join(SASL)}")
    if credentials and not all(credentials.partition(":")):
        raise ValueError("user and password stand before the @: user:password@host:port")


def check_kurrentdb(url: str) -> None:
    """Raises ValueError unless it is the URL of KurrentDB's nodes, as its clients take it."""
    scheme, _, rest = url.partition("://")
    where, _, query = rest.partition("?")
    credentials, _, servers = where.removesuffix("/").rpartition("@")
    for server in servers.split(","):
        if check_url(f"{scheme}://{server}", "kurrentdb", "kurrentdb+discover").port is None:
            raise ValueError("each host has a port: kurrentdb://one:2113,two:2113")
    if "," in servers and scheme != "kurrentdb":
        raise ValueError("kurrentdb+discover:// takes one host, whose addresses are all nodes")
    if credentials and not all(credentials.partition(":")):
        raise ValueError("user and password stand before the @: user:password@host:port")
    from kurrentdbclient.connection_spec import ConnectionOptions  # slow to import

    options = ConnectionOptions(query)
    if options.node_preference != "leader":  # what followers answer may be out of date
        raise ValueError("NodePreference is leader")
    if options.tls and not credentials:
        raise ValueError("with TLS it has user:password@; Tls=false behind ? is without TLS")


def check_host(host: str) -> None:
    """Raises ValueError unless the text is an IP address or could be a host's name."""
    try:
        ip_address(host)
    except ValueError:
        if not _is_name(host):
            raise ValueError("the host is a name, or an address such as 127.0.0.1 or ::1") from None


def _is_name(host: str) -> bool:
    try:
        encoded = host.encode("idna")
    except (
        UnicodeError
    ):  # a label is empty or too long, or has a character that no host name may have
        return False
    return len(encoded) <= 253 and re.fullmatch(rb"[A-Za-z0-9._-]+", encoded) is not None


def check_ports(ports: str) -> None:
    """Raises ValueError unless the text is a comma-separated list of ports; entries may be
    empty."""
    for port in ports.split(","):
        if port and not (
            port.strip().isascii() and port.strip().isdigit() and 0 < int(port) < 65536
        ):
            raise ValueError("a port is a number from 1 to 65535")


def check_proxies(environment: Mapping[str, str] = os.environ) -> None:
    """Raises ValueError if a proxy of the environment is invalid."""
    for name in PROXIES:
        if value := environment.get(name, ""):
            try:
                parts = check_url(
                    value if "://" in value else f"http://{value}",
                    "http",
                    "https",
                    "socks5",
                    "socks5h",
                )
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            if parts.scheme.startswith("socks") and find_spec("socksio") is None:
                raise ValueError(f"{name}: a SOCKS proxy needs a package more: pip install socksio")


def direct_hosts(value: str) -> Iterator[str]:
    """The entries of NO_PROXY that httpx understands. It raises on some others, such as IPv6
    networks, and ignores the rest."""
    for entry in filter(None, (each.strip() for each in value.split(","))):
        if _HOST_IN_NO_PROXY.fullmatch(entry) or _is_network(entry):
            yield entry
        elif entry[0] + entry[-1] == "[]" and _is_network(entry[1:-1]):
            yield entry[1:-1]


def _is_network(text: str) -> bool:
    """Whether the text is an IP address or an IPv4 network."""
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        return False
    return isinstance(found, IPv4Network) or "/" not in text
