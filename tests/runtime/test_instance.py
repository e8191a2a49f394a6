"""The servers that a command uses."""

import stat
from pathlib import Path

from runtime.database.instance import remember_servers, with_remembered_servers
from runtime.settings import Settings

RABBIT, SEARCH = "amqp://guest:guest@rabbit/", "http://search:9200"


def urls(settings: Settings) -> tuple[str, str, str]:
    servers = settings.database_url, settings.rabbitmq_url, settings.elasticsearch_url
    return tuple(each.get_secret_value() for each in servers)  # type: ignore[return-value]


def test_a_command_speaks_to_the_servers_that_the_instance_in_its_home_was_started_with(
    tmp_path: Path,
) -> None:
    remember_servers(Settings(home=tmp_path, rabbitmq_url=RABBIT, elasticsearch_url=SEARCH))
    assert urls(with_remembered_servers(Settings(home=tmp_path))) == ("", RABBIT, SEARCH)


def test_an_instance_started_without_them_is_remembered_so(tmp_path: Path) -> None:
    remember_servers(Settings(home=tmp_path, rabbitmq_url=RABBIT))
    remember_servers(Settings(home=tmp_path))
    assert urls(with_remembered_servers(Settings(home=tmp_path))) == ("", "", "")


def test_what_the_environment_names_goes_first(tmp_path: Path) -> None:
    remember_servers(Settings(home=tmp_path, rabbitmq_url=RABBIT))
    assert (
        urls(with_remembered_servers(Settings(home=tmp_path, rabbitmq_url="amqp://other/")))[1]
        == "amqp://other/"
    )


def test_a_command_for_another_database_gets_none_of_them(tmp_path: Path) -> None:
    remember_servers(Settings(home=tmp_path, rabbitmq_url=RABBIT))
    elsewhere = Settings(home=tmp_path, database_url="postgresql://elsewhere/shop")
    assert urls(with_remembered_servers(elsewhere)) == ("postgresql://elsewhere/shop", "", "")


def test_where_no_instance_ever_ran_the_settings_stand(tmp_path: Path) -> None:
    assert with_remembered_servers(Settings(home=tmp_path)) == Settings(home=tmp_path)


def test_only_the_owner_reads_the_passwords_in_it(tmp_path: Path) -> None:
    remember_servers(Settings(home=tmp_path, rabbitmq_url=RABBIT))
    assert stat.S_IMODE((tmp_path / "servers.json").stat().st_mode) == 0o600
