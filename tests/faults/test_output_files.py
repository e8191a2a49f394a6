"""Outputs that cannot be written, or are not files: one line and an exit code, and devices are not
replaced by files."""

import asyncio
import itertools
import json
import os
import resource
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from typer.main import get_command

from api.views.events import EventView
from commands import aggregates
from domain.wallets import WalletCreated
from eventstore.database.postgres import connect
from eventstore.postgres_log import PostgresLog
from queries.audit.log import Audit
from runtime.archive import writing as archive
from runtime.cli import app
from runtime.host.environment import prepare_process
from runtime.output.files import writing
from runtime.wiring.codec import codec
from tests.support import ROOT
from tests.support.processes.forked import CLOSED, ludoteca
from tests.support.shops.commands import Ludoteca, Shop

WALLET = UUID(int=1)
NO_SPACE = "cannot write the output: No space left on device"


def commands(command: Any, *words: str) -> Iterator[tuple[str, ...]]:
    """Every command of the program, as words."""
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield words
    for name, each in (subcommands or {}).items():
        yield from commands(each, *words, name)


COMMANDS = list(commands(get_command(app)))

DAEMONS = {
    (name,)
    for name in (
        *("run", "api", "projector", "worker", "relay", "mirror"),
        *("provider", "fiscal", "carrier"),
    )
}
"""These run on, whether somebody reads their output or not: tests/faults/test_logging.py."""

ARGUMENTS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("admin", "create"): ("--email", "{unique}@example.org"),
    ("audit", "bundle"): (str(WALLET), "--output", "{folder}/{unique}.zip"),
    ("audit", "check-bundle"): ("{folder}/bundle.zip", "--key", "{folder}/keys.txt"),
    ("audit", "check-proof"): ("{folder}/proof.json", "--key", "{folder}/keys.txt"),
    ("audit", "diff"): ("1", "2"),
    ("audit", "prove"): ("1",),
    ("audit", "replay"): ("--until", "2", "--replace"),
    ("audit", "why"): ("{game}.title", "--model", "games"),
    ("backup",): ("{folder}/{unique}",),
    ("events", "check"): ("--against", str(ROOT / "docs" / "events-release-1.json"), "--all"),
    ("events", "show"): ("1",),
    ("events", "tail"): ("--no-follow",),
    ("load", "games"): ("{folder}/games.csv",),
    ("load", "purchases"): ("{folder}/purchases.csv",),
    ("log", "check"): ("{folder}/shop.jsonl",),
    ("log", "export"): ("{folder}/{unique}.jsonl",),
    ("dlq", "redrive"): ("--all",),
    ("dlq", "discard"): ("--all", "--yes"),
    ("quarantine", "retry"): ("--all",),
    ("quarantine", "show"): ("1",),
    ("projections", "drop"): ("--unused",),
    ("projections", "recover"): ("--all",),
    ("projections", "rebuild"): ("games",),
    ("projections", "verify"): ("games",),
    ("projections", "pause"): ("games",),
    ("projections", "resume"): ("games",),
    ("sql",): ("--where",),
    ("trace",): ("{game}",),
    ("whatif",): ("--set", "platform_fee_bps=800", "--from", "2020-01-01T00:00:00Z"),
}
"""What a command needs so that it prints something; others print something in any case."""

PRINT_NOTHING = {
    ("dlq", "show"), ("projections", "rollback"), ("restore",), ("receipts", "reconcile"),
    ("payments", "reconcile"), ("log", "import"), ("log", "copy"), ("keys", "rotate"),
    ("quarantine", "skip"), ("quarantine", "amend"), ("quarantine", "withdraw"),
    ("alerts", "acknowledge"),
}  # fmt: skip
"""Commands that are refused here, for want of a dead letter, a former storage, an empty database, a
fiscal operator, a payment provider, a KurrentDB, a master key or an event; they write to stderr."""

