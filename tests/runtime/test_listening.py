"""Ports: shared by processes that say so, refused to everybody else."""

import socket
from collections.abc import Iterator
from itertools import chain

import pytest

from runtime.host.listening import CannotListen, bound_sockets, check_port, is_free


@pytest.fixture(params=["127.0.0.1", "::1", "localhost"])
def host(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not is_free(name, 0):
        pytest.skip(f"this machine has no {name}")
    return name


@pytest.fixture
def port(host: str) -> int:
    """One that is free at each address of the host."""
    while True:
        bound = bound_sockets(host, 0)
        number: int = bound[0].getsockname()[1]
        for each in bound:
            each.close()
        if is_free(host, number):
            return number


@pytest.fixture
def two(host: str, port: int) -> Iterator[list[list[socket.socket]]]:
    """The sockets of two processes that share a port."""
    both = [bound_sockets(host, port, shared=True) for _ in range(2)]
    for each in chain(*both):
        each.listen()
    yield both
    for each in chain(*both):
        each.close()


def test_new_connections_are_divided(two: list[list[socket.socket]]) -> None:
    for address in range(len(two[0])):
        ours, theirs = two[0][address], two[1][address]
        clients = [socket.create_connection(ours.getsockname()[:2]) for _ in range(64)]
        accepted = [0, 0]
        for number, each in enumerate((ours, theirs)):
            each.setblocking(False)
            while True:
                try:
                    each.accept()[0].close()
                except BlockingIOError:
                    break
                accepted[number] += 1
        for client in clients:
            client.close()
        assert sum(accepted) == 64
        assert min(accepted) > 0


def test_whoever_does_not_share_is_refused(
    two: list[list[socket.socket]], host: str, port: int
) -> None:
    check_port(host, port, "LUDOTECA_PORT", shared=True)
    with pytest.raises(CannotListen, match="is taken; set LUDOTECA_PORT to another"):
        check_port(host, port, "LUDOTECA_PORT")


def test_nobody_shares_with_a_server_that_does_not(host: str, port: int) -> None:
    for each in (alone := bound_sockets(host, port)):
        each.listen()
    with pytest.raises(CannotListen, match=f"port {port} on {host} is taken"):
        check_port(host, port, "LUDOTECA_PORT", shared=True)
    for each in alone:
        each.close()
