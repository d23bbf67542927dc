"""What is rendered for which answers."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.conftest import TEMPLATE, Bake, BakedProject, git

UNFIT_FOR_WINDOWS = re.compile(r'[<>:"|?*\\]')
GITHUB, GITLAB = ".github/workflows/ci.yml", ".gitlab-ci.yml"


def test_the_questions_come_in_their_order_with_their_defaults() -> None:
    questions = json.loads((TEMPLATE / "cookiecutter.json").read_text())
    public = {name: default for name, default in questions.items() if not name.startswith("_")}
    assert list(public.items()) == [
        ("project_name", "My Service"),
        ("project_slug", "{{ cookiecutter.project_name | slugify }}"),
        ("description", "A FastAPI service on PostgreSQL."),
        ("database_url", ""),
        ("database_schema", "{{ cookiecutter.project_slug | as_schema }}"),
        ("pool_size", 10),
        ("max_overflow", 0),
        ("pool_timeout", 5),
        ("pool_recycle", 1800),
        ("pool_pre_ping", "no"),
        ("ci", "github"),
        ("kubernetes", "no"),
    ]
    assert set(questions["__prompts__"]) == set(public)


def test_the_defaults_make_a_project(bake: Bake) -> None:
    project = bake()
    assert project.path.name == "my-service"
    assert tomllib.loads(project.read("pyproject.toml"))["project"]["name"] == "my-service"
    assert 'DATABASE_SCHEMA: str = "my_service"' in project.read("app/config.py")


def test_the_slug_and_the_schema_follow_the_name(bake: Bake) -> None:
    project = bake(project_name="Order Book 2")
    assert project.path.name == "order-book-2"
    assert 'DATABASE_SCHEMA: str = "order_book_2"' in project.read("app/config.py")


@pytest.mark.parametrize("way", ["cookiecutter", "cookiecutter 2.6", "uvx", "config file", "zip", "git"])
def test_every_way_in_renders_the_same(
    bake: Bake, home: Path, tmp_path: Path, template_repository: Path, way: str
) -> None:
    command, template, options = ["cookiecutter"], str(template_repository), ["pool_size=7"]
    if way == "uvx":
        command = ["uv", "tool", "run", "cookiecutter"]
    elif way == "cookiecutter 2.6":
        command = ["uv", "tool", "run", "cookiecutter@2.6.0"]
    elif way == "config file":
        config = tmp_path / "config.yaml"
        config.write_text("default_context:\n  pool_size: 7\n")
        options = ["--config-file", str(config)]
    elif way == "zip":
        template = str(tmp_path / "template.zip")
        git(template_repository, "archive", "--prefix=template-main/", f"--output={template}", "HEAD")
    elif way == "git":
        template = f"git+file://{template_repository}"
    output = tmp_path / "output"
    subprocess.run([*command, template, "--no-input", "-o", str(output), *options], check=True)
    expected, rendered = bake(pool_size="7"), BakedProject(output / "my-service")
    assert [path.relative_to(rendered.path) for path in rendered.files()] == [
        path.relative_to(expected.path) for path in expected.files()
    ]
    assert [path.read_bytes() for path in rendered.files()] == [
        path.read_bytes() for path in expected.files()
    ]


def test_rendering_leaves_no_bytecode_in_the_template(
    home: Path, tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    command = ["cookiecutter", str(template), "--no-input", "-o", str(tmp_path / "output")]
    for options in ([], ["--overwrite-if-exists"]):
        subprocess.run([*command, *options], check=True)
    assert git(template, "status", "--porcelain", "--ignored") == ""
    assert list((tmp_path / "output").rglob("__pycache__")) == []


@pytest.mark.parametrize(("ci", "present"), [("github", {GITHUB}), ("gitlab", {GITLAB}), ("none", set())])
def test_only_the_chosen_ci_is_rendered(bake: Bake, ci: str, present: set[str]) -> None:
    project = bake(ci=ci)
    assert {name for name in (GITHUB, GITLAB) if project.has(name)} == present
    assert project.has(".github") == (ci == "github")
    for name in present:
        assert yaml.safe_load(project.read(name))


def test_nothing_is_left_unrendered(bake: Bake) -> None:
    for ci in ("github", "gitlab"):
        project = bake(ci=ci, kubernetes="yes")
        for path in project.files():
            text = re.sub(r"\$\{\{ (matrix|github)\..*? \}\}", "", path.read_text(encoding="utf-8"))
            assert not re.search(r"\{\{|\{%|cookiecutter", text), path
            assert not re.search(r"\{\{|\{%|cookiecutter", str(path.relative_to(project.path))), path


def test_no_rendered_file_has_a_carriage_return_or_lacks_its_last_newline(bake: Bake) -> None:
    for path in bake(kubernetes="yes").files():
        content = path.read_bytes()
        assert b"\r" not in content, path
        assert content.endswith(b"\n"), path


def test_windows_can_check_out_every_path() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=TEMPLATE, capture_output=True, check=True).stdout
    paths = tracked.decode().split("\0")
    assert len(paths) > 40
    assert [path for path in paths if UNFIT_FOR_WINDOWS.search(path)] == []


def test_no_python_file_but_the_configuration_has_a_template_tag() -> None:
    project = TEMPLATE / "{{cookiecutter.project_slug}}"
    tagged = [path for path in project.rglob("*.py") if re.search(r"\{\{|\{%", path.read_text())]
    assert tagged == [project / "app" / "config.py"]
    assert "{%" not in (project / "app" / "config.py").read_text()


def test_without_a_url_no_database_is_named(bake: Bake) -> None:
    assert "\nDATABASE_URL=\n" in bake().read(".env")


URL = "postgresql://user:p'\\w$x${HOME}\"#%25@host/db"


def test_the_url_goes_to_the_ignored_env_and_nowhere_else(bake: Bake) -> None:
    project = bake(database_url=URL)
    holders = [path.name for path in project.files() if re.search(rb"p('|\\'|%27)", path.read_bytes())]
    assert holders == [".env"]
    assert ".env" in project.read(".gitignore").split()
    assert "\nDATABASE_URL=\n" in project.read(".env.example")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_env_is_readable_by_its_owner_alone(bake: Bake) -> None:
    assert (bake().path / ".env").stat().st_mode & 0o777 == 0o600


def test_the_answers_reach_the_settings(bake: Bake, environment: dict[str, str]) -> None:
    project = bake(
        project_name="Say \"hi\" \\ 'there' 🙂",
        project_slug="odd",
        description="# {} % $ ` </script> ''' é",
        database_url=URL,
        database_schema='Odd-Schema "x"',
        pool_size="100",
        max_overflow="7",
        pool_timeout="2",
        pool_recycle="60",
        pool_pre_ping="yes",
    )
    show = """
