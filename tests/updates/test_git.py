"""The branch of a project has the name that its owner gave."""

import re
from typing import Any

import pytest
import yaml

from tests.conftest import TEMPLATE, Bake


def test_the_ci_runs_on_a_branch_of_any_name(bake: Bake) -> None:
    github: dict[Any, Any] = yaml.safe_load(bake(ci="github").read(".github/workflows/ci.yml"))
    of_pushes = {name: given for name, given in github[True].items() if name != "schedule"}
    assert of_pushes == {"push": None, "pull_request": None}  # to YAML 1.1, `on` is a boolean
    gitlab = yaml.safe_load(bake(ci="gitlab").read(".gitlab-ci.yml"))
    for job in (gitlab["check"], gitlab["security"]):
        assert job.keys().isdisjoint({"only", "except"})
    assert "rules" not in gitlab["security"]
    of_any_branch = '$CI_PIPELINE_SOURCE != "schedule" && ($CI_COMMIT_BRANCH || $CI_COMMIT_TAG)'
    assert gitlab["check"]["rules"] == [{"if": of_any_branch}]
    assert "workflow" not in gitlab


@pytest.mark.parametrize("kubernetes", ["yes", "no"])
def test_a_repository_is_made_with_the_name_of_its_branch(bake: Bake, kubernetes: str) -> None:
    texts = [path.read_text() for path in [*TEMPLATE.glob("*.md"), *TEMPLATE.glob("hooks/*.py")]]
    texts += [path.read_text() for path in bake(kubernetes=kubernetes).files() if path.suffix == ".md"]
    made = [line for text in texts for line in re.findall("git init.*", text)]
    assert made
    assert [line for line in made if not line.startswith("git init -b main")] == []
