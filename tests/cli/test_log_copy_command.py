"""`ludoteca log copy`, and what a start says of a log that is not where the settings say."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from runtime.output.console import Code
from runtime.settings import Settings
from runtime.wiring.log_of_record import WrongLog, check_log_of_record
from tests.support.servers.kurrent import KurrentDouble
from tests.support.servers.tls import Authority
from tests.support.shops.commands import Ludoteca, Shop


@pytest.fixture
def kurrent(monkeypatch: pytest.MonkeyPatch) -> Iterator[KurrentDouble]:
    with KurrentDouble() as double:
        monkeypatch.setenv("LUDOTECA_KURRENTDB_URL", double.url)
        yield double


def settings(home: Path, kurrentdb_url: str = "") -> Settings:
    return Settings(home=home, kurrentdb_url=SecretStr(kurrentdb_url))


def test_a_shop_moves_to_kurrentdb_and_back(
    ludoteca: Ludoteca, shop: Shop, kurrent: KurrentDouble, tmp_path: Path
) -> None:
    shop.list_games(3)
    with pytest.raises(WrongLog, match="log copy --from postgresql --to kurrentdb"):
        check_log_of_record(settings(tmp_path, kurrent.url), shop.url)

    there = ludoteca("log", "copy", "--from", "postgresql", "--to", "kurrentdb")
    assert there.exit_code == 0, there.stderr
    assert "copied and verified: " in there.stdout
    check_log_of_record(settings(tmp_path, kurrent.url), shop.url)

    back = ludoteca("log", "copy", "--from", kurrent.url, "--to", shop.url)
    assert (back.exit_code, back.stdout) == (0, there.stdout)
    check_log_of_record(settings(tmp_path), shop.url)


def test_a_mirror_is_not_taken_for_a_log(ludoteca: Ludoteca, shop: Shop, tmp_path: Path) -> None:
    shop.ask("SELECT log.mirror_v1(NULL, 0, '{}', '{}', '{}', '{}', true)")
    with pytest.raises(WrongLog, match="this database mirrors KurrentDB"):
        check_log_of_record(settings(tmp_path), shop.url)
    made = ludoteca("admin", "create", "--email", "ana@example.org", "--password", "x" * 12)
    assert made.exit_code == 2
    assert "this database mirrors KurrentDB" in made.stderr
    archive = tmp_path / "empty.jsonl"
    assert ludoteca("log", "export", archive).exit_code == 0
    put = ludoteca("log", "import", archive)
    assert put.exit_code == 1
    assert "mirrors KurrentDB" in put.stderr


def test_a_kurrentdb_that_does_not_answer_is_waited_for_later(
    shop: Shop, kurrent: KurrentDouble, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop.list_games(1)
    kurrent.stop()
    check_log_of_record(settings(tmp_path, kurrent.url), shop.url)
    assert "KurrentDB does not answer" in caplog.text
    kurrent.start()


def test_histories_that_differ_end_with_1(
    ludoteca: Ludoteca, shop: Shop, kurrent: KurrentDouble
) -> None:
    shop.list_games(2)
    assert ludoteca("log", "copy", "--from", "postgresql", "--to", "kurrentdb").exit_code == 0
    kurrent.go_back(kurrent.store.log[0].position)
    result = ludoteca("log", "copy", "--from", "kurrentdb", "--to", "postgresql")
    assert result.exit_code == 1
    assert "which KurrentDB lacks" in result.stderr


@pytest.mark.parametrize("into", [True, False])
def test_a_copy_that_cannot_reach_kurrentdb_says_so(
    ludoteca: Ludoteca, shop: Shop, kurrent: KurrentDouble, into: bool
) -> None:
    shop.list_games(1)
    kurrent.stop()
    sides = ["postgresql", "kurrentdb"] if into else ["kurrentdb", "postgresql"]
    result = ludoteca("log", "copy", "--from", sides[0], "--to", sides[1])
    assert result.exit_code == Code.UNREACHABLE
    assert "KurrentDB does not answer" in result.stderr
    kurrent.start()


def test_a_kurrentdb_named_by_its_url_is_verified_by_the_shop_s_authorities(
    ludoteca: Ludoteca, shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shop.list_games(1)
    authority = Authority(tmp_path)
    pair = authority.pair("127.0.0.1")
    with KurrentDouble(tls=pair, ca_file=authority.file, login="ana:secret") as double:
        url = double.url.partition("?")[0]
        monkeypatch.setenv("LUDOTECA_TLS_CA", authority.file)
        result = ludoteca("log", "copy", "--from", "postgresql", "--to", url)
        assert result.exit_code == 0, result.stderr
