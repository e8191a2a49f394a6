"""The manifests of deploy/kubernetes are valid, and consistent with the program: its commands, its
settings, its routes, and its image.

No cluster is started here.
"""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from fastapi.routing import APIRoute
from typer.testing import CliRunner

from api.routes import health
from runtime.cli import app
from runtime.settings import Settings
from runtime.supervision.supervisor import STOP_SECONDS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
KUBERNETES = "1.34"
"""The version whose schemas the manifests are checked by."""

POD_OWNERS = {"Deployment", "Job", "CronJob"}
OF_OPERATORS = {"ServiceMonitor", "PodMonitor"}
"""Kinds that Kubernetes itself does not have."""

Manifest = dict[str, Any]


def _read(path: Path) -> Iterator[Manifest]:
    for each in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        if isinstance(each, dict) and "metadata" in each:
            yield each


def _name(manifest: Manifest) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


SOURCES = [each for path in sorted(FOLDER.rglob("*.yaml")) for each in _read(path)]
PODS = {_name(each): each for each in SOURCES if each["kind"] in POD_OWNERS}


def _pod(owner: Manifest) -> Manifest:
    spec = owner["spec"].get("jobTemplate", owner)["spec"]
    return dict(spec["template"]["spec"])


def _containers(owner: Manifest) -> list[Manifest]:
    return list(_pod(owner)["containers"])


pods = pytest.mark.parametrize("owner", PODS.values(), ids=PODS)


@pytest.fixture(scope="module", params=["as it stands", "with every component"])
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[Manifest]:
    """What the example is made of: everything put together, as it is applied."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    folder = FOLDER
    if request.param != "as it stands":
        folder = tmp_path_factory.mktemp("kubernetes") / "copy"
        shutil.copytree(FOLDER, folder)
        kustomization = folder / "example" / "kustomization.yaml"
        kustomization.write_text(
            kustomization.read_text().replace("# - ../components/", "- ../components/")
        )
    command = ["kubectl", "kustomize", str(folder / "example")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


# -- valid -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("manifest", SOURCES, ids=_name)
def test_every_manifest_is_valid(manifest: Manifest) -> None:
    if manifest["kind"] not in OF_OPERATORS:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_the_built_manifests_are_valid(built: list[Manifest]) -> None:
    for each in built:
        if each["kind"] not in OF_OPERATORS:
            kubernetes_validate.validate(each, KUBERNETES, strict=True)


def test_every_pod_of_theirs_trusts_the_sites_authority(built: list[Manifest]) -> None:
    for owner in built:
        if owner["kind"] in POD_OWNERS:
            (container,) = _containers(owner)
            assert "LUDOTECA_TLS_CA" in {each["name"] for each in container["env"]}, _name(owner)
            assert any(mount["name"] == "tls" for mount in container["volumeMounts"])


def test_the_schemas_find_what_is_wrong() -> None:
    wrong = {**SOURCES[0], "metadata": {"nmae": "ludoteca"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_every_resource_is_part_of_a_kustomization() -> None:
    for folder in {path.parent for path in FOLDER.rglob("*.yaml")}:
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
        named = {
            *kustomization.get("resources", []),
            *(patch["path"] for patch in kustomization.get("patches", [])),
        }
        files = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
        assert files <= named, folder


# -- the program -----------------------------------------------------------------------------------


def test_every_process_that_a_shop_needs_runs() -> None:
    commands = {each["args"][0] for owner in PODS.values() for each in _containers(owner)}
    assert commands >= {"api", "projector", "worker", "relay", "mirror"}


@pods
def test_every_command_is_one_of_the_program(owner: Manifest) -> None:
    for container in _containers(owner):
        if "command" in container:
            words = re.findall(r"\bludoteca ([a-z]+)", " ".join(container["args"]))
        else:
            words = [" ".join(container["args"])]
        assert words
        for each in words:
            assert CliRunner().invoke(app, [*each.split(), "--help"]).exit_code == 0, each


def _variables() -> Iterator[str]:
    for path in FOLDER.rglob("*"):
        if path.suffix in {".yaml", ".env"}:
            lines = path.read_text(encoding="utf-8").splitlines()
            code = "\n".join(line.partition(" #")[0] for line in lines)
            yield from re.findall(r"\bLUDOTECA_[A-Z_]+", code)


def test_every_variable_is_a_setting() -> None:
    known = {f"LUDOTECA_{field.upper()}" for field in Settings.model_fields}
    assert set(_variables()) <= known


def test_the_settings_of_the_example_make_sense(
    built: list[Manifest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for each in built:
        if each["kind"] == "ConfigMap":
            for variable, value in each["data"].items():
                monkeypatch.setenv(variable, value)
    for line in (FOLDER / "example" / "secrets.env").read_text(encoding="utf-8").splitlines():
        variable, _, value = line.partition("=")
        monkeypatch.setenv(variable, value)
    settings = Settings()
    assert not settings.embedded
    assert settings.relayed
    assert settings.api_url.startswith("https://")


def test_every_probe_asks_a_route(built: list[Manifest]) -> None:
    routes = {route.path for route in health.router.routes if isinstance(route, APIRoute)}
    found = [
        probe["httpGet"]
        for owner in built
        if owner["kind"] in POD_OWNERS
        for container in _containers(owner)
        for name, probe in container.items()
        if name.endswith("Probe")
    ]
    assert {each["path"] for each in found} == {"/health/live", "/health/ready"} <= routes
    assert {each["scheme"] for each in found} == {"HTTPS"}  # the example's API speaks TLS


def test_the_api_is_reached_at_the_port_on_which_it_listens() -> None:
    settings = yaml.safe_load((FOLDER / "base" / "kustomization.yaml").read_text(encoding="utf-8"))
    literals = settings["configMapGenerator"][0]["literals"]
    (container,) = _containers(PODS["Deployment-api"])
    (port,) = container["ports"]
    assert f"LUDOTECA_PORT={port['containerPort']}" in literals


def test_metrics_are_scraped_at_the_port_at_which_they_are_shown() -> None:
    settings = yaml.safe_load((FOLDER / "base" / "kustomization.yaml").read_text(encoding="utf-8"))
    literals = settings["configMapGenerator"][0]["literals"]
    for name in ("projector", "worker", "relay", "mirror"):
        (container,) = _containers(PODS[f"Deployment-{name}"])
        (port,) = container["ports"]
        assert port["name"] == "metrics"
        assert f"LUDOTECA_METRICS_PORT={port['containerPort']}" in literals


def test_the_image_is_that_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    for folder in ("base", "example"):
        text = (FOLDER / folder / "kustomization.yaml").read_text(encoding="utf-8")
        (image,) = yaml.safe_load(text)["images"]
        assert image["name"] == compose["x-ludoteca"]["image"]
        assert image["newTag"] == version


# -- the pods --------------------------------------------------------------------------------------


@pods
def test_a_pod_has_few_rights_and_bounded_means(owner: Manifest) -> None:
    pod = _pod(owner)
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"USER {pod['securityContext']['runAsUser']}" in dockerfile
    assert not pod["automountServiceAccountToken"]
    for container in pod["containers"]:
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert not rights["allowPrivilegeEscalation"]
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}


@pods
def test_a_pod_is_killed_only_after_the_program_could_have_stopped(owner: Manifest) -> None:
    pod = _pod(owner)
    pauses = [
        container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        for container in pod["containers"]
    ]
    if owner["kind"] == "Deployment":
        assert pod["terminationGracePeriodSeconds"] >= STOP_SECONDS + max(pauses)
