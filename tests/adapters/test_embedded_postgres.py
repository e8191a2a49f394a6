import os
import pwd
import select
import shutil
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from signal import SIGKILL

import psycopg
import pytest

from adapters.postgres import programs
from adapters.postgres.embedded import AlreadyOwned, EmbeddedPostgres
from adapters.postgres.programs import EmbeddedPostgresError
from tests.support import ROOT

PATIENCE_SECONDS = 30
IS_ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="takes root")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="takes Linux")


@pytest.fixture(scope="module")
def initialized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose server ran once and was stopped."""
    home = tmp_path_factory.mktemp("initialized") / "home"
    with EmbeddedPostgres(home):
        pass
    return home


@pytest.fixture
def home(initialized: Path, tmp_path: Path) -> Path:
    """A copy of that home, which a test may use and break."""
    subprocess.run(["cp", "-a", initialized, tmp_path / "home"], check=True)
    return tmp_path / "home"


@contextmanager
def owner(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that owns the server of `home`: the process, and the server's pid."""
    command = [sys.executable, "-m", "tests.support.processes.postgres_owner", str(home), *options]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def wait_for_the_end_of(pid: int) -> None:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([process], [], [], PATIENCE_SECONDS)[0], f"process {pid} still runs"
    finally:
        os.close(process)


