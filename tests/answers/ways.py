"""The ways to give answers, and what a rendered project shows of them."""

import ast
import json
import re
import subprocess
import sys
import tomllib
import unicodedata
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from cookiecutter.main import cookiecutter
from cruft import create
from dotenv import dotenv_values
from markdown_it import MarkdownIt

from tests.conftest import TEMPLATE, BakedProject

SECRET = "topsecret42"


CI_FILES = {"github": ".github", "gitlab": ".gitlab-ci.yml"}


class Way:
    """A way to render with answers, without a terminal; `home` is all it can write to besides."""

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
    """Return what a reader sees of headings and paragraphs, where nothing but text is in them."""
    blocks = [token for token in MarkdownIt().parse(markdown) if token.type == "inline"]
    assert {child.type for block in blocks[:1] for child in block.children or []} <= {"text", "text_special"}
    return ["".join(child.content for child in block.children or []) for block in blocks]


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cookiecutter", str(TEMPLATE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


QUESTIONS = json.loads((TEMPLATE / "cookiecutter.json").read_text())
PUBLIC = [name for name in QUESTIONS if not name.startswith("_")]
PRIVATE = [name for name in QUESTIONS if name.startswith("_")]