ACTING = {
    *ARGUMENTS.keys()
    - {
        ("audit", "bundle"),
        ("audit", "check-bundle"),
        ("audit", "check-proof"),
        ("audit", "diff"),
        ("audit", "prove"),
        ("audit", "why"),
        ("events", "check"),
        ("events", "show"),
        ("events", "tail"),
        ("log", "check"),
        ("projections", "verify"),
        ("quarantine", "show"),
        ("sql",),
        ("trace",),
        ("whatif",),
    },
    ("audit", "self"),
    ("keys", "erase"),
    ("projections", "prepare"),
}
"""Commands that report an action, which stays done."""

ANSWERING = [each for each in COMMANDS if each not in DAEMONS | PRINT_NOTHING | ACTING]
HELP = [(*each, "--help") for each in [(), *COMMANDS]] + [("--version",)]


@pytest.fixture(scope="module")
def small(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, Path]:
    """A shop with some events, its read models, and files to load."""
    shop, folder = Shop(module_database), tmp_path_factory.mktemp("outputs")
    shop.list_games(3)
    shop.append(WALLET, 0, WalletCreated(user_id=uuid4(), currency="USD"))
    shop.project()
    (folder / "games.csv").write_text(
        "title,publisher,tags,price_cents,release_date,platforms\nPortal,Valve,puzzle,999,2007-10-10,PC\n"
    )
    (folder / "purchases.csv").write_text("user_id,title\n")
    file = folder / "shop.jsonl"
    with connect(shop.url, "test") as conn, conn.transaction(), file.open("wb") as sink:
        archive.write(conn, sink, 0, lambda _what, _done, _all: None)
    for arguments, to in (
        (["audit", "checkpoint"], "checkpoint.txt"),
        (["audit", "keys", "--json"], "keys.json"),
        (["audit", "prove", "1"], "proof.json"),
        (["audit", "bundle", WALLET, "--output", folder / "bundle.zip"], "bundle.txt"),
    ):
        with open(folder / to, "wb") as out:
            done = ludoteca(
                folder, *arguments, stdout=out.fileno(), environment=_environment(shop, folder)
            )
            assert done.code == 0, done.errors
    keys = json.loads((folder / "keys.json").read_text())
    (folder / "keys.txt").write_text("\n".join(each["key"] for each in keys))
    return shop, folder


def _game(shop: Shop) -> str:
    return str(shop.ask("SELECT stream_id FROM log.events WHERE position = 1"))


def _environment(shop: Shop, folder: Path) -> dict[str, str]:
    return {"LUDOTECA_DATABASE_URL": shop.url, "LUDOTECA_HOME": str(folder / "home")}


@pytest.fixture
def environment(small: tuple[Shop, Path]) -> dict[str, str]:
    return _environment(*small)


_unique = itertools.count()


def words(command: tuple[str, ...], small: tuple[Shop, Path]) -> list[str]:
    shop, folder = small
    given = ARGUMENTS.get(command, ())
    unique = f"x{next(_unique)}{uuid4().hex[:6]}"
    return [
        *command,
        *(each.format(folder=folder, unique=unique, game=_game(shop)) for each in given),
    ]


# -- standard output -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ANSWERING, ids=" ".join)
def test_an_output_that_cannot_be_written_is_a_line_and_an_exit_code(
    command: tuple[str, ...], small: tuple[Shop, Path], environment: dict[str, str], tmp_path: Path
) -> None:
    password = "a long password\n"
    with open("/dev/full", "wb") as full:
        arguments = words(command, small)
        ended = ludoteca(
            tmp_path, *arguments, stdout=full.fileno(), stdin=password, environment=environment
        )
    assert (ended.code, ended.lines[-1:]) == (3, [NO_SPACE]), ended.errors
    assert "Traceback" not in ended.errors

    arguments = words(command, small)
    ended = ludoteca(tmp_path, *arguments, stdout=CLOSED, stdin=password, environment=environment)
    assert (ended.code, ended.lines[-1:]) == (
        3,
        ["cannot write the output: Bad file descriptor"],
    ), ended.errors
    assert "Traceback" not in ended.errors


