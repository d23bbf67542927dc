"""A project made with cruft follows the template, and keeps what its owner did to it."""

import json
from pathlib import Path

import pytest

from local_extensions.quoting import as_literal
from tests.conftest import commit, cruft, git

PROJECT = "{{cookiecutter.project_slug}}"


@pytest.fixture
def project(home: Path, template: Path, tmp_path: Path) -> Path:
    """A project made from a template of its own, committed, with an edit and a password of its owner's."""
    answers = json.dumps(
        {"project_slug": "mine", "database_url": "postgresql://u:first@h/db", "pool_size": "7"}
    )
    made = cruft(tmp_path, "create", str(template), "--no-input", "--extra-context", answers)
    assert made.returncode == 0, made.stderr
    assert "Your project is in" in made.stdout
    project = tmp_path / "mine"
    (project / ".env").write_text("DATABASE_URL=postgresql://u:mine@h/db\n")
    readme = project / "README.md"
    readme.write_text(readme.read_text() + "\nMy own words.\n")
    git(project, "init", "--quiet", "--initial-branch=main")
    commit(project, "My project")
    return project


def improve(template: Path) -> None:
    """Add a question, whose answer goes through a new filter of `local_extensions`."""
    questions = json.loads((template / "cookiecutter.json").read_text())
    prompts = questions.pop("__prompts__")
    questions |= {"greeting": "hello", "__prompts__": prompts | {"greeting": "Greeting"}}
    (template / "cookiecutter.json").write_text(json.dumps(questions, indent=4))
    extensions = template / "local_extensions" / "__init__.py"
    init = "        super().__init__(environment)\n"
    assert init in extensions.read_text()
    if "shout" not in extensions.read_text():
        more = f'{init}        environment.filters["shout"] = str.upper\n'
        extensions.write_text(extensions.read_text().replace(init, more))
    (template / PROJECT / "GREETING").write_text("{{ cookiecutter.greeting | shout }}\n")
    [workflow] = (template / PROJECT / ".github" / "workflows").iterdir()
    for name in ("app/config.py", "pyproject.toml", "Dockerfile", "compose.yaml", workflow):
        path = template / PROJECT / name
        path.write_text(path.read_text() + "# A newer version.\n")
    commit(template, "Greet")


def test_an_update_brings_the_new_and_keeps_the_owners(project: Path, home: Path) -> None:
    improve(project.parent / "template")
    before = {path.name for path in (home / "tmp").iterdir()}

    updated = cruft(project, "update", "--skip-apply-ask")
    assert updated.returncode == 0, updated.stdout + updated.stderr
    assert "Your project is in" not in updated.stdout
    assert (project / "GREETING").read_text() == "HELLO\n"
    for name in ("app/config.py", "pyproject.toml"):
        assert (project / name).read_text().endswith("# A newer version.\n")
    for name in (".github/workflows/ci.yml", "Dockerfile", "compose.yaml"):  # dependabot changes them, too
        assert "newer" not in (project / name).read_text()
    assert (project / "README.md").read_text().endswith("\nMy own words.\n")
    assert (project / ".env").read_text() == "DATABASE_URL=postgresql://u:mine@h/db\n"
    assert list(project.rglob("*.rej")) == []
    commit(project, "Update")

    assert cruft(project, "check").returncode == 0
    changed = [line for line in cruft(project, "diff").stdout.splitlines() if line[:1] in "+-" and line]
    assert {Path(line).name for line in changed if line.startswith(("+++", "---"))} == {"README.md"}
    assert [line[1:] for line in changed if not line.startswith(("+++", "---"))] == ["", "My own words."]
    assert {path.name for path in (home / "tmp").iterdir()} == before
    assert "first" not in (project / ".cruft.json").read_text()


