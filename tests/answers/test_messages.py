"""What is said at the prompt and on the command line, in one line each."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from tests.answers.ways import SECRET, cli, parsed
from tests.conftest import TEMPLATE, BakedProject


def test_the_command_line_says_what_is_wrong_in_one_line(home: Path, tmp_path: Path) -> None:
    done = cli("--no-input", "-o", str(tmp_path / "output"), "pool_size=abc")
    assert done.returncode == 1
    assert (done.stdout + done.stderr).splitlines() == [
        "pool_size is 'abc'. Allowed: a whole number from 1 to 10000."
    ]
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("poolsize=7", "There is no question 'poolsize'. Did you mean pool_size?"),
        ("slug=mine", "There is no question 'slug'. Did you mean project_slug?"),
        ("xyz=1", "There is no question 'xyz'. The questions are project_name, project_slug, description, "),
        (f"postgresql://u:{SECRET}@h/db?sslmode=require", "There is no question of that name. "),
    ],
)
def test_a_name_of_no_question_is_refused_with_the_name_that_was_meant(
    home: Path, tmp_path: Path, given: str, message: str
) -> None:
    done = cli("--no-input", "-o", str(tmp_path / "output"), "project_name=Mine", given)
    assert done.returncode == 1
    assert (done.stdout + done.stderr).startswith(message)
    assert (done.stdout + done.stderr).count("\n") == 1
    assert SECRET not in done.stdout + done.stderr
    assert not (tmp_path / "output").exists()
    assert not (home / ".cookiecutter_replay").exists()


def test_cruft_refuses_a_name_of_no_question(home: Path, tmp_path: Path, template_repository: Path) -> None:
    file = tmp_path / "answers.json"
    file.write_text('{"poolsize": "7"}')
    for option, value in [("--extra-context", file.read_text()), ("--extra-context-file", str(file))]:
        command = ["cruft", "create", str(template_repository), "--no-input", option, value]
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert (done.stdout + done.stderr).splitlines() == [
            "There is no question 'poolsize'. Did you mean pool_size?"
        ]
        assert {path.name for path in tmp_path.iterdir()} == {"home", "answers.json"}


def test_names_that_are_no_answers_are_left_alone(home: Path, tmp_path: Path) -> None:
    """A configuration file is for other templates, too; private names are cookiecutter's and cruft's."""
    config = tmp_path / "config.yml"
    config.write_text("default_context: {poolsize: 7, full_name: Ada, pool_size: 7}\n")
    private = [f"{name}=x" for name in ("_template", "_output_dir", "_repo_dir", "_checkout", "_mine")]
    done = cli("--no-input", "--config-file", str(config), "-o", str(tmp_path), *private)
    assert done.returncode == 0, done.stderr
    assert parsed(BakedProject(tmp_path / "my-service"))["pool_size"] == "7"


def test_cruft_says_what_is_wrong_in_one_line(home: Path, tmp_path: Path, template_repository: Path) -> None:
    answers = '{"project_slug": "../evil"}'
    command = ["cruft", "create", str(template_repository), "--no-input", "--extra-context", answers]
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert (done.stdout + done.stderr).startswith("project_slug is '../evil'. Allowed: ")
    assert (done.stdout + done.stderr).count("\n") == 1
    assert list((home / "tmp").iterdir()) == []


def test_parameters_of_other_tools_are_left_out_with_a_warning_that_names_them(
    home: Path, tmp_path: Path
) -> None:
    url = f"postgresql://u@h/db?schema={SECRET}&connection_limit=1&sslmode=require&application_name=a"
    done = cli("--no-input", "-o", str(tmp_path), f"database_url={url}")
    assert done.returncode == 0
    assert "database_url has parameters that are left out: connection_limit, schema." in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no /dev/full")
def test_a_terminal_that_takes_nothing_does_not_undo_the_project(home: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "--no-input", "-o", str(tmp_path)]
    with Path("/dev/full").open("w") as full:
        subprocess.run(command, stdout=full, check=True)
    assert (tmp_path / "my-service" / ".env").exists()
    assert list((home / "tmp").iterdir()) == []


def test_the_end_says_where_the_project_is_and_what_is_next(home: Path, tmp_path: Path) -> None:
    done = cli("--no-input", "-o", str(tmp_path))
    assert done.stderr == ""
    assert done.stdout.split("\n") == [
        "",
        f"Your project is in {tmp_path / 'my-service'}. In that folder:",
        "  uv run python -m dev    runs it",
        "  uv run pytest           tests it",
        "Commit uv.lock, which the first of them writes.",
        "",
    ]


def test_more_connections_than_a_stock_server_has_are_warned_of(home: Path, tmp_path: Path) -> None:
    done = cli("--no-input", "-o", str(tmp_path), "pool_size=90", "max_overflow=10")
    assert done.returncode == 0
    assert "= 110 connections for one worker, 220 for two" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="pexpect needs a POSIX terminal")
def test_on_a_terminal_a_wrong_answer_is_asked_again(home: Path, tmp_path: Path) -> None:
    arguments = ["-m", "cookiecutter", str(TEMPLATE), "-o", str(tmp_path)]
    plain = {**os.environ, "TERM": "dumb"}
    terminal = pexpect.spawn(
        sys.executable, arguments, encoding="utf-8", timeout=30, dimensions=(50, 200), env=plain
    )
    questions = json.loads((TEMPLATE / "cookiecutter.json").read_text())["__prompts__"]
    typed = {
        "project_name": ["Typed {{ x }}"], "project_slug": ["../evil", "typed"],
        "description": ["{% raw %} # é"],
        "database_url": ["sqlite:///x", ""], "database_schema": ["pg_x", "a b"], "pool_size": ["0", "no", ""],
        "max_overflow": [""], "pool_timeout": [""], "pool_recycle": [""], "pool_pre_ping": [""],
        "ci": ["nine", "none"], "kubernetes": ["perhaps", "n"],
    }  # fmt: skip
    assert typed.keys() == questions.keys()
    for number, (name, answers) in enumerate(typed.items(), start=1):
        for answer in answers:  # each time the same question
            words = f"[{number}/12] {questions[name]} (".split()  # on several lines, perhaps
            terminal.expect(r"\s+".join(map(re.escape, words)))
            terminal.expect_exact("):")
            terminal.sendline(answer)
            if answer != answers[-1]:
                terminal.expect(f"{name} (is '{answer}'|names sqlite|sqlite:// is not supported)")
    terminal.expect("Your project is in")
    terminal.wait()
    shown = parsed(BakedProject(tmp_path / "typed"))
    assert (shown["project_name"], shown["description"]) == ("Typed {{ x }}", "{% raw %} # é")
    assert (shown["database_schema"], shown["pool_size"]) == ("a b", "10")
