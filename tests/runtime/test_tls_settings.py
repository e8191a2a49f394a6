"""Settings about TLS."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from runtime.database.instance import remember_servers, with_remembered_servers
from runtime.settings import Settings
from tests.support.servers.tls import Authority


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for path in (tmp_path / "nowhere.pem", tmp_path / "empty.pem", tmp_path):
        with pytest.raises(ValidationError, match="a file with certificates in PEM format"):
            Settings(tls_ca=str(path))


def test_authorities_alone_choose_no_server(tmp_path: Path) -> None:
    settings = Settings(tls_ca=Authority(tmp_path).file)
    assert settings.embedded
    assert not settings.mirrored
    assert not settings.relayed


def test_certificate_and_key_are_set_together() -> None:
    for settings in ({"tls_cert": "/etc/tls.crt"}, {"tls_key": "/etc/tls.key"}):
        with pytest.raises(ValidationError, match="are set together"):
            Settings(**settings)  # type: ignore[arg-type]


def test_with_a_certificate_the_api_is_reached_by_https() -> None:
    secure = Settings(tls_cert="/etc/tls.crt", tls_key="/etc/tls.key")
    assert (secure.local_url, secure.api_url) == ("https://127.0.0.1:8000",) * 2
    assert secure.webhook_url.startswith("https://127.0.0.1:8000/")
    assert Settings().local_url == "http://127.0.0.1:8000"


def test_a_command_trusts_whom_the_instance_in_its_home_trusts(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    remember_servers(Settings(home=tmp_path, tls_ca=authority.file))
    assert with_remembered_servers(Settings(home=tmp_path)).tls_ca == authority.file
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = Settings(home=tmp_path, tls_ca=Authority(elsewhere).file)
    assert with_remembered_servers(other).tls_ca == other.tls_ca
