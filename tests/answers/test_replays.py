"""A replay is checked like any other way to answer."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.answers.ways import PRIVATE, QUESTIONS, Way, cli, parsed
from tests.conftest import TEMPLATE, BakedProject


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


@pytest.mark.parametrize("way", ["replay"], indirect=True)
def test_a_replay_with_tags_in_its_answers_shows_them(way: Way, run: str) -> None:
    tag = f"{{{{ {run} }}}}"
    shown = parsed(way(project_name=tag, description=tag))
    assert (shown["project_name"], shown["description"]) == (tag, tag)


def replayed(tmp_path: Path, **record: object) -> subprocess.CompletedProcess[str]:
    """Replay a record that has every name: cookiecutter asks and renders nothing of the template's."""
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


@pytest.mark.slow
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
