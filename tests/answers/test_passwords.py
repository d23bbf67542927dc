"""A password is in `.env` alone."""

import json
import os
from pathlib import Path

import pytest
from cookiecutter.main import cookiecutter

from tests.answers.ways import SECRET, Way, cli, parsed
from tests.conftest import TEMPLATE, Bake


def test_a_password_is_in_env_alone(way: Way) -> None:
    url = f"postgresql://u:{SECRET}@h/db"
    project = way(database_url=url)
    assert parsed(project)["database_url"] == url
    written = [path for path in way.home.parent.rglob("*") if path.is_file()]
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == [project.path / ".env"]
    assert list((way.home / "tmp").iterdir()) == []


@pytest.mark.parametrize("copied", ["'{}'", '"{}"', " {} ", " '{} ' "])
def test_a_url_copied_with_quotes_keeps_its_password(way: Way, copied: str) -> None:
    url = f"postgresql://u:{SECRET}@h/db"
    assert parsed(way(database_url=copied.format(url)))["database_url"] == url


def test_an_env_that_exists_is_kept(bake: Bake, tmp_path: Path) -> None:
    project = cookiecutter(str(TEMPLATE), no_input=True, output_dir=str(tmp_path), default_config=True)
    env = Path(project) / ".env"
    env.write_text("MINE=1\n")
    cookiecutter(
        str(TEMPLATE), no_input=True, output_dir=str(tmp_path), default_config=True, overwrite_if_exists=True
    )
    assert env.read_text() == "MINE=1\n"


def test_a_password_on_the_command_line_is_warned_of(home: Path, tmp_path: Path) -> None:
    done = cli("--no-input", "-o", str(tmp_path), f"database_url=postgresql://u:{SECRET}@h/db")
    assert done.returncode == 0
    assert done.stderr.startswith("Warning: The password in database_url was given on the command line")
    assert done.stderr.count("\n") == 1
    assert SECRET not in done.stderr + done.stdout


def test_a_password_is_not_shown_with_an_error_of_another_answer(home: Path, tmp_path: Path) -> None:
    done = cli(
        "--no-input",
        "-o",
        str(tmp_path),
        "pool_size=abc",
        f"database_url=postgresql://u:{SECRET}@h/db",
    )
    assert done.returncode == 1
    assert SECRET not in done.stderr + done.stdout


def test_the_password_of_one_project_is_not_the_next_ones(bake: Bake) -> None:
    bake(database_url=f"postgresql://u:{SECRET}@h/db")
    assert SECRET not in bake(database_url="postgresql://u@h/db").read(".env")


def test_a_password_in_the_parameters_goes_to_env_alone(bake: Bake) -> None:
    project = bake(database_url=f"postgresql://h/db?user=u&password={SECRET}&sslmode=require")
    holding = [path.name for path in project.files() if SECRET in path.read_text(encoding="utf-8")]
    assert holding == [".env"]


def test_an_env_with_another_url_is_kept_and_said_so(home: Path, tmp_path: Path) -> None:
    assert cli("--no-input", "-o", str(tmp_path)).returncode == 0
    done = cli("--no-input", "-f", "-o", str(tmp_path), "database_url=postgresql://u@h/db")
    assert ".env was there and is kept as it is" in done.stdout
    assert "DATABASE_URL=\n" in (tmp_path / "my-service" / ".env").read_text()


def test_the_question_of_the_url_says_that_the_screen_shows_the_password() -> None:
    prompt = json.loads((TEMPLATE / "cookiecutter.json").read_text())["__prompts__"]["database_url"]
    assert "The screen shows what you type: write the password into .env" in prompt


@pytest.mark.skipif(os.name == "nt", reason="Windows has links for administrators alone")
def test_an_env_is_never_written_through_a_link(home: Path, tmp_path: Path) -> None:
    (tmp_path / "my-service").mkdir()
    (tmp_path / "my-service" / ".env").symlink_to(tmp_path / "outside")
    done = cli("--no-input", "-f", "-o", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    line = ".env is a link to a file that does not exist. It is kept, and nothing is written."
    assert done.stdout.splitlines()[0] == line
    assert not (tmp_path / "outside").exists()
