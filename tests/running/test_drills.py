"""What an owner does to a rendered project by its README: the example goes, a domain comes."""

import re
import shlex
import shutil

from tests.conftest import Bake, BakedProject
from tests.running.test_project import CHECKS as OF_PROJECT
from tests.running.test_project import run

CHECKS = [*OF_PROJECT, "python -m dev alembic upgrade head", "python -m dev alembic check"]


def check(project: BakedProject, environment: dict[str, str]) -> None:
    for command in CHECKS:
        run(["uv", "run", *command.split()], project.path, environment)


def section(project: BakedProject, begin: str, end: str) -> str:
    """Return a part of the project's README."""
    return project.read("README.md").split(begin, 1)[1].split(end, 1)[0]


def test_the_example_can_be_removed(bake: Bake, environment: dict[str, str]) -> None:
    project = bake()
    named = re.findall(r"`([\w/.]+)`", section(project, "**To delete the example**", "\n\n"))
    assert named == [
        "app/users/",
        "tests/test_users.py",
        "tests/test_notes.py",
        "tests/test_clear.py",
        "app/main.py",
        "migrations/versions/",
    ]
    shutil.rmtree(project.path / "app" / "users")
    for test in named[1:4]:
        (project.path / test).unlink()
    [revision] = (project.path / "migrations" / "versions").glob("*.py")
    revision.unlink()
    main = [line for line in project.read("app/main.py").splitlines(keepends=True) if "users" not in line]
    (project.path / "app" / "main.py").write_text("".join(main))
    check(project, environment)


def test_a_domain_can_be_added(bake: Bake, environment: dict[str, str]) -> None:
    """Every file and every command is the README's."""
    project = bake()
    readme = section(project, "## Add a domain", "\n## ")
    files = re.findall(r"<!-- file: ([\w./]+) -->\n```python\n(.*?)```\n", readme, re.DOTALL)
    assert [name for name, _ in files] == [
        "app/orders/__init__.py",
        "app/orders/models.py",
        "app/orders/routes.py",
        "tests/test_orders.py",
    ]
    for name, text in files:
        (project.path / name).parent.mkdir(exist_ok=True)
        (project.path / name).write_text(text)

    [lines] = re.findall(r"<!-- lines: app/main.py -->\n```python\n(.*?)```\n", readme, re.DOTALL)
    imported, included = lines.strip().split("\n\n")
    main = project.read("app/main.py")
    neighbour = "from app.users.routes import"
    assert main.count(neighbour) == 1
    (project.path / "app" / "main.py").write_text(
        main.replace(neighbour, f"{imported}\n{neighbour}") + included + "\n"
    )

    [commands] = re.findall(r"<!-- commands: revision -->\n```console\n(.*?)```\n", readme, re.DOTALL)
    for command in commands.splitlines():
        run(shlex.split(command), project.path, environment)
    [revision] = (project.path / "migrations" / "versions").glob("*_orders.py")
    for word in ("create_table", "ForeignKeyConstraint", "Enum(", "JSONB(", "Uuid("):
        assert word in revision.read_text()
    check(project, environment)

    for step in ("downgrade -1", "upgrade head", "check"):
        run(["uv", "run", "python", "-m", "dev", "alembic", *step.split()], project.path, environment)
