"""The URL of KurrentDB: an invalid one is named at once, without its password."""

from pathlib import Path
from urllib.parse import quote

import pytest
import trustme
from pydantic import SecretStr, ValidationError

from runtime.settings import Settings


@pytest.mark.parametrize(
    "url",
    [
        "kurrentdb://one:2113?Tls=false",
        "kurrentdb://one:2113,two:2113,[::1]:2113/?tls=false&NodePreference=leader",
        "kurrentdb://ana:p%40ss@one:2113?TlsCaFile=/etc/ca.pem",
        "kurrentdb+discover://ana:p@cluster.example:2113",
    ],
)
def test_nodes_and_how_to_sign_in(url: str) -> None:
    assert Settings(kurrentdb_url=SecretStr(url)).mirrored


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://one:2113", "kurrentdb:// or kurrentdb"),
        ("kurrentdb://one?Tls=false", "each host has a port"),
        ("kurrentdb://one:2113,two?Tls=false", "each host has a port"),
        ("kurrentdb+discover://one:2113,two:2113?Tls=false", "takes one host"),
        ("kurrentdb://one:2113", "with TLS it has user:password@"),
        ("kurrentdb://ana@one:2113", "user:password"),
        ("kurrentdb://ana:secret@one:2113?Tls=maybe", "maybe"),
        ("kurrentdb://ana:secret@one:2113?Tsl=false", "TSL"),
        ("kurrentdb://ana:secret@one:2113?NodePreference=follower", "NodePreference"),
    ],
)
def test_mistakes_are_named(url: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why) as raised:
        Settings(kurrentdb_url=SecretStr(url))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "added"),
    [
        ("kurrentdb://a:b@one:2113", "?TlsCaFile="),
        ("kurrentdb://a:b@one:2113?Tls=true", "&TlsCaFile="),
        ("kurrentdb://a:b@one:2113?tlsCaFile=/x.pem", None),
        ("kurrentdb://one:2113?Tls=false", None),
    ],
)
def test_it_trusts_the_authorities_of_all_servers(
    url: str, added: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    used = Settings(kurrentdb_url=SecretStr(url), tls_ca=str(file)).kurrentdb
    assert used == (url if added is None else url + added + quote(str(file), safe=""))