@pytest.mark.parametrize("command", sorted(ACTING), ids=" ".join)
def test_a_result_goes_to_standard_error_when_standard_output_fails(
    command: tuple[str, ...], small: tuple[Shop, Path], environment: dict[str, str], tmp_path: Path
) -> None:
    """Even if nobody reads it: the exit code says whether the action was done."""
    gone, pipe = os.pipe()
    os.close(gone)
    with open("/dev/full", "wb") as full, open(os.devnull, "wb") as null:
        as_usual, unwritten, closed, unread = ended = [
            ludoteca(
                tmp_path,
                *words(command, small),
                stdout=out,
                stdin="a long password\n",
                environment=environment,
            )
            for out in (null.fileno(), full.fileno(), CLOSED, pipe)
        ]
    os.close(pipe)
    assert {each.code for each in ended} == {0}, ended
    assert unwritten.lines[-1] == "standard output could not take that: No space left on device"
    assert closed.lines[-1] == "standard output could not take that: Bad file descriptor"
    assert len(unwritten.lines) > len(as_usual.lines) + 1
    assert len(unread.lines) == len(as_usual.lines), unread.errors


@pytest.mark.parametrize(
    "command",
    [("no-such",), ("events", "show"), ("events", "tail", "-n", "x"), ("relay",)],
    ids=" ".join,
)
@pytest.mark.parametrize("stderr", ["full", "closed", "gone"])
def test_wrong_usage_is_exit_code_2_even_without_any_output(
    command: tuple[str, ...], stderr: str, tmp_path: Path
) -> None:
    def without_stderr() -> None:
        gone, pipe = os.pipe()
        os.close(gone)
        if stderr == "closed":
            os.close(2)
            sys.stderr = None
        else:
            os.dup2(pipe if stderr == "gone" else os.open("/dev/full", os.O_WRONLY), 2)
            sys.stderr = os.fdopen(2, "w", closefd=False)

    with open(os.devnull, "wb") as null:
        assert ludoteca(tmp_path, *command, stdout=null.fileno(), setup=without_stderr).code == 2


