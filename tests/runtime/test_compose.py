"""docker-compose.yml is consistent with the program: its commands, its settings, and the file's
services exist.

No containers are started here.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr
from typer.testing import CliRunner

from runtime.cli import app
from runtime.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
ADMIN_COMMAND_READS = {"LUDOTECA_NEW_PASSWORD"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load(COMPOSE.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def ours(compose: dict[str, Any]) -> dict[str, Any]:
    """The services that run our image."""
    return {name: each for name, each in compose["services"].items() if each["image"] == "ludoteca"}


def test_every_process_of_the_program_has_a_service(ours: dict[str, Any]) -> None:
    commands = {service["command"][0] for service in ours.values()}
    assert commands >= {"api", "projector", "worker", "provider", "fiscal", "carrier", "relay"}


def test_every_service_of_ours_runs_a_command_that_there_is(ours: dict[str, Any]) -> None:
    for name, service in ours.items():
        words = [word for word in service["command"] if re.fullmatch(r"[a-z]+", word)]
        assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0, name


def test_every_variable_that_is_set_is_a_setting(ours: dict[str, Any]) -> None:
    known = {f"LUDOTECA_{field.upper()}" for field in Settings.model_fields} | ADMIN_COMMAND_READS
    for name, service in ours.items():
        assert set(service["environment"]) <= known, name


def test_the_settings_make_sense(ours: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for service in ours.values():
        for variable, value in service["environment"].items():
            monkeypatch.setenv(variable, _filled_in(value))
        settings = Settings()
        assert not settings.embedded
        assert settings.rabbitmq_url.get_secret_value()
        assert settings.elasticsearch_url.get_secret_value()


def test_servers_are_reached_where_they_are(compose: dict[str, Any], ours: dict[str, Any]) -> None:
    for service in ours.values():
        for variable in (
            "DATABASE_URL",
            "RABBITMQ_URL",
            "ELASTICSEARCH_URL",
            "PROVIDER_URL",
            "PAYMENT_WEBHOOK_URL",
            "CARRIER_SHOP_URL",
            "FISCAL_URL",
        ):
            value = _filled_in(service["environment"][f"LUDOTECA_{variable}"])
            assert re.search(r"[@/]([a-z]+):\d+", value).group(1) in compose["services"]  # type: ignore[union-attr]


def test_the_nodes_of_kurrentdb_know_each_other_and_are_where_the_comment_says(
    compose: dict[str, Any],
) -> None:
    nodes = {name for name in compose["services"] if name.startswith("kurrentdb")}
    assert len(nodes) == 3
    for name in nodes:
        environment = compose["services"][name]["environment"]
        seeds = {seed.partition(":")[0] for seed in environment["KURRENTDB_GOSSIP_SEED"].split(",")}
        assert seeds == nodes - {name}
        assert environment["KURRENTDB_CLUSTER_SIZE"] == len(nodes)
        assert environment["KURRENTDB_NODE_HOST_ADVERTISE_AS"] == name
    url = re.search(r"LUDOTECA_KURRENTDB_URL='(.*)'", COMPOSE.read_text(encoding="utf-8"))
    assert url is not None
    assert Settings(kurrentdb_url=SecretStr(url[1])).mirrored
    assert set(re.findall(r"[/,]([a-z0-9-]+):\d+", url[1])) == nodes


def test_no_service_depends_on_a_missing_service_or_volume(
    compose: dict[str, Any],
) -> None:
    for service in compose["services"].values():
        for other, condition in service.get("depends_on", {}).items():
            assert (
                condition != {"condition": "service_healthy"}
                or "healthcheck" in compose["services"][other]
            )
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in compose["volumes"]


def test_the_image_starts_the_program() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert 'ENTRYPOINT ["ludoteca"]' in dockerfile
    assert CliRunner().invoke(app, ["run", "--help"]).exit_code == 0


def test_docker_takes_the_file_where_docker_is() -> None:
    if not shutil.which("docker"):
        pytest.skip("docker is not installed")
    command = ["docker", "compose", "-f", str(COMPOSE), "config", "--quiet"]
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LUDOTECA_ADMIN_PASSWORD": "correct horse",
    }
    if subprocess.run(
        ["docker", "compose", "version"], capture_output=True, check=False
    ).returncode:
        pytest.skip("docker compose is not installed")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _filled_in(value: str) -> str:
    """Substituted as docker compose does, with every variable's default, or the password that it
    requires."""
    return re.sub(r"\$\{\w+:[-?]([^}]*)\}", r"\1", value)
