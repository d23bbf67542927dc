"""The script that deletes users."""

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.users.clear import clear_users_from_tables, count_users, main, read_ids
from app.users.models import Note, User


@pytest.fixture
async def session(session: AsyncSession) -> AsyncSession:
    """A session, and ten users who have two notes each."""
    for n in range(10):
        session.add(User(email=f"user{n}@example.com", notes=[Note(body="one"), Note(body="two")]))
    await session.commit()
    return session


async def count(session: AsyncSession, model: type[User | Note]) -> int:
    return await session.scalar(select(func.count()).select_from(model)) or 0


async def test_the_script_clears_the_users_of_a_file(session: AsyncSession, tmp_path: Path) -> None:
    first = await session.scalar(select(func.min(User.id))) or 0
    ids = tmp_path / "ids.txt"
    ids.write_text(f"{first}\n\n {first + 1} \n{first + 99}\n{first}\n")
    command = [sys.executable, "-m", "app.users.clear", "--yes", "--file", str(ids)]
    project = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("2 users deleted, 1 ids unknown.\n", "")
    assert (await count(session, User), await count(session, Note)) == (8, 16)


async def test_users_and_what_belongs_to_them_are_cleared(session: AsyncSession) -> None:
    ids = (await session.scalars(select(User.id).limit(3))).all()
    assert await count_users(session, ids) == 3
    assert await clear_users_from_tables(session, [*ids, 999_999]) == 3
    assert (await count(session, User), await count(session, Note)) == (7, 14)


async def test_more_ids_than_a_statement_has_parameters_are_cleared(session: AsyncSession) -> None:
    assert await clear_users_from_tables(session, range(1, 100_000)) == 10
    assert await count(session, Note) == 0


@pytest.mark.parametrize("bad", ["x", "0", str(2**63)])
def test_what_is_not_an_id_is_named_by_its_line(bad: str) -> None:
    with pytest.raises(ValueError, match=r"line 3: .* is not a user id"):
        read_ids(["1\n", "2\n", f"{bad}\n"])


@pytest.mark.parametrize("arguments", [["1", "x"], ["--file", "missing.txt"], ["1", "--file", "-"]])
def test_a_wrong_command_line_exits_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["clear", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "error: " in capsys.readouterr().err
