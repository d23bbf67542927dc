"""Answers: checked where they are given, harmless whatever they hold, and a password only in `.env`."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pexpect
import pytest
import yaml
from cookiecutter.exceptions import FailedHookException
from cookiecutter.main import cookiecutter
from cruft import create
from dotenv import dotenv_values
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import local_extensions
from tests.conftest import TEMPLATE, Bake, BakedProject

SECRET = "topsecret42"
CI_FILES = {"github": ".github", "gitlab": ".gitlab-ci.yml"}

REFUSED = [
    *[("project_name", value) for value in ["", "   ", "\n", "\x1b", "\u202e\u200b"]],
    *[
        ("project_slug", value)
        for value in [
            "", "../evil", "/etc/evil", "a/b", "a\\b", ".hidden", "-dash", "_under", "dot.", "dash-", "a b", " a",
            "FastAPI", "python_json.logger", "starlette", "é", "con", "NUL", "com1", "lpt9.txt", "x" * 65, "a\nb", "a:b", 'a"b', "a'b", "$HOME", "~", "..",
        ]
    ],
    *[
        ("database_url", value)
        for value in [
            SECRET, f"u:{SECRET}@h/db", "sqlite:///db", f"mysql://u:{SECRET}@h/db",
            f"postgresql+pg8000://u:{SECRET}@h/db", f"postgres:/u:{SECRET}@h/db", f"postgresql://u:{SECRET}@",
            f"postgresql://u:{SECRET}@h:port/db", f"postgresql://u:{SECRET}@h1:1,h2:x/db",
            f"postgresql://u:{SECRET}@h/db?sslmode=maybe", f"postgresql://u:{SECRET}@h/db?sslmod=require",
            f"postgresql://u:{SECRET}@h/db?target_session_attr=primary", f"postgresql://u@h/db?passwort={SECRET}",
            f"postgresql://u@h/db?sslpassword={SECRET}", f"postgresql://u:{SECRET}@h/db?connect_timeout=soon",
            f"{SECRET}://u@h/db", f"postgresql://u:{SECRET}@h:99999/db", f"postgresql://u:{SECRET}@h:0/db",
            f"postgresql://u:{SECRET}@a..b/db", "postgresql://h/db?sslmode=require&sslmode=disable",
            f"postgresql://u:{SECRET}@h1,h2/db?port=1,2,3", f"postgresql://u:{SECRET}@h1,\th2/db",
        ]
    ],
    *[("database_schema", value) for value in ["", "pg_mine", "x" * 64, "é" * 32, "a\0b", "$user", "information_schema"]],
    *[
        (name, value)
        for name in ["pool_size", "max_overflow", "pool_timeout", "pool_recycle"]
        for value in ["", "abc", "1.5", "-2", "1e3", "٣", "9" * 12, "1; import os"]
    ],
    *[(name, "a\udcffb") for name in ["project_name", "description", "database_schema"]],
    ("description", "a\0b"),
    ("database_url", f"postgresql://u:{SECRET}\0@h/db"),
    ("pool_size", "0"),
    ("pool_size", "10001"), ("pool_recycle", "0"),
    ("pool_timeout", "0"),
    ("pool_timeout", "601"),
    *[(name, value) for name in ["pool_pre_ping", "kubernetes"] for value in ["", "maybe", "2", "None"]],
    *[("ci", value) for value in ["", "jenkins", "git hub"]],
]  # fmt: skip

# No braces that open a tag: they are refused where cookiecutter would render them. See the tests below.
ODD_TEXTS = [
    '"', "'", "'''", '"""', "\\", "\\n", "a\nb", "a\tb", "%", "%s %(x)s", "#", "$", "${HOME}", "`id`", "$(id)",
    "</script>", "<b>&amp;c", "é ü ß", "日本語", "🙂", "a\u202eb", "a\u2028b", "a\x7fb", "x" * 300, " x ", "- x", "null", "[a]",
    "a: b", "{ }", "}}", "%}", "```", "<!--", "a|b", "# x", "1. x", "_x_ y_z", "&amp;", "0.0.0.0", "/tmp/x", "a\u200bb", "a\x1b[31mb", "\u202e",
]  # fmt: skip