def run(server: EmbeddedPostgres, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


# -- guarantees ------------------------------------------------------------------------------------


def test_an_empty_home_becomes_a_postgresql_18_with_the_programs_database(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "not" / "yet" / "there") as server:
        assert run(
            server, "SELECT current_setting('server_version_num')::int / 10000, current_database()"
        ) == [(18, "ludoteca")]


def test_rows_outlive_a_restart(home: Path) -> None:
    server = EmbeddedPostgres(home)
    server.start()
    run(server, "CREATE TABLE kept AS SELECT 1 AS n")
    server.stop()
    server.start()
    assert run(server, "SELECT n FROM kept") == [(1,)]
    server.stop()


def test_it_runs_with_the_settings_it_is_given_and_takes_no_network_connections(home: Path) -> None:
    names = (
        "fsync",
        "jit",
        "max_connections",
        "max_wal_size",
        "shared_buffers",
        "wal_level",
        "listen_addresses",
    )
    with EmbeddedPostgres(home, settings={"shared_buffers": "16MB"}) as server:
        found = [run(server, f"SHOW {name}")[0][0] for name in names]
    assert found == ["on", "off", "200", "1GB", "16MB", "replica", ""]


def test_only_its_own_user_may_enter_the_directory_of_its_socket(home: Path) -> None:
    with EmbeddedPostgres(home) as server:
        [(sockets,)] = run(server, "SHOW unix_socket_directories")
        assert stat.S_IMODE(Path(str(sockets)).stat().st_mode) == 0o700


def test_nothing_is_left_of_its_socket_after_it_stops(home: Path) -> None:
    with EmbeddedPostgres(home) as server:
        [(sockets,)] = run(server, "SHOW unix_socket_directories")
    assert not Path(str(sockets)).exists()


def test_starting_twice_and_stopping_twice_is_like_once(home: Path) -> None:
    server = EmbeddedPostgres(home)
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid
    server.stop()
    server.stop()
    assert server.pid is None


def test_a_home_with_a_long_name_and_spaces_in_it_will_do(
    initialized: Path, tmp_path: Path
) -> None:
    home = tmp_path / "a home with spaces & 'quotes'" / ("very long " * 15).strip()
    home.parent.mkdir(parents=True)
    subprocess.run(["cp", "-a", initialized, home], check=True)
    with EmbeddedPostgres(home) as server:
        assert run(server, "SELECT 1") == [(1,)]


def test_two_homes_are_two_servers(home: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-a", home, tmp_path / "other"], check=True)
    with EmbeddedPostgres(home) as one, EmbeddedPostgres(tmp_path / "other") as other:
        run(one, "CREATE TABLE here ()")
        assert run(other, "SELECT to_regclass('here')") == [(None,)]


def test_the_environments_own_postgresql_variables_do_not_mislead_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGDATA", "/nowhere")
    with EmbeddedPostgres(home) as server:
        assert run(server, "SELECT 1") == [(1,)]


# -- owners come and go ----------------------------------------------------------------------------


def test_a_second_owner_is_refused_and_told_who_the_first_is(home: Path) -> None:
    with (
        owner(home) as (first, _),
        pytest.raises(AlreadyOwned, match=f"pid {first.pid}.*choose another home"),
    ):
        EmbeddedPostgres(home).start()


def test_the_first_owner_does_not_notice_the_second(home: Path) -> None:
    with EmbeddedPostgres(home) as server:
        second = EmbeddedPostgres(home)
        with pytest.raises(AlreadyOwned):
            second.start()
        second.stop()
        assert run(server, "SELECT 1") == [(1,)]


@on_linux
def test_it_stops_when_its_owner_is_killed_and_starts_again_with_all_that_was_committed(
    home: Path,
) -> None:
    with owner(home) as (process, pid):
        with psycopg.connect(EmbeddedPostgres(home).url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
        process.send_signal(SIGKILL)
        wait_for_the_end_of(pid)
    with EmbeddedPostgres(home) as server:
        assert run(server, "SELECT n FROM kept") == [(1,)]


@on_linux
def test_a_server_that_outlived_its_owner_is_stopped_in_order_and_replaced(home: Path) -> None:
    with owner(home, "--leave-orphan") as (process, orphan):
        process.send_signal(SIGKILL)
        process.wait()
        with EmbeddedPostgres(home) as server:
            wait_for_the_end_of(orphan)
            assert run(server, "SELECT 1") == [(1,)]
    assert "was not properly shut down" not in (home / "logs" / "postgres.log").read_text()


def test_a_server_that_was_killed_can_be_started_again_with_all_that_was_committed(
    home: Path,
) -> None:
    with EmbeddedPostgres(home) as server:
        run(server, "CREATE TABLE kept AS SELECT 1 AS n")
        pid = server.pid
        assert pid
        os.kill(pid, SIGKILL)
        wait_for_the_end_of(pid)
        assert server.pid is None
        server.start()
        assert run(server, "SELECT n FROM kept") == [(1,)]


def test_a_killed_servers_last_query_is_waited_for(home: Path) -> None:
    with EmbeddedPostgres(home) as server, closing(psycopg.connect(server.url)) as busy:
        busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 20000000)")
        pid = server.pid
        assert pid
        os.kill(pid, SIGKILL)
        wait_for_the_end_of(pid)
        server.start()
        assert run(server, "SELECT 1") == [(1,)]
    assert "pre-existing shared memory block" in (home / "logs" / "postgres.log").read_text()


def test_a_pid_file_whose_number_now_belongs_to_an_innocent_process_harms_neither(
    home: Path,
) -> None:
    with EmbeddedPostgres(home) as server:
        left_behind = (home / "postgres" / "postmaster.pid").read_text().splitlines()
    with subprocess.Popen(["sleep", "1000"]) as innocent:
        # SIGKILL would have left this file; the shared memory it names is gone.
        pid_file = home / "postgres" / "postmaster.pid"
        pid_file.write_text("\n".join([str(innocent.pid), *left_behind[1:], ""]))
        with EmbeddedPostgres(home) as server:
            assert run(server, "SELECT 1") == [(1,)]
            assert innocent.poll() is None
        innocent.kill()


def test_it_refuses_to_be_started_by_a_thread_that_may_end_before_the_program(home: Path) -> None:
    said: list[Exception] = []

    def start() -> None:
        try:
            EmbeddedPostgres(home).start()
        except EmbeddedPostgresError as error:
            said.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(said[0])


# -- existing files in the home --------------------------------------------------------------------


def test_what_an_interrupted_first_start_left_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "postgres.new" / "base").mkdir(parents=True)
    with EmbeddedPostgres(tmp_path) as server:
        assert run(server, "SELECT 1") == [(1,)]


def test_a_start_that_fails_shows_the_servers_own_words_and_gives_up_the_home(home: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="no_such_setting"):
        EmbeddedPostgres(home, settings={"no_such_setting": "1"}).start()
    with EmbeddedPostgres(home) as server:
        assert run(server, "SELECT 1") == [(1,)]


def test_a_directory_for_sockets_that_others_may_enter_is_refused(home: Path) -> None:
    with EmbeddedPostgres(home) as server:
        [(sockets,)] = run(server, "SHOW unix_socket_directories")
    Path(str(sockets)).mkdir(mode=0o755)
    with pytest.raises(EmbeddedPostgresError, match="not a private directory"):
        EmbeddedPostgres(home).start()
    Path(str(sockets)).rmdir()


# -- the user --------------------------------------------------------------------------------------


def process_status(pid: int | None, field: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{field}:"))


@contextmanager
def reachable_by_all(home: Path) -> Iterator[None]:
    """pytest's directories are closed to others; open those above `home` during the test."""
    above = [
        path
        for path in home.parents
        if path.stat().st_uid == os.geteuid() and not path.stat().st_mode & 0o001
    ]
    for path in above:
        path.chmod(0o711)
    yield
    for path in above:
        path.chmod(0o700)


@as_root
@on_linux
def test_roots_server_is_an_ordinary_users_without_any_of_roots_powers(home: Path) -> None:
    with reachable_by_all(home), EmbeddedPostgres(home) as server:
        assert process_status(server.pid, "Uid") != "0"
        assert process_status(server.pid, "CapPrm") == "0" * 16


@as_root
@on_linux
def test_root_may_keep_the_home_and_the_programs_where_nobody_else_may_look(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    home = home.rename(closed / "home")
    shutil.copytree(programs.binaries().parent, closed / "programs", symlinks=True)
    monkeypatch.setattr(programs, "binaries", lambda: closed / "programs" / "bin")
    with EmbeddedPostgres(home) as server:
        assert run(server, "SELECT 1") == [(1,)]
        assert process_status(server.pid, "Uid") != "0"
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@as_root
def test_roots_first_start_in_a_closed_home_makes_its_data_there(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    with EmbeddedPostgres(tmp_path / "closed" / "home") as server:
        assert run(server, "SELECT 1") == [(1,)]


@as_root
@on_linux
def test_roots_server_runs_as_the_owner_of_the_data_it_finds(home: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    for path in [home / "postgres", *(home / "postgres").rglob("*")]:
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    with EmbeddedPostgres(home) as server:
        assert process_status(server.pid, "Uid") == str(nobody.pw_uid)


@as_root
def test_data_that_belongs_to_root_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    with pytest.raises(EmbeddedPostgresError, match="belongs to root"):
        EmbeddedPostgres(tmp_path)


def plainly(act: Callable[[], None]) -> None:
    """Run a function as an ordinary user, in a child process. By a fork, as Python itself may be
    where only root may look."""
    child = os.fork()
    if not child:
        try:
            nobody = pwd.getpwnam("nobody")
            os.chdir("/")
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@as_root
def test_an_ordinary_user_needs_nothing_from_root(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    os.chown(mine, pwd.getpwnam("nobody").pw_uid, -1)

    def use_it() -> None:
        with EmbeddedPostgres(mine / "home") as server:
            assert run(server, "SELECT 1") == [(1,)]
            assert process_status(server.pid, "Uid") == str(os.getuid())

    with reachable_by_all(mine):
        plainly(use_it)


@as_root
def test_an_ordinary_user_is_told_whose_data_it_is(home: Path) -> None:
    def use_it() -> None:
        with pytest.raises(EmbeddedPostgresError, match="run as that user or as root"):
            EmbeddedPostgres(home)

    with reachable_by_all(home):
        plainly(use_it)
