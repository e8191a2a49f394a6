"""The contents of a new shop, even if its first start is killed."""

from pathlib import Path

import pytest
from pydantic import SecretStr

import runtime.bootstrap as bootstrap
from domain.catalog import GameCreated
from runtime.host.home import PASSWORD_FILE
from runtime.load import LoadReport, load_games
from runtime.settings import Settings
from runtime.supervision import supervisor
from runtime.wiring.core import Core, open_core

GAMES = "title,publisher,tags,price_cents,release_date,platforms\n" + "".join(
    f"{title},Valve,Puzzle,999,2007-10-10,windows\n" for title in ("Portal", "Portal 2")
)


class Killed(Exception):
    """Stands for kill -9."""


@pytest.fixture(autouse=True)
def _small_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "games.csv").write_text(GAMES)
    monkeypatch.setattr(bootstrap, "SAMPLE", tmp_path / "games.csv")


async def start(url: str, home: Path, sample: str = "on") -> list[str]:
    """Prepare the shop; returns the titles of the games in its log."""
    settings = Settings(
        home=home, database_url=url, sample=sample, admin_password="correct horse battery"
    )
    await bootstrap._prepare(settings)
    async with open_core(settings) as core:
        recorded = await core.log.read()
    return sorted(each.event.title for each in recorded if isinstance(each.event, GameCreated))


async def test_a_first_start_that_was_killed_while_loading_the_sample_is_made_up_for(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed_in_between(core: Core, path: Path) -> LoadReport:
        await load_games(core, half)
        raise Killed

    half = tmp_path / "half.csv"
    half.write_text("".join(GAMES.splitlines(keepends=True)[:2]))
    with monkeypatch.context() as patched:
        patched.setattr(bootstrap, "load_games", killed_in_between)
        with pytest.raises(Killed):
            await start(database, tmp_path)

    assert await start(database, tmp_path) == ["Portal", "Portal 2"]


async def test_the_sample_is_loaded_once(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(database, tmp_path)
    (tmp_path / "games.csv").write_text(GAMES.replace("Portal 2", "Half-Life"))

    assert await start(database, tmp_path) == ["Portal", "Portal 2"]


async def test_a_shop_that_began_without_the_sample_does_not_get_it_later(
    database: str, tmp_path: Path
) -> None:
    assert await start(database, tmp_path, sample="off") == []
    assert await start(database, tmp_path) == []


@pytest.mark.parametrize("given", ["", "correct horse battery"])
async def test_a_password_is_printed_only_when_it_was_generated_here(
    database: str, tmp_path: Path, given: str
) -> None:
    settings = Settings(home=tmp_path, database_url=database, sample="off", admin_password=given)
    for _ in ("the first start", "a later one"):
        first = await bootstrap._prepare(settings)

        welcome = supervisor._welcome(settings, first, [])

        kept = tmp_path / PASSWORD_FILE
        assert kept.exists() == (not given)
        assert (first.admin_password is None) == bool(given)
        assert "correct horse battery" not in welcome
        assert given or kept.read_text().strip() in welcome
        for page in ("/", "/sell", "/console"):
            assert f"{settings.api_url}{page}\n" in welcome


async def test_no_password_is_printed_that_is_not_the_admins(database: str, tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path, database_url=database, sample="off", admin_password="correct horse battery"
    )
    await bootstrap._prepare(settings)
    later = await bootstrap._prepare(settings.model_copy(update={"admin_password": SecretStr("")}))
    assert later.admin_password is None
    assert not (tmp_path / PASSWORD_FILE).exists()


async def test_it_is_said_whose_password_it_is(database: str, tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path, database_url=database, sample="off", admin_password="correct horse battery"
    )
    first = await bootstrap._prepare(settings)
    assert "(LUDOTECA_ADMIN_PASSWORD)" in supervisor._welcome(settings, first, [])
    (tmp_path / PASSWORD_FILE).write_text("of another shop\n")
    for given in ("", "another horse battery"):
        later = settings.model_copy(update={"admin_password": SecretStr(given)})
        welcome = supervisor._welcome(later, await bootstrap._prepare(later), [])
        assert "of another shop" not in welcome
        assert "ludoteca admin create" in welcome
