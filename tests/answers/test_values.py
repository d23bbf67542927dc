"""Each value of each answer: refused, or harmless."""

import re
import tomllib

import pytest
from cookiecutter.exceptions import FailedHookException
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from local_extensions.checks import URLS
from local_extensions.names import DEPENDENCIES
from tests.answers.ways import SECRET, Way, invisible, parsed, seen
from tests.conftest import Bake

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


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=repr)
def test_a_wrong_answer_is_refused_and_leaves_nothing(way: Way, name: str, value: str) -> None:
    with pytest.raises(SystemExit if way.name == "cruft" else FailedHookException) as refused:
        way(**{name: value})
    message = str(refused.value)
    assert message.startswith(f"{name} ")
    assert "\n" not in message
    assert SECRET not in message
    assert list(way.output.glob("*")) == []


@pytest.mark.slow
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


# As key=value a tag is refused, and Jinja makes \n of \r.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0{\r")).filter(seen)


@pytest.mark.slow
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
    assert URLS.read_url(shown["database_url"]) == URLS.read_url(url)


def test_the_same_answers_give_the_same_bytes(bake: Bake) -> None:
    first, second = bake(project_name="Same"), bake(project_name="Same")
    assert [p.relative_to(first.path) for p in first.files()] == [
        p.relative_to(second.path) for p in second.files()
    ]
    assert [p.read_bytes() for p in first.files()] == [p.read_bytes() for p in second.files()]


@pytest.mark.parametrize(("name", "schema"), [("PG Admin", "app_pg_admin"), ("x" * 64, "x" * 63)])
def test_the_default_schema_is_one(bake: Bake, name: str, schema: str) -> None:
    assert f'DATABASE_SCHEMA: str = "{schema}"' in bake(project_name=name).read("app/config.py")


def test_what_the_project_is_made_from_cannot_be_its_name(bake: Bake) -> None:
    pyproject = tomllib.loads(bake().read("pyproject.toml"))
    needed = pyproject["project"]["dependencies"] + pyproject["dependency-groups"]["dev"]
    names = {re.split(r"[^\w-]", requirement)[0] for requirement in needed}
    assert names <= DEPENDENCIES


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