ACCEPTED = [
    *[("project_name", text) for text in ODD_TEXTS[::2]],
    *[("description", text) for text in ["", *ODD_TEXTS]],
    *[("project_slug", slug) for slug in ["a", "A.b_c-1", "x" * 64, "console", "com10"]],
    *[
        ("database_schema", name)
        for name in ["MySchema", "my-schema", 'Odd-Schema "x"', "user", "a b", "a'b", "a\\b", "%(x)s", "🙂", "x" * 63]
    ],
    *[
        ("database_url", url)
        for url in [
            "postgres://u@h/db", "postgresql+asyncpg://h/db", "postgresql://u@[::1]:5/db", "POSTGRES://u@h/db",
            "postgresql+psycopg2://u@h/db", "postgresql://u@h1:1,h2/db?target_session_attrs=primary",
            "postgresql://u@/db", "postgresql://u@h", "postgresql://?service=mine", "'postgresql://u@h/db'",
            "postgresql://u@h/db?pool=5&schema=x&connection_limit=1", "postgresql://u@%2Frun/db?passfile=/x",
            "postgresql://u@/db?host=/run", "postgresql://h/db?sslmode=require&channel_binding=require", " postgresql://h/db ",
        ]
    ],
    *[("pool_size", "100"), ("pool_size", " 007 "), ("pool_recycle", "-1"), ("pool_timeout", "600")],
    *[("pool_pre_ping", value) for value in ["yes", "Yes", "y", "TRUE", "1", "on", "n", "False", "off", " no "]],
    *[("kubernetes", value) for value in ["yes", "Y", " True", "no", "OFF"]],
    *[("ci", value) for value in ["GitHub", " gitlab", "none"]],
]  # fmt: skip


class Way:
    """A way to render the template with answers, without a terminal; `home` is all it can write to besides."""

    def __init__(self, name: str, home: Path, repository: Path) -> None:
        self.name, self.home, self.output = name, home, home / "output"
        self._repository = repository

    def __call__(self, **answers: str) -> BakedProject:
        project: str | Path
        if self.name == "cruft":
            project = create(str(self._repository), self.output, default_config=True, extra_context=answers)
        elif self.name == "replay":
            self._record(answers)
            project = self._cookiecutter({}, replay=True)
        elif self.name == "config file":
            project = self._cookiecutter(answers, no_input=True)
        else:
            project = self._cookiecutter({}, no_input=True, extra_context=answers)
        return BakedProject(Path(project))

    def _cookiecutter(self, configured: dict[str, str], **options: object) -> str:
        folders = {"replay_dir": str(self.home / "replay"), "cookiecutters_dir": str(self.home / "templates")}
        config = folders | {"default_context": configured}
        project: str = cookiecutter(
            str(TEMPLATE), output_dir=str(self.output), default_config=config, **options
        )
        return project

    def _record(self, answers: dict[str, str]) -> None:
        """Write the replay file that these answers would have left, had they been accepted."""
        questions = json.loads((TEMPLATE / "cookiecutter.json").read_text())
        given = {"project_slug": "replayed", "database_schema": "replayed", "ci": "github"} | answers
        asked = {name: value for name, value in questions.items() if not name.startswith("_")}
        folder = self.home / "replay"
        folder.mkdir()
        (folder / f"{TEMPLATE.name}.json").write_text(json.dumps({"cookiecutter": asked | given}))


@pytest.fixture(params=["key=value", "config file", "replay", "cruft"])
def way(request: pytest.FixtureRequest, home: Path, template_repository: Path) -> Way:
    return Way(request.param, home, template_repository)


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=repr)
def test_a_wrong_answer_is_refused_and_leaves_nothing(way: Way, name: str, value: str) -> None:
    with pytest.raises(SystemExit if way.name == "cruft" else FailedHookException) as refused:
        way(**{name: value})
    message = str(refused.value)
    assert message.startswith(f"{name} ")
    assert "\n" not in message
    assert SECRET not in message
    assert list(way.output.glob("*")) == []


@pytest.mark.parametrize(("name", "value"), ACCEPTED, ids=repr)
def test_an_odd_answer_is_harmless(way: Way, name: str, value: str) -> None:
    shown = parsed(way(**{"project_slug": "odd", "database_schema": "odd", name: value}))
    expected = value.strip().strip("'") if name == "database_url" else value
    if name in ("pool_pre_ping", "kubernetes"):
        expected = "yes" if value.strip()[0] in "yYtT1" or value == "on" else "no"
    elif name.startswith("pool"):
        expected = str(int(value))
    elif name == "ci":
        expected = value.strip().lower()
    assert shown[name] == expected


