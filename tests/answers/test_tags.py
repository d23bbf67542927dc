"""An answer is data: nothing in it runs."""

import json
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cookiecutter.exceptions import FailedHookException

from tests.answers.ways import PRIVATE, PUBLIC, QUESTIONS, SECRET, Way, cli, parsed
from tests.conftest import Bake

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


@pytest.mark.slow
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
