"""The rooms of the rendered project: what may import what, and how long a file may be."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TEMPLATE

APP = TEMPLATE / "{{cookiecutter.project_slug}}" / "app"
LINES = 150  # of a file that is meant to be read in one go


def imports(path: Path) -> Iterator[str]:
    """Yield the modules of `app` that a file imports from."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "app":
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "app")


def files(folder: str = "") -> list[Path]:
    return sorted((APP / folder).rglob("*.py"))


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("users", {"app.config", "app.db", "app.web", "app.users.models", "app.users.schemas"}),
        ("web", {"app.config", "app.db"}),
        ("db", {"app.config", "app.database_url"}),
    ],
)
def test_a_room_takes_what_the_faces_of_the_others_export(folder: str, allowed: set[str]) -> None:
    own = f"app.{folder}."
    found = {(path.name, module) for path in files(folder) for module in imports(path)}
    assert found
    assert {each for each in found if each[1] not in allowed and not f"{each[1]}.".startswith(own)} == set()


def test_the_application_names_rooms_and_the_routers_of_the_domains() -> None:
    assert set(imports(APP / "main.py")) == {"app.config", "app.db", "app.web", "app.users.routes"}


def test_what_a_room_exports_is_what_its_face_says() -> None:
    for folder in ("db", "web"):
        tree = ast.parse((APP / folder / "__init__.py").read_text(encoding="utf-8"))
        imported = {
            alias.asname or alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        [exported] = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        ]
        assert set(exported) == imported


def test_no_file_is_too_long_to_be_read_in_one_go() -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in files()}
    assert len(lengths) > 20
    assert {name: lines for name, lines in lengths.items() if lines > LINES} == {}


def test_what_libraries_keep_private_is_used_in_the_pool_alone() -> None:
    """Ruff's SLF001 finds such uses; no file has an exception from that rule."""
    assert [path.name for path in files() if "SLF001" in path.read_text(encoding="utf-8")] == []
    assert (
        "SLF001" not in (APP.parent / "pyproject.toml").read_text(encoding="utf-8").partition('"tests/*"')[0]
    )
