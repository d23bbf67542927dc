"""`.env` means the same to the service, to python-dotenv, to shells and to Docker, whatever the password."""

import json
import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from urllib.parse import unquote

import pytest
from dotenv import dotenv_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local_extensions.checks import URLS
from tests.conftest import Bake

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has neither these shells nor modes")
PASSWORDS = [
    "'", "''", "\\", "\\'", "\\\\'", "'; touch ran #", "\\'; touch ran #", "$(touch ran)", "`touch ran`",
    "${HOME}", "$HOME", "$", "a\nDATABASE_POOL_SIZE=1", "\n", "\r\n", "\t", "#", " # x", " ", "a  b", '"',
    "\"'\"", "!", "!!", "&", ";", "|", "<>", "~", "*", "%", "%27", "%'", "%2'", "%%", "é ü", "日本語", "🙂",
    "\u202e", "\u2028", "\xa0", "\x1b[31m", "\x7f", "=", "a=b", ":@/?#", "{{ x }}", "{% x %}", "{#", "\\n",
    "\\x27", "^", "(x)", "[x]", "{x}", ",",
]  # fmt: skip


def answer(password: str) -> str:
    return f"postgresql://u:{password}@h/db?sslmode=require&application_name=x"


def readings(env: Path) -> dict[str, str]:
    """Return DATABASE_URL as each program reads it in the file."""
    [line] = [
        line for line in env.read_text(encoding="utf-8").split("\n") if line.startswith("DATABASE_URL=")
    ]
    value = line.partition("=")[2]
    # Compose takes what is in single quotes literally, but for a backslash before a quote.
    [compose] = re.findall(r"'([^'\\]*)'", value)
    show = "import os, sys; sys.stdout.buffer.write(os.environb[b'DATABASE_URL'])"
    found = {
        "python-dotenv": dotenv_values(env)["DATABASE_URL"] or "",
        "python-dotenv, as text": dotenv_values(stream=StringIO(line))["DATABASE_URL"] or "",
        "docker run": value,  # literally, with the quotes: the service takes them off
        "compose": compose,
    }
    for shell in ("sh", "bash"):
        script = 'set -a; . ./.env; exec "$@"'
        command = [shell, "-euc", script, shell, sys.executable, "-c", show]
        done = subprocess.run(command, cwd=env.parent, capture_output=True, check=True)
        assert done.stderr == b""
        found[shell] = done.stdout.decode()
    return found


def password_of(url: str) -> str:
    return unquote(re.fullmatch(r"postgresql://u:(.*)@h:5432/db\?.*", URLS.read_url(url))[1])  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.parametrize("password", PASSWORDS, ids=ascii)
def test_every_program_reads_the_same_url(bake: Bake, password: str) -> None:
    project = bake(database_url=answer(password))
    before = project.files()
    found = readings(project.path / ".env")
    docker = found.pop("docker run")
    assert set(found.values()) == {docker[1:-1]}
    assert docker[0] + docker[-1] == "''"
    assert {password_of(url) for url in [docker, *found.values()]} == {unquote(password)}
    assert project.files() == before  # nothing ran


@pytest.mark.slow
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_password_is_read_as_it_was_given(bake: Bake, password: str) -> None:
    found = readings(bake(database_url=answer(password)).path / ".env")
    assert len({url.strip("'") for url in found.values()}) == 1
    assert {URLS.read_url(url) for url in found.values()} == {URLS.read_url(answer(password))}


def test_the_service_reads_the_password(bake: Bake, environment: dict[str, str]) -> None:
    urls = [
        url for text in PASSWORDS for url in readings(bake(database_url=answer(text)).path / ".env").values()
    ]
    show = """
import json, sys
from app.setting_types import parse_database_url
print(json.dumps([parse_database_url(url).password for url in json.load(sys.stdin)]))
"""
    command = ["uv", "run", "python", "-c", show]
    given = json.dumps(urls)
    done = subprocess.run(
        command, cwd=bake().path, env=environment, input=given, capture_output=True, text=True, check=True
    )
    expected = [unquote(text) for text in PASSWORDS for _ in range(len(urls) // len(PASSWORDS))]
    assert json.loads(done.stdout) == expected


def test_the_first_line_of_the_example_copies_it_for_its_owner_alone(bake: Bake) -> None:
    project = bake()
    env = project.path / ".env"
    env.unlink()
    command = project.read(".env.example").splitlines()[0].removeprefix("# To copy this file: ")
    subprocess.run(["sh", "-c", f"umask 022; {command}"], cwd=project.path, check=True)
    assert env.stat().st_mode & 0o777 == 0o600
    assert env.read_text() == project.read(".env.example")
    assert command in project.read("docs/containers.md")