def parsed(project: BakedProject) -> dict[str, Any]:
    """Parse every file that a program reads; return the answers as those programs see them."""
    for path in project.files():
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            ast.parse(text)
        elif path.suffix in (".yml", ".yaml"):
            yaml.safe_load(text)
    pyproject = tomllib.loads(project.read("pyproject.toml"))["project"]
    constants = {
        node.target.id: ast.literal_eval(node.value)
        for node in ast.parse(project.read("app/config.py")).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value
    }
    assert pyproject["description"] == constants["DESCRIPTION"]
    title, paragraph = shown_lines(project.read("README.md"))[:2]
    assert title == seen(constants["PROJECT_NAME"])
    if described := seen(constants["DESCRIPTION"]):
        assert paragraph == described
    return {
        "project_name": constants["PROJECT_NAME"],
        "project_slug": pyproject["name"],
        "description": constants["DESCRIPTION"],
        "database_schema": constants["DATABASE_SCHEMA"],
        **dict(re.findall(r"database_(pool_\w+): \w+ = Field\((-?\d+)", project.read("app/config.py"))),
        "pool_pre_ping": "yes"
        if "database_pool_pre_ping: bool = True\n" in project.read("app/config.py")
        else "no",
        "ci": next((ci for ci, file in CI_FILES.items() if project.has(file)), "none"),
        "kubernetes": "yes" if project.has("deploy/base") else "no",
        "database_url": dotenv_values(stream=StringIO(project.read(".env")))["DATABASE_URL"],
    }


def seen(text: str) -> str:
    """Return what a reader sees of the text on one line."""
    visible = "".join(letter for letter in " ".join(text.split()) if not invisible(letter))
    return " ".join(visible.split())


def invisible(letter: str) -> bool:
    """Tell whether it is a control character, or one that changes how others are shown."""
    return unicodedata.category(letter) in ("Cc", "Cf")


def shown_lines(markdown: str) -> list[str]:
    """Return what a reader sees of the headings and paragraphs: their text, where nothing but text is in them."""
    blocks = [token for token in MarkdownIt().parse(markdown) if token.type == "inline"]
    assert {child.type for block in blocks[:1] for child in block.children or []} <= {"text", "text_special"}
    return ["".join(child.content for child in block.children or []) for block in blocks]


# As key=value a tag is refused, and Jinja makes \n of \r.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0{\r")).filter(seen)


@given(name=texts, description=texts, schema=texts, password=texts)
@settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)  # to shrink an example takes minutes
def test_any_text_is_harmless(bake: Bake, name: str, description: str, schema: str, password: str) -> None:
    schema = schema.encode()[:60].decode(errors="ignore").replace("pg_", "") or "x"
    url = f"postgresql://u:{password}@h/db"
    project = bake(
        project_name=name,
        project_slug="any",
        description=description,
        database_schema=schema,
        database_url=url,
    )
    shown = parsed(project)
    assert (shown["project_name"], shown["description"]) == (name, description)
    assert shown["database_schema"] == schema
    assert local_extensions.URLS.read_url(shown["database_url"]) == local_extensions.URLS.read_url(url)


def test_the_same_answers_give_the_same_bytes(bake: Bake) -> None:
    first, second = bake(project_name="Same"), bake(project_name="Same")
    assert [p.relative_to(first.path) for p in first.files()] == [
        p.relative_to(second.path) for p in second.files()
    ]
    assert [p.read_bytes() for p in first.files()] == [p.read_bytes() for p in second.files()]


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


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cookiecutter", str(TEMPLATE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


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


def test_an_edited_replay_is_refused_in_one_line(home: Path, tmp_path: Path) -> None:
    assert cli("--no-input", "-o", str(tmp_path / "first")).returncode == 0
    file = home / ".cookiecutter_replay" / f"{TEMPLATE.name}.json"
    file.write_text(file.read_text().replace('"pool_size": "10"', '"pool_size": "abc"'))
    done = cli("--replay", "-o", str(tmp_path / "output"))
    assert done.returncode == 1
    assert (done.stdout + done.stderr).splitlines() == [
        "pool_size is 'abc'. Allowed: a whole number from 1 to 10000."
    ]
    assert not (tmp_path / "output").exists()


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


