"""HOME is accessible to its user only: existing files, and those created later."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.text_log import FileTextLog
from runtime.host.home import NotAHome, open_home


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(home: Path) -> list[str]:
    found = [home, *home.rglob("*")]
    return [
        str(path)
        for path in found
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]


def test_a_new_home_and_all_that_is_made_in_it_is_closed(tmp_path: Path) -> None:
    home = tmp_path / "shops" / "ours"
    open_home(home)
    (home / "logs").mkdir()
    (home / "provider.sqlite3").write_text("secret")

    assert open_to_others(home.parent) == []


def test_what_an_older_version_left_open_is_closed(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    (home / "logs" / "old").mkdir(parents=True)
    for path in (
        home / "provider.sqlite3",
        home / "logs" / "worker.txt",
        home / "logs" / "old" / "x",
        elsewhere,
    ):
        path.write_text("secret")
    (home / "link").symlink_to(elsewhere)
    (home / "program").touch(0o755)
    assert len(open_to_others(home)) == 7
    open_home(home)

    assert open_to_others(home) == []
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o644
    assert stat.S_IMODE((home / "program").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "kept", [["passwd/"], ["mail/", "log/"], ["logs/", "photo.jpg", "Photos/"]], ids=str
)
def test_a_folder_of_other_things_is_no_home_and_stays_as_it_is(
    tmp_path: Path, kept: list[str]
) -> None:
    folder = tmp_path / "etc"
    folder.mkdir(0o755)
    for name in kept:
        (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()
    before = open_to_others(folder)
    with pytest.raises(NotAHome, match="name a folder for it alone"):
        open_home(folder)

    assert open_to_others(folder) == before
    assert len(os.listdir(folder)) == len(kept)


@pytest.mark.parametrize(
    "kept", [["lost+found"], ["logs", "images"], ["api.log"], ["run.lock", "my-notes.txt"]], ids=str
)
def test_an_instances_folder_is_a_home_again(tmp_path: Path, kept: list[str]) -> None:
    for name in kept:
        (tmp_path / name).touch()
    open_home(tmp_path)

    assert open_to_others(tmp_path) == []


def test_a_folder_of_everybodys_stays_everybodys(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "others.txt").write_text("theirs")
    open_home(tmp_path)

    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777
    assert stat.S_IMODE((tmp_path / "others.txt").stat().st_mode) == 0o644


def test_a_text_log_is_closed_whoever_makes_it_and_has_a_line_for_each_step(tmp_path: Path) -> None:
    log = FileTextLog(tmp_path / "logs" / "payment-worker.txt")
    log.write(
        "charged",
        order="x\n2026-01-01T00:00:00Z paid order=y\x1b[2J",
        name="a b\r\u2028\x85\udc00",
        plain="é",
    )
    log.close()
    (line,) = (tmp_path / "logs" / "payment-worker.txt").read_bytes().decode().splitlines()

    assert stat.S_IMODE((tmp_path / "logs").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "logs" / "payment-worker.txt").stat().st_mode) == 0o600
    assert "\\n2026-01-01" in line
    assert "\x1b" not in line
    assert line.endswith("plain=é")
