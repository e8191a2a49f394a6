"""Check at startup whether a server's address can be listened on, and report it in one line if
not."""

import errno
import socket


class CannotListen(Exception):
    """A server cannot listen on its address. The message says why, and which setting to change."""


def check_port(host: str, port: int, variable: str, *, shared: bool = False) -> None:
    """Raises CannotListen unless a server can listen there. `variable` is the setting of the port;
    `shared`: beside others of its kind."""
    try:
        bind(host, port, shared=shared)
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


def bind(host: str, port: int, *, shared: bool = False) -> int:
    """Bind a port and release it again. Returns its number; for port 0, that of a free port. Raises
    OSError."""
    bound = bound_sockets(host, port, shared=shared)
    chosen: int = bound[0].getsockname()[1]
    for each in bound:
        each.close()
    return chosen


def bound_sockets(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """A bound socket for each address of the host. If `shared`, other processes of this user may
    bind the same with `shared`, and the kernel divides new connections among those that listen.
    Raises OSError."""
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            bound.append(each := socket.socket(family, kind, protocol))
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
            if (
                family == socket.AF_INET6
            ):  # exactly the servers' address: 0.0.0.0 may be taken while this one is free
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.bind(address)
    except OSError:
        for each in bound:
            each.close()
        raise
    return bound


def is_free(host: str, port: int) -> bool:
    """Whether a server can listen there."""
    try:
        bind(host, port)
    except OSError:
        return False
    return True