def test_parameters_of_other_tools_are_left_out_with_a_warning_that_names_them(
    home: Path, tmp_path: Path
) -> None:
    url = f"postgresql://u@h/db?schema={SECRET}&connection_limit=1&sslmode=require&application_name=a"
    done = cli("--no-input", "-o", str(tmp_path), f"database_url={url}")
    assert done.returncode == 0
    assert "database_url has parameters that are left out: connection_limit, schema." in done.stderr
    assert SECRET not in done.stderr


def test_a_password_in_the_parameters_goes_to_env_alone(bake: Bake) -> None:
    project = bake(database_url=f"postgresql://h/db?user=u&password={SECRET}&sslmode=require")
    holding = [path.name for path in project.files() if SECRET in path.read_text(encoding="utf-8")]
    assert holding == [".env"]


def test_an_env_with_another_url_is_kept_and_said_so(home: Path, tmp_path: Path) -> None:
    assert cli("--no-input", "-o", str(tmp_path)).returncode == 0
    done = cli("--no-input", "-f", "-o", str(tmp_path), "database_url=postgresql://u@h/db")
    assert ".env was there and is kept as it is" in done.stdout
    assert "DATABASE_URL=\n" in (tmp_path / "my-service" / ".env").read_text()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no /dev/full")
def test_a_terminal_that_takes_nothing_does_not_undo_the_project(home: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "--no-input", "-o", str(tmp_path)]
    with Path("/dev/full").open("w") as full:
        subprocess.run(command, stdout=full, check=True)
    assert (tmp_path / "my-service" / ".env").exists()
    assert list((home / "tmp").iterdir()) == []


@pytest.mark.parametrize(("name", "schema"), [("PG Admin", "app_pg_admin"), ("x" * 64, "x" * 63)])
def test_the_default_schema_is_one(bake: Bake, name: str, schema: str) -> None:
    assert f'DATABASE_SCHEMA: str = "{schema}"' in bake(project_name=name).read("app/config.py")


def test_what_the_project_is_made_from_cannot_be_its_name(bake: Bake) -> None:
    pyproject = tomllib.loads(bake().read("pyproject.toml"))
    needed = pyproject["project"]["dependencies"] + pyproject["dependency-groups"]["dev"]
    names = {re.split(r"[^\w-]", requirement)[0] for requirement in needed}
    assert names <= local_extensions.DEPENDENCIES


def test_the_end_says_where_the_project_is_and_what_is_next(home: Path, tmp_path: Path) -> None:
    done = cli("--no-input", "-o", str(tmp_path))
    assert done.stderr == ""
    assert done.stdout.split("\n") == [
        "",
        f"Your project is in {tmp_path / 'my-service'}. In that folder:",
        "  uv run python -m dev    runs it",
        "  uv run pytest           tests it",
        "",
    ]


def test_more_connections_than_a_stock_server_has_are_warned_of(home: Path, tmp_path: Path) -> None:
    done = cli("--no-input", "-o", str(tmp_path), "pool_size=90", "max_overflow=10")
    assert done.returncode == 0
    assert "= 110 connections for one worker, 220 for two" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_question_of_the_url_says_that_the_screen_shows_the_password() -> None:
    prompt = json.loads((TEMPLATE / "cookiecutter.json").read_text())["__prompts__"]["database_url"]
    assert "The screen shows what you type: write the password into .env" in prompt