@pytest.mark.parametrize("command", ANSWERING, ids=" ".join)
def test_a_reader_that_is_gone_ends_a_command_quietly(
    command: tuple[str, ...], small: tuple[Shop, Path], environment: dict[str, str], tmp_path: Path
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = ludoteca(
        tmp_path,
        *words(command, small),
        stdout=writing,
        stdin="a long password\n",
        environment=environment,
    )
    os.close(writing)
    assert ended.code == 141, ended.errors
    assert "Traceback" not in ended.errors
    assert "rror" not in ended.errors


@pytest.mark.parametrize("command", HELP, ids=" ".join)
def test_help_that_cannot_be_written_is_a_line_and_an_exit_code(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    gone, pipe = os.pipe()
    os.close(gone)
    with open("/dev/full", "wb") as full:
        ended = ludoteca(tmp_path, *command, stdout=full.fileno())
    assert (ended.code, ended.lines) == (3, [NO_SPACE])
    ended = ludoteca(tmp_path, *command, stdout=pipe)
    os.close(pipe)
    assert (ended.code, ended.lines) == (141, [])


def test_titles_of_all_languages_are_printed_to_a_terminal_that_has_only_ascii(
    small: tuple[Shop, Path], environment: dict[str, str], tmp_path: Path
) -> None:
    small[0].list_game("ポータル ♥")
    position = str(small[0].ask("SELECT max(position) FROM log.events"))

    def only_ascii() -> None:
        import sys

        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding="ascii", errors="strict")  # type: ignore[union-attr]

    for command in (
        ["events", "export"],
        ["events", "show", position],
        ["settings"],
        ["load", "games", "{}/odd.csv"],
    ):
        (small[1] / "odd.csv").write_text("title\n♥\n", encoding="utf-8")
        arguments = [each.format(small[1]) for each in command]
        with open(tmp_path / "out", "w+b") as out:
            ended = ludoteca(
                tmp_path, *arguments, stdout=out.fileno(), environment=environment, setup=only_ascii
            )
        assert "Traceback" not in ended.errors
        if command[0] == "events":
            assert "ポータル ♥" in (tmp_path / "out").read_text(encoding="utf-8")


# -- files -----------------------------------------------------------------------------------------


def export(
    small: tuple[Shop, Path], tmp_path: Path, to: object, stdout: int | None = None, **more: Any
) -> Any:
    environment = {"LUDOTECA_DATABASE_URL": small[0].url, "LUDOTECA_HOME": str(small[1] / "home")}
    null = os.open(os.devnull, os.O_WRONLY)
    ended = ludoteca(
        tmp_path,
        "events",
        "export",
        "-o",
        to,
        stdout=null if stdout is None else stdout,
        environment=environment,
        **more,
    )
    os.close(null)
    return ended


def positions(text: str) -> list[int]:
    return [json.loads(line)["position"] for line in text.splitlines()]


def test_a_device_stays_a_device(small: tuple[Shop, Path], tmp_path: Path) -> None:
    assert export(small, tmp_path, "/dev/null").code == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    ended = export(small, tmp_path, "/dev/full")
    assert (ended.code, ended.lines[-1]) == (3, NO_SPACE)
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_fifo_gets_all_and_stays_a_fifo(small: tuple[Shop, Path], tmp_path: Path) -> None:
    fifo, found = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: found.append(fifo.read_text()))
    reader.start()
    assert export(small, tmp_path, fifo).code == 0
    reader.join(20)
    assert positions(found[0])[:3] == [1, 2, 3]
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert {path.name for path in tmp_path.iterdir()} == {"fifo", "stdin", "stderr"}


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_by_its_name_is_gone_on_from_where_it_stands(
    small: tuple[Shop, Path], tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    with open(out, "wb") as file:
        file.write(b"before\n")
        file.flush()
        assert export(small, tmp_path, name, file.fileno()).code == 0
        file.write(b"after\n")
    first, *between, last = out.read_text().splitlines()
    assert (first, last) == ("before", "after")
    assert positions("\n".join(between))[:3] == [1, 2, 3]


def test_a_link_stays_a_link(small: tuple[Shop, Path], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link, dangling = tmp_path / "there" / "events", tmp_path / "link", tmp_path / "dangling"
    target.write_text("old")
    link.symlink_to("there/events")
    dangling.symlink_to("there/new")
    for path in (link, dangling):
        assert export(small, tmp_path, path).code == 0
        assert path.is_symlink()
        assert positions(path.read_text())[:3] == [1, 2, 3]
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["events", "new"]


def test_a_file_keeps_its_rights_and_a_new_one_gets_the_usual(
    small: tuple[Shop, Path], tmp_path: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / ("n" * 255)
    old.write_text("old")
    old.chmod(0o640)
    before = os.umask(0o027)
    assert export(small, tmp_path, old).code == 0
    assert export(small, tmp_path, new).code == 0
    os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (old, new)] == [0o640, 0o640]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("no/such/folder/events", "No such file or directory"),
        ("folder", "Is a directory"),
        ("file/events", "Not a directory"),
        ("loop", "Too many levels of symbolic links"),
        ("/proc/events", "No such file or directory"),
        ("x" * 256, "File name too long"),
        ("none/x", "none/x: No such file or directory"),
    ],
)
def test_a_path_that_cannot_be_written_is_a_line_and_an_exit_code(
    small: tuple[Shop, Path], tmp_path: Path, path: str, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    (tmp_path / "loop").symlink_to("loop")
    ended = export(small, tmp_path, tmp_path / path)
    assert ended.code == 3
    (line,) = ended.lines
    assert said in line
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(
    "words", [("events", "export", "-o", ""), ("backup", "")], ids=["export", "backup"]
)
def test_an_empty_name_is_no_name_of_the_current_folder(
    words: tuple[str, ...], ludoteca: Ludoteca
) -> None:
    result = ludoteca(*words)
    assert result.exit_code == 2
    assert "the name is empty" in result.stderr


def test_a_disk_that_is_full_leaves_the_file_before_and_no_half(
    small: tuple[Shop, Path], tmp_path: Path
) -> None:
    """By a limit on the size of a file: mounting a small file system needs rights that not
    everybody has."""

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))

    (tmp_path / "out").mkdir()
    kept = tmp_path / "out" / "events"
    kept.write_text("kept")
    ended = export(small, tmp_path, kept, setup=small_files)
    assert (ended.code, ended.lines[-1]) == (3, "cannot write the output: File too large")
    assert kept.read_text() == "kept"
    assert [path.name for path in kept.parent.iterdir()] == ["events"]


