"""Words that moved: no text has a name of what is not there any more."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import TEMPLATE, Bake

# Of the service as it was: modules that are in app/db, app/web and app/users now.
MODULES = (
    "capacity|clear_users|connection|database|driver|engine|errors|logs|middleware|misuse|models|pool|problems"
    "|replica|routers|schemas|sessions|statements|telemetry"
)
ERRORS = "CommitInsideError|MisuseError|OutsideRequestError"
GONE = {
    "a module": rf"\bapp/(?:{MODULES})\b|\bfrom app import (?:{MODULES})\b",
    "an import": rf"\b(?:from|import|-m|\"|`)\s*app\.(?:{MODULES})\b",
    "the script": r"\bclear_users(?:\.py)?\b(?!_from_tables|\()|\btest_clear_users\b",
    "a test": r"\btests/(?:faults|scaling|routes|servers|test_dev|test_telemetry)\b",
    "a mark": r"-m \"?(?:not \()?(?:faults|scaling)|\bmark\.(?:faults|scaling)\b",
    "an error": rf"\b(?:{ERRORS})\b",
    "a refusal": r"get_db\W+(?:is|are|would be) refused|commit\(\)\W+(?:is|are) refused",
}
# They tell what was: a history, and this list.
HISTORY = ("CHANGELOG.md", "tests/rendering/test_words.py")


def found(path: Path) -> list[str]:
    """Return what of the gone is named in a file, with its line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:  # a picture
        return []
    return [
        f"{path}:{number}: {kind}: {line.strip()}"
        for number, line in enumerate(lines, start=1)
        for kind, pattern in GONE.items()
        if re.search(pattern, line)
    ]


def test_no_text_of_a_rendered_project_has_a_name_that_is_gone(bake: Bake) -> None:
    for ci in ("github", "gitlab"):
        files = bake(ci=ci, kubernetes="yes").files()
        assert [line for path in files for line in found(path)] == []


def test_no_text_of_the_template_has_a_name_that_is_gone() -> None:
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=TEMPLATE, capture_output=True, text=True, check=True).stdout
    files = [TEMPLATE / name for name in filter(None, names.split("\0")) if name not in HISTORY]
    assert [line for path in files if path.exists() for line in found(path)] == []


@pytest.mark.parametrize(
    "line",
    [
        "see `app/models.py`", "app/routers/users.py", "app/database", "from app import pool",
        "from app.database import sessionmanager", "python -m app.clear_users 1", "clear_users lets it count",
        "tests/faults/test_pool.py", "uv run pytest -m faults", '-m "not (faults or scaling)"',
        "raise OutsideRequestError", "Without a scope `get_db` is refused.", "`session.commit()` is refused",
    ],
)  # fmt: skip
def test_a_name_that_is_gone_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "text").write_text(f"x\n{line}\n")
    assert len(found(tmp_path / "text")) >= 1


@pytest.mark.parametrize(
    "line",
    [
        "app/database_url.py", "app/db/pool.py", "`app/users/models.py`", "app/db/", "app.models = 1",
        "from app.db.errors import SessionError", "import app.users.models", "tests/service/faults/",
        "clear_users_from_tables(session, ids)", "from app.setting_types import parse_database_url",
    ],
)  # fmt: skip
def test_a_name_that_is_there_is_not(tmp_path: Path, line: str) -> None:
    (tmp_path / "text").write_text(line)
    assert found(tmp_path / "text") == []