from app.config import *
from app.db import sessionmanager
import json, tomllib
settings = get_settings()
sessionmanager.init_db(settings)
pool = sessionmanager.engine.pool
print(json.dumps([
    PROJECT_NAME, DESCRIPTION, settings.database_schema, settings.database_url.password,
    [pool.size(), pool._max_overflow, pool.timeout(), pool._recycle, pool._pre_ping],
    tomllib.load(open("pyproject.toml", "rb"))["project"]["description"],
]))
"""
    done = subprocess.run(
        ["uv", "run", "python", "-c", show],
        cwd=project.path,
        env=environment,
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == [
        "Say \"hi\" \\ 'there' 🙂",
        "# {} % $ ` </script> ''' é",
        'Odd-Schema "x"',
        "p'\\w$x${HOME}\"#%",
        [100, 7, 2, 60, True],
        "# {} % $ ` </script> ''' é",
    ]


def test_the_hook_needs_the_standard_library_alone() -> None:
    hook = (TEMPLATE / "hooks" / "post_gen_project.py").read_text()
    imported = re.findall(r"^(?:from|import) (\w+)", hook, re.MULTILINE)
    assert imported
    assert set(imported) <= sys.stdlib_module_names


def test_the_command_line_renders_from_a_clone(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", TEMPLATE, clone], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "cookiecutter", ".", "--no-input", "-o", tmp_path],
        cwd=clone,
        env=os.environ | {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "my-service" / "app" / "main.py").exists()
