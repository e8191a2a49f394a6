"""The connections that the processes of `ludoteca run` may take, and a server that has too few."""

import logging

import pytest

from runtime.settings import Settings
from runtime.supervision.connection_count import connections_needed, warn_of_too_few


def test_each_further_process_takes_its_pool_and_some_more() -> None:
    one = connections_needed(Settings(pool_size=10))
    assert one < 100
    assert connections_needed(Settings(pool_size=10, api_processes=2)) > one + 10
    assert connections_needed(Settings(pool_size=10, worker_processes=2)) > one + 10
    assert connections_needed(Settings(pool_size=11)) == one + 2


def test_a_server_with_too_few_is_named(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "runtime.supervision.connection_count"):
        warn_of_too_few(postgres_url, Settings(pool_size=2))
        assert caplog.messages == []
        warn_of_too_few(postgres_url, Settings(pool_size=50, api_processes=8))
    assert "max_connections" in caplog.text
    assert str(connections_needed(Settings(pool_size=50, api_processes=8))) in caplog.text
