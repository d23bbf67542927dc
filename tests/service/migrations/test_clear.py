"""The script: the sessions of the service, outside a request."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select

from app.config import get_settings
from app.db import DatabaseSessionManager
from app.users.clear import CHUNK, read_ids
from app.users.models import Note, User
from service.tools import PROJECT, run


@pytest.fixture
async def users(database: DatabaseSessionManager) -> DatabaseSessionManager:
    """Ten users, each with two notes."""
    async with database.session() as session:
        await session.execute(insert(User), [{"email": f"user{n}@example.com"} for n in range(10)])
        await session.execute(insert(Note), [{"user_id": n % 10 + 1, "body": "x"} for n in range(20)])
    return database


async def count(database: DatabaseSessionManager, model: type[User | Note]) -> int:
    async with database.read_session() as session:
        return await session.scalar(select(func.count()).select_from(model)) or 0


def clear_users(*arguments: str) -> str:
    done = run("-m", "app.users.clear", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


async def test_users_and_what_belongs_to_them_are_cleared(users: DatabaseSessionManager) -> None:
    assert clear_users("1", "2", "2", "99") == "2 users deleted, 1 ids unknown.\n"
    assert await count(users, User) == 8
    assert await count(users, Note) == 16


async def test_a_dry_run_counts_and_deletes_nothing(users: DatabaseSessionManager) -> None:
    assert clear_users("--dry-run", "1", "99") == "1 users would be deleted, 1 ids unknown.\n"
    assert await count(users, User) == 10


async def test_ids_come_from_a_file_in_chunks(users: DatabaseSessionManager, tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(["3", "", " 4 ", *map(str, range(1_000, 1_000 + CHUNK)), "5", "3"]))
    assert clear_users("--file", str(ids)) == f"3 users deleted, {CHUNK} ids unknown.\n"
    assert await count(users, User) == 7


async def test_ids_come_from_standard_input(users: DatabaseSessionManager) -> None:
    command = [sys.executable, "-m", "app.users.clear", "--file", "-"]
    done = subprocess.run(command, input="1\n2\n", cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "2 users deleted, 0 ids unknown.\n"
    assert await count(users, User) == 8


def at_a_terminal(typed: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script for a person who types this."""
    import pty  # noqa: PLC0415 Windows has none

    person, script = pty.openpty()
    os.write(person, typed.encode())
    command = [sys.executable, "-m", "app.users.clear", *arguments]
    try:
        return subprocess.run(
            command, stdin=script, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60
        )
    finally:
        os.close(person)
        os.close(script)


EOF = "\x04"
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminal")


@posix
@pytest.mark.parametrize(
    ("typed", "arguments"),
    [("y\n", ["1", "2", "99"]), ("YES\n", ["1", "2", "99"]), (f"1\n2\n99\n{EOF}y\n", ["--file", "-"])],
)
async def test_at_a_terminal_the_script_asks_before_it_deletes(
    users: DatabaseSessionManager, typed: str, arguments: list[str]
) -> None:
    url = get_settings().database_url
    done = at_a_terminal(typed, *arguments)
    place = f"{url.host}:{url.port}" if url.host else url.query["host"]
    assert done.stderr.endswith(f"Delete 2 users from {place}/{url.database}? [y/N] ")
    assert not url.password or url.password not in done.stderr
    assert (done.returncode, done.stdout) == (0, "2 users deleted, 1 ids unknown.\n")
    assert await count(users, User) == 8


@posix
@pytest.mark.parametrize("typed", ["\n", "n\n", "maybe\n", EOF])
async def test_without_a_yes_nothing_is_deleted(users: DatabaseSessionManager, typed: str) -> None:
    done = at_a_terminal(typed, "1", "2")
    assert done.returncode == 1
    assert done.stderr.endswith("? [y/N] Nothing was deleted.\n")
    assert await count(users, User) == 10


@posix
@pytest.mark.parametrize(("option", "left"), [("--yes", 9), ("--dry-run", 10)])
async def test_an_option_that_settles_it_asks_nothing(
    users: DatabaseSessionManager, option: str, left: int
) -> None:
    done = at_a_terminal("", option, "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert await count(users, User) == left


@pytest.mark.parametrize("bad", ["x", "-1", "0", "1.5", str(2**63), "9" * 5_000, "²"])
def test_what_is_not_an_id_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"line 3: .* is not a user id"):
        read_ids(["1\n", "2\n", f"{bad}\n"])


async def test_a_bad_id_is_named_by_its_line_and_nothing_is_deleted(
    users: DatabaseSessionManager, tmp_path: Path
) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("1\n2\nx\n")
    done = run("-m", "app.users.clear", "--file", str(ids))
    assert done.returncode == 2
    assert "line 3: " in done.stderr
    assert "Traceback" not in done.stderr
    assert await count(users, User) == 10


@pytest.mark.parametrize("arguments", [["1", "x"], ["--file", "missing.txt"], ["1", "--file", "-"]])
def test_a_wrong_command_line_exits_with_2(arguments: list[str]) -> None:
    done = run("-m", "app.users.clear", *arguments)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_is_away_is_one_clear_line() -> None:
    done = run("-m", "app.users.clear", "1", DATABASE_URL="postgresql://u:s3cret@127.0.0.1:1/db")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stderr