@pytest.mark.skipif(os.name == "nt", reason="pexpect needs a POSIX terminal")
def test_on_a_terminal_a_wrong_answer_is_asked_again(home: Path, tmp_path: Path) -> None:
    arguments = ["-m", "cookiecutter", str(TEMPLATE), "-o", str(tmp_path)]
    plain = {**os.environ, "TERM": "dumb"}
    terminal = pexpect.spawn(
        sys.executable, arguments, encoding="utf-8", timeout=30, dimensions=(50, 200), env=plain
    )
    questions = json.loads((TEMPLATE / "cookiecutter.json").read_text())["__prompts__"]
    typed = {
        "project_name": ["Typed {{ x }}"], "project_slug": ["../evil", "typed"], "description": ["{% raw %} # é"],
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


QUESTIONS = json.loads((TEMPLATE / "cookiecutter.json").read_text())
PUBLIC = [name for name in QUESTIONS if not name.startswith("_")]
PRIVATE = [name for name in QUESTIONS if name.startswith("_")]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[str]:
    """An expression that makes a folder if anything renders it."""
    folder = tmp_path / "ran"
    yield f"cycler.__init__.__globals__.os.mkdir('{folder}')"
    assert not folder.exists()


RENDERED = pytest.mark.parametrize("way", ["key=value", "config file", "cruft"], indirect=True)


@RENDERED
@pytest.mark.parametrize("name", PUBLIC)
def test_an_answer_that_would_run_is_refused(way: Way, run: str, name: str) -> None:
    with pytest.raises(SystemExit if way.name == "cruft" else FailedHookException) as refused:
        way(**{name: f"{SECRET}{{{{ {run} }}}}"})
    message = str(refused.value)
    assert message.startswith(f"{name} holds {{{{, {{% or {{#")
    assert "\n" not in message
    assert SECRET not in message
    assert list(way.output.glob("*")) == []


@RENDERED
@pytest.mark.parametrize("name", PRIVATE)
@pytest.mark.parametrize("value", ["", "{{{{ {} }}}}"])
def test_the_templates_own_names_cannot_be_given(way: Way, run: str, name: str, value: str) -> None:
    """cookiecutter refuses two of them itself: in a configuration file it warns, and takes its own value."""
    with warnings.catch_warnings(action="ignore"), suppress(FailedHookException, SystemExit, ValueError):
        way(**{name: value.format(run)})
        assert (way.name, name) in [("config file", "__checked"), ("config file", "_extensions")]
        return
    assert list(way.output.glob("*")) == []


@RENDERED
def test_nothing_runs_without_the_checks(way: Way, run: str) -> None:
    """cookiecutter takes an empty list for any list. The list in a list of `__checked` it cannot replace."""
    tag = f"{{{{ {run} }}}}"
    values: list[Any] = [[], [[]], {}, None, "", tag, [tag], [[tag]], {tag: tag}]
    for checked in values:
        without = {"_extensions": [], "__checked": checked}
        for answers in (dict.fromkeys(QUESTIONS, tag) | without, without | dict.fromkeys(PUBLIC, tag)):
            with warnings.catch_warnings(action="ignore"), suppress(Exception, SystemExit):
                way(**answers)


@pytest.mark.parametrize(
    "tag", ["{%- if 1 %}x{% endif %}", "{# x #}", "{{'{'}}", "{{{ '{' }}", "{{ '{' }}{{ 1 }}"]
)
def test_every_kind_of_tag_is_refused_in_one_line(home: Path, tmp_path: Path, tag: str) -> None:
    done = cli("--no-input", "-o", str(tmp_path / "output"), f"project_slug={tag}")
    assert done.returncode == 1
    assert (done.stdout + done.stderr).startswith("project_slug holds {{, {% or {#, which ")
    assert (done.stdout + done.stderr).count("\n") == 1
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("nested", ["[{}]", "{{a: {}}}", "{{a: {{b: [{}]}}}}", "{{{}: a}}"])
def test_a_tag_deep_in_a_configuration_file_is_refused(
    home: Path, tmp_path: Path, run: str, nested: str
) -> None:
    config = tmp_path / "config.yml"
    tag = json.dumps(f"{{{{ {run} }}}}")
    config.write_text(f"default_context: {{description: {nested.format(tag)}}}\n")
    done = cli("--no-input", "--config-file", str(config), "-o", str(tmp_path / "output"))
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("description holds {{, {% or {#, which ")
    assert done.stdout.count("\n") == 1
    assert not (tmp_path / "output").exists()


def test_a_default_does_not_render_the_answer_that_it_uses(bake: Bake) -> None:
    project = bake(project_name="{{ '{' }}{ 7 * 7 }}")  # which is {{ 7 * 7 }}, as if it were typed
    shown = parsed(project)
    assert (shown["project_name"], shown["project_slug"]) == ("{{ 7 * 7 }}", "7-7")
    assert shown["database_schema"] == "7_7"


@pytest.mark.parametrize("way", ["replay"], indirect=True)
def test_a_replay_with_tags_in_its_answers_shows_them(way: Way, run: str) -> None:
    tag = f"{{{{ {run} }}}}"
    shown = parsed(way(project_name=tag, description=tag))
    assert (shown["project_name"], shown["description"]) == (tag, tag)


def replayed(tmp_path: Path, **record: object) -> subprocess.CompletedProcess[str]:
    """Replay a record that has every name, so that cookiecutter asks and renders nothing of the template's."""
    answers = {name: value for name, value in QUESTIONS.items() if name != "__prompts__"}
    given = {"project_slug": "replayed", "database_schema": "replayed", "ci": "none", **record}
    file = tmp_path / "record.json"
    file.write_text(json.dumps({"cookiecutter": answers | {"__prompts__": {}} | given}))
    return cli("--replay-file", str(file), "-o", str(tmp_path / "within" / "output"))


def written(tmp_path: Path) -> set[str]:
    """Return what is there besides cookiecutter's own record and the output."""
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    own = ("home/tmp", "home/.cookiecutter_replay", "within/output")
    return {path for path in found if not path.startswith(own)} - {"home", "record.json", "within"}


def test_a_replay_with_every_private_name_stays_in_its_folder(home: Path, tmp_path: Path, run: str) -> None:
    outside = str(tmp_path / "outside")
    private = {name: f"{{{{ {run} }}}}" for name in PRIVATE if name != "_extensions"}
    private |= dict.fromkeys(("_template", "_output_dir", "_repo_dir", "_checkout", "_commit"), outside)
    done = replayed(tmp_path, **private)
    assert done.returncode == 0, done.stdout + done.stderr
    assert parsed(BakedProject(tmp_path / "within" / "output" / "replayed"))["project_slug"] == "replayed"
    assert written(tmp_path) == set()
    assert list((home / "tmp").iterdir()) == []


@pytest.mark.parametrize("slug", ["../evil", "../a/b", "..", "a/../../../evil", "{tmp_path}/evil"])
@pytest.mark.parametrize("options", [[], ["-f"]], ids=["new", "overwrite"])
def test_a_replay_is_checked_before_it_has_a_folder(
    home: Path, tmp_path: Path, slug: str, options: list[str]
) -> None:
    done = replayed(tmp_path, project_slug=slug.format(tmp_path=tmp_path))
    assert done.returncode == 1
    assert (done.stdout + done.stderr).startswith("project_slug is ")
    assert (done.stdout + done.stderr).count("\n") == 1
    assert written(tmp_path) == set()
    assert not (tmp_path / "within").exists()


@pytest.mark.parametrize("name", ["_copy_without_render", "_jinja2_env_vars", "_new_lines"])
def test_a_replay_does_not_configure_cookiecutter(home: Path, tmp_path: Path, name: str) -> None:
    value = {
        "_copy_without_render": ["*"],
        "_jinja2_env_vars": {"block_start_string": "#"},
        "_new_lines": "\r",
    }
    done = replayed(tmp_path, **{name: value[name]})
    assert done.returncode == 1
    assert done.stdout + done.stderr == f"'{name}' is unknown here. Take it out of the replay file.\n"
    assert not (tmp_path / "within").exists()


def test_a_replay_without_the_templates_extension_leaves_nothing(home: Path, tmp_path: Path) -> None:
    done = replayed(tmp_path, _extensions=[], project_slug="../evil")
    assert done.returncode == 1
    assert "'answers_are_checked' is undefined" in done.stderr
    assert written(tmp_path) == set()


@pytest.mark.parametrize("name", ["project_name", "description", "database_schema", "database_url"])
def test_no_file_has_a_control_character_of_an_answer(bake: Bake, name: str) -> None:
    hostile = (
        "".join(map(chr, range(1, 32))) + "\x7f\x85\x9b\u200b\u200d\u202a\u202e\u2028\u2066\ufeff\U000e0041"
    )
    answers = {"project_name": "a", "description": "b", "database_schema": "c", name: f"x{hostile}y"}
    if name == "database_url":
        answers[name] = f"postgresql://u{hostile}:{hostile}@h/db"
    project = bake(project_slug="odd", kubernetes="yes", **answers)
    for path in project.files():
        letters = set(path.read_bytes().decode()) - {"\n"}
        assert list(filter(invisible, letters)) == [], path


@pytest.mark.skipif(os.name == "nt", reason="Windows has links for administrators alone")
def test_an_env_is_never_written_through_a_link(home: Path, tmp_path: Path) -> None:
    (tmp_path / "my-service").mkdir()
    (tmp_path / "my-service" / ".env").symlink_to(tmp_path / "outside")
    done = cli("--no-input", "-f", "-o", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    line = ".env is a link to a file that does not exist. It is kept, and nothing is written."
    assert done.stdout.splitlines()[0] == line
    assert not (tmp_path / "outside").exists()
