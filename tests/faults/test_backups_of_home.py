"""The part of HOME that a backup contains: the simulators' books, without which the restored shop
could refund nothing, and the first ADMIN's password."""

import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from adapters.fiscal.simulator.books import Books, Sale
from domain.payments import Method
from runtime.backup import of_home, restoring
from runtime.backup.making import backup
from runtime.host.home import MASTER_KEY_FILE, PASSWORD_FILE
from tests.support.processes.restoring import restore
from tests.support.servers import shared
from tests.support.shops.manual import ADMIN, VISA, Till, open_till

SELLER = uuid4()
SECURE = Method("card", "pm_card_authenticationRequired")


def silent(_what: str, _done: int, _all: int) -> None:
    pass


@pytest.fixture
def other_database(postgres_url: str) -> Iterator[str]:
    url = shared.create_database(postgres_url, template="template1")
    yield url
    shared.drop_database(url)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    (home / PASSWORD_FILE).write_text("correct horse\n")
    with closing(Books(home / "fiscal.sqlite3")) as books:
        books.issue(sale(1), "1")
    return home


@pytest.fixture
def new_home(tmp_path: Path) -> Path:
    (tmp_path / "new").mkdir()
    return tmp_path / "new"


def sale(number: int) -> Sale:
    return Sale(SELLER, 2026, number, uuid4(), 500, "USD")


def issued(home: Path) -> int:
    with closing(Books(home / "fiscal.sqlite3")) as books:
        return books.book(SELLER, 2026).issued


async def test_the_restored_shop_has_a_provider_that_knows_its_payments(
    database: str, other_database: str, home: Path, new_home: Path, tmp_path: Path
) -> None:
    async with open_till(database, home) as till:
        ann = await till.person()
        paid = (await till.commands.orders.place(ann, await till.game(), VISA)).value
        open_ = (await till.commands.orders.place(ann, await till.game(), SECURE)).value
        await till.settle()
        backup(database, tmp_path / "backup", None, silent, home=home)  # while the provider runs
    restore(other_database, tmp_path / "backup", None, silent, home=new_home)
    assert issued(new_home) == 1
    assert (new_home / PASSWORD_FILE).read_text() == "correct horse\n"
    assert is_closed(new_home / PASSWORD_FILE)
    async with open_till(other_database, new_home) as till:
        assert await asked(till, open_.payment_id) == "requires_action"
        await till.commands.orders.refund(ADMIN, paid.order_id, None, "sorry")
        await till.settle()
        assert (await till.payment(paid.payment_id)).status == "REFUNDED"


def is_closed(path: Path) -> bool:
    """Whether only a file's owner may access it."""
    return stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


async def asked(till: Till, payment_id: UUID) -> str:
    """The state of a payment at the provider."""
    ref = (await till.payment(payment_id)).provider_ref
    assert ref is not None
    return (await till.core.adapters.payment_provider.get(ref)).status


def test_books_that_are_there_know_more_and_stay(
    database: str, other_database: str, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backup(database, tmp_path / "backup", None, silent, home=home)
    with closing(Books(home / "fiscal.sqlite3")) as books:
        books.issue(sale(2), "2")
    restore(other_database, tmp_path / "backup", None, silent, home=home)
    assert issued(home) == 2
    assert "fiscal.sqlite3" in caplog.text


@pytest.mark.parametrize("used", [False, True], ids=["as they were", "used meanwhile"])
def test_books_that_a_killed_restore_left_are_those_of_the_next_one(
    database: str,
    other_database: str,
    home: Path,
    new_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    used: bool,
) -> None:
    backup(database, tmp_path / "earlier", None, silent, home=home)
    with closing(Books(home / "fiscal.sqlite3")) as books:
        books.issue(sale(2), "2")
    backup(database, tmp_path / "later", None, silent, home=home)
    with monkeypatch.context() as patched:
        patched.setattr(restoring, "_put_files", killed_after(restoring._put_files))
        with pytest.raises(Killed):
            restore(other_database, tmp_path / "earlier", None, silent, home=new_home)
    assert (new_home / "fiscal.sqlite3").exists()
    if used:
        with closing(Books(new_home / "fiscal.sqlite3")) as books:
            books.issue(sale(3), "3")
            books.issue(sale(4), "4")
    restore(other_database, tmp_path / "later", None, silent, home=new_home)
    assert issued(new_home) == (3 if used else 2)
    assert not (new_home / of_home.PUT_BY_RESTORE).exists()


class Killed(BaseException):
    """The process ends here: no statement follows, and the database rolls back."""


def killed_after(step: Callable[..., None]) -> Callable[..., None]:
    def instead(*args: Any, **kwargs: Any) -> None:
        step(*args, **kwargs)
        raise Killed

    return instead


@pytest.mark.parametrize("without_keys", [True, False], ids=["without keys", "kept elsewhere"])
def test_the_password_may_be_left_out(
    database: str,
    other_database: str,
    home: Path,
    new_home: Path,
    tmp_path: Path,
    *,
    without_keys: bool,
) -> None:
    backup(database, tmp_path / "backup", None, silent, home=home)
    if not without_keys:
        (tmp_path / "backup" / PASSWORD_FILE).unlink()
    restore(
        other_database, tmp_path / "backup", None, silent, home=new_home, without_keys=without_keys
    )
    assert not (new_home / PASSWORD_FILE).exists()


def test_a_master_key_in_home_is_in_it_and_those_of_the_new_home_stay(
    database: str, other_database: str, home: Path, new_home: Path, tmp_path: Path
) -> None:
    (home / MASTER_KEY_FILE).write_text("the shop's\n")
    (new_home / MASTER_KEY_FILE).write_text("another")
    backup(database, tmp_path / "backup", None, silent, home=home)
    assert is_closed(tmp_path / "backup" / MASTER_KEY_FILE)
    restore(other_database, tmp_path / "backup", None, silent, home=new_home)
    assert (new_home / MASTER_KEY_FILE).read_text() == "another\nthe shop's\n"
    assert is_closed(new_home / MASTER_KEY_FILE)


def test_a_master_key_that_is_kept_elsewhere_is_not_missed(
    database: str, other_database: str, home: Path, new_home: Path, tmp_path: Path
) -> None:
    (home / MASTER_KEY_FILE).write_text("the shop's\n")
    backup(database, tmp_path / "backup", None, silent, home=home)
    (tmp_path / "backup" / MASTER_KEY_FILE).unlink()
    restore(other_database, tmp_path / "backup", None, silent, home=new_home)
    assert not (new_home / MASTER_KEY_FILE).exists()