def test_an_update_with_a_name_of_no_question_is_refused(project: Path) -> None:
    improve(project.parent / "template")
    given = json.dumps({"greting": "hi"})
    refused = cruft(project, "update", "--skip-apply-ask", "--variables-to-update", given)
    assert refused.returncode == 1
    assert refused.stdout + refused.stderr == "There is no question 'greting'. Did you mean greeting?\n"
    assert git(project, "status", "--porcelain") == ""

    given = json.dumps({"greeting": "hi"})  # which only the new template asks
    updated = cruft(project, "update", "--skip-apply-ask", "--variables-to-update", given)
    assert updated.returncode == 0, updated.stdout + updated.stderr
    assert (project / "GREETING").read_text() == "HI\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["description", "database_url", "__check_pool_size"])
def test_an_update_does_not_run_what_it_is_given(project: Path, tmp_path: Path, name: str) -> None:
    improve(project.parent / "template")
    run = "{{ cycler.__init__.__globals__.os.mkdir('%s') }}" % (tmp_path / "ran")
    given = ["--variables-to-update", json.dumps({name: run})]
    done = cruft(project, "update", "--skip-apply-ask", *given)
    assert not (tmp_path / "ran").exists()
    if name.startswith("_"):  # cruft drops it
        return
    assert done.returncode == 1
    assert (done.stdout + done.stderr).startswith(f"{name} holds {{{{, {{% or {{#")
    assert (done.stdout + done.stderr).count("\n") == 1
    assert git(project, "status", "--porcelain") == ""


@pytest.mark.slow
def test_a_question_that_is_no_more_does_not_stop_an_update(project: Path) -> None:
    template = project.parent / "template"
    improve(template)
    assert cruft(project, "update", "--skip-apply-ask").returncode == 0
    commit(project, "Update")
    git(template, "revert", "--no-edit", "HEAD")
    updated = cruft(project, "update", "--skip-apply-ask")
    assert updated.returncode == 0, updated.stdout + updated.stderr
    assert not (project / "GREETING").exists()


def test_a_conflict_is_marked_in_the_file(project: Path) -> None:
    config = project / "app" / "config.py"
    config.write_text(config.read_text() + "# Mine.\n")
    commit(project, "Edit")
    improve(project.parent / "template")
    updated = cruft(project, "update", "--skip-apply-ask")
    assert updated.returncode == 0, updated.stdout + updated.stderr
    text = config.read_text()
    assert "<<<<<<< ours\n# Mine.\n=======\n# A newer version.\n>>>>>>> theirs\n" in text
    assert list(project.rglob("*.rej")) == []
    assert (project / "GREETING").exists()  # the rest of the update is there
    assert "UU app/config.py" in git(project, "status", "--porcelain")


@pytest.mark.slow
def test_the_manifests_come_and_go_with_their_answer(project: Path) -> None:
    before = {path.relative_to(project) for path in project.rglob("*") if ".git" not in path.parts}
    for answer in ("yes", "no"):
        chosen = ["--variables-to-update", json.dumps({"kubernetes": answer})]
        updated = cruft(project, "update", "--skip-apply-ask", *chosen)
        assert updated.returncode == 0, updated.stdout + updated.stderr
        assert (project / "deploy" / "base" / "deployment.yaml").exists() == (answer == "yes")
        commit(project, "Update")
        assert "deploy" not in cruft(project, "diff").stdout
    assert {path.relative_to(project) for path in project.rglob("*") if ".git" not in path.parts} == before


@pytest.mark.slow
def test_a_project_whose_answers_hold_tags_is_updated(home: Path, template: Path, tmp_path: Path) -> None:
    typed = "{{ x }} {% raw %} {# {{{ {%- }}"
    given = {"project_slug": "mine", "description": as_literal(typed)}
    made = cruft(tmp_path, "create", str(template), "--no-input", "--extra-context", json.dumps(given))
    assert made.returncode == 0, made.stderr
    project = tmp_path / "mine"
    git(project, "init", "--quiet", "--initial-branch=main")
    commit(project, "My project")
    for _ in range(2):
        improve(template)
        updated = cruft(project, "update", "--skip-apply-ask")
        assert updated.returncode == 0, updated.stdout + updated.stderr
        assert cruft(project, "diff").stdout == ""
        assert f'DESCRIPTION: str = "{typed}"' in (project / "app" / "config.py").read_text()
        commit(project, "Update")
