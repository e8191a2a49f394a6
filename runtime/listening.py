"""Check at startup whether a server's address can be listened on, and report it in one line if
not."""

import errno
import socket


class CannotListen(Exception):
    """A server cannot listen on its address. The message says why, and which setting to change."""


def check_port(host: str, port: int, variable: str) -> None:
    """Raises CannotListen unless a server can listen there. `variable` is the setting of the
    port."""
    try:
        bind(host, port)
    except socket.gaierror as error:
        raise CannotListen(f"LUDOTECA_HOST: there is no host {host} ({error.strerror})") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(
                f"port {port} on {host} is taken; set {variable} to another"
            ) from error
        setting = variable if error.errno == errno.EACCES else "LUDOTECA_HOST"
        raise CannotListen(
            f"cannot listen on port {port} of {host}: {error.strerror}; change {setting}"
        ) from error


def bind(host: str, port: int) -> int:
    """Bind a port and release it again. Returns its number; for port 0, that of a free port. Raises
    OSError."""
    chosen = port
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if (
                family == socket.AF_INET6
            ):  # exactly the servers' address: 0.0.0.0 may be taken while this one is free
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
            chosen = chosen or probe.getsockname()[1]
    return chosen


def is_free(host: str, port: int) -> bool:
    """Whether a server can listen there."""
    try:
        bind(host, port)
    except OSError:
        return False
    return True