def test_a_file_that_its_owner_has_closed_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("kept")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="file"), writing(path):
        pass
    assert path.read_text() == "kept"


def test_a_terminated_command_leaves_no_half_written_file(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            prepare_process()
            with writing(tmp_path / "events") as file:
                file.write(b"half")
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(30)
        except SystemExit as end:
            os._exit(int(str(end.code)))
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


# -- odd content of events -------------------------------------------------------------------------

PAYLOADS = {
    "brackets": b"[" * 5_000 + b"]" * 5_000,
    "objects": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "some brackets": b'{"a":' + b"[" * 900 + b"]" * 900 + b"}",
    "surrogate": b'{"title":"\\ud800"}',
    "digits": b'{"a":' + b"9" * 6_000 + b"}",
    "integer": b'{"a":18446744073709551616}',
    "float": b'{"a":1e999}',
    "nothing": b"",
    "no text": b"\xff\xfe\x00",
    "null": b"null",
    "twice": b'{"a":1,"a":2}',
    "lines": b'{"a":\n"\\n\\u2028"}\n',
}


async def _as_auditors_see_it(url: str) -> list[dict[str, Any]]:
    async with PostgresLog.open(url, codec(), pool_size=2) as log:
        found = await Audit(log, aggregates.ALL).events()
    return [json.loads(EventView.model_validate(item).model_dump_json()) for item in found.items]


def test_nothing_that_an_event_holds_ends_an_export_or_a_verification(
    ludoteca: Ludoteca, shop: Shop
) -> None:
    shop.list_games(len(PAYLOADS) + 1)
    for position, payload in enumerate(PAYLOADS.values(), 1):
        shop.tamper("UPDATE log.events SET payload = %s WHERE position = %s", payload, position)

    exported = ludoteca("events", "export")
    assert exported.exit_code == 0
    assert [
        json.loads(line, parse_int=str)["position"] for line in exported.stdout.split("\n")[:-1]
    ] == [str(n) for n in range(1, len(PAYLOADS) + 2)]
    for position in range(1, len(PAYLOADS) + 1):
        shown = ludoteca("events", "show", position)
        assert shown.exit_code == 0, shown.exception
        assert json.loads(shown.stdout, parse_int=str)["position"] == str(position)
    tail = ludoteca("events", "tail", "--no-follow", "-n", "100")
    assert (tail.exit_code, tail.stdout) == (0, exported.stdout)

    told = asyncio.run(_as_auditors_see_it(shop.url))
    assert [event["position"] for event in told] == list(range(1, len(PAYLOADS) + 2))
    assert "payload_base64" in told[0]["payload"]

    audited = ludoteca("audit", "verify")
    assert (audited.exit_code, audited.stderr) == (1, "")
    assert "FAULT at position 1" in audited.stdout
    shop.project()
    verified = ludoteca.json("projections", "verify", "games")
    (games,) = verified["verified"]
    assert (games["equal"], games["rows"], verified["failed"]) == (True, 1, [])
