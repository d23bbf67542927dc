"""What the template reads inside cookiecutter: in each version, and in one that is different inside."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cookiecutter
import pexpect
import pytest

from tests.conftest import TEMPLATE, Bake, BakedProject

SECRET = "topsecret42"
VERSIONS = ["2.6.0", "2.7.0", "latest"]
WRONG = "pool_size is 'abc'. Allowed: a whole number from 1 to 10000."
NEEDS = "This template renders with cookiecutter 2.6 and 2.7: uvx 'cookiecutter<2.8'"
LOOKS = {
    "main.cookiecutter": ["", "context", "extra_context", "config_dict", "template_name"],
    "prompt.prompt_for_config": ["", "context", "no_input", "env", "prompts", "prefix"],
    "prompt.read_user_variable": [""],
    "generate.generate_files": ["", "context"],
    "hooks.run_hook": [""],
}


def run(*command: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def contents(project: BakedProject) -> dict[str, bytes]:
    return {str(path.relative_to(project.path)): path.read_bytes() for path in project.files()}


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_renders_the_same_with_all_checks(
    bake: Bake, home: Path, tmp_path: Path, version: str
) -> None:
    output, url = tmp_path / "output", f"postgresql://u:{SECRET}@h/db"
    command = ["uv", "tool", "run", "--quiet", f"cookiecutter@{version}", str(TEMPLATE), "-o", str(output)]
    refused = run(*command, "--no-input", "pool_size=abc")
    assert (refused.returncode, refused.stdout + refused.stderr) == (1, f"{WRONG}\n")
    refused = run(*command, "--no-input", "poolsize=7")
    assert refused.returncode == 1
    assert "Did you mean pool_size?" in refused.stdout + refused.stderr
    assert not output.exists()

    done = run(*command, "--no-input", f"database_url={url}", "pool_size=7")
    assert done.returncode == 0, done.stderr
    expected, rendered = bake(database_url=url, pool_size="7"), BakedProject(output / "my-service")
    assert contents(rendered) == contents(expected)
    replay = home / ".cookiecutter_replay" / f"{TEMPLATE.name}.json"
    assert SECRET not in replay.read_text()

    replay.write_text(replay.read_text().replace('"pool_size": "7"', '"pool_size": "abc"'))
    shutil.rmtree(output)
    refused = run(*command, "--replay")
    assert (refused.returncode, refused.stdout + refused.stderr) == (1, f"{WRONG}\n")
    assert not output.exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="pexpect needs a POSIX terminal")
@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_asks_again(home: Path, tmp_path: Path, version: str) -> None:
    command = ["uv", "tool", "run", "--quiet", f"cookiecutter@{version}", str(TEMPLATE), "-o", str(tmp_path)]
    shown = at_a_terminal(command, ["abc", "7"])
    assert WRONG in shown
    assert "Field(7, ge=1" in (tmp_path / "my-service" / "app" / "config.py").read_text()


def at_a_terminal(command: list[str], pool_sizes: list[str], path: Path | None = None) -> str:
    """Run the command at a terminal, with defaults for all answers but one; return what was shown."""
    environment = {**os.environ, "TERM": "dumb"} | ({"PYTHONPATH": str(path)} if path else {})
    terminal = pexpect.spawn(
        command[0], command[1:], encoding="utf-8", timeout=60, dimensions=(50, 400), env=environment
    )
    shown, sizes = "", iter(pool_sizes)
    while terminal.expect_exact(["):", pexpect.EOF]) == 0:
        shown += terminal.before
        terminal.sendline(next(sizes) if "Connections for writing that each" in terminal.before else "")
    terminal.close()
    return f"{shown}{terminal.before}"


def other_cookiecutter(folder: Path, place: str, variable: str) -> Path:
    """Copy cookiecutter to the folder, with another name for one of its functions or variables."""
    copy = folder / "cookiecutter"
    shutil.copytree(Path(cookiecutter.__file__).parent, copy)
    module, function = place.split(".")
    if not variable and function != "cookiecutter":
        for file in copy.glob("*.py"):
            file.write_text(re.sub(rf"\b{function}\b", f"other_{function}", file.read_text()))
        return folder
    file = copy / f"{module}.py"
    tree = ast.parse(file.read_text())
    [definition] = [x for x in tree.body if isinstance(x, ast.FunctionDef) and x.name == function]
    if variable:
        for node in ast.walk(definition):
            if isinstance(node, ast.Name) and node.id == variable:
                node.id = f"other_{variable}"
        if variable in [argument.arg for argument in definition.args.args]:
            definition.body[:0] = ast.parse(f"other_{variable} = {variable}; del {variable}").body
    else:
        definition.name = "other_cookiecutter"
        tree.body += ast.parse("cookiecutter = other_cookiecutter").body
    file.write_text(ast.unparse(ast.fix_missing_locations(tree)))
    return folder


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="pexpect needs a POSIX terminal")
@pytest.mark.parametrize(
    ("place", "variable"), [(place, variable) for place, names in LOOKS.items() for variable in names]
)
def test_a_different_cookiecutter_renders_with_the_checks_or_ends_in_one_line(
    home: Path, tmp_path: Path, place: str, variable: str
) -> None:
    path, output = other_cookiecutter(tmp_path / "path", place, variable), tmp_path / "output"
    command = [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "-o", str(output)]
    for answer in ("7", "abc"):
        url = f"postgresql://u:{SECRET}@h/db"
        done = run(*command, "--no-input", f"pool_size={answer}", f"database_url={url}", path=path)
        told = done.stdout + done.stderr
        assert "Traceback" not in told
        if done.returncode == 0:
            assert answer == "7"
            assert "Field(7, ge=1" in (output / "my-service" / "app" / "config.py").read_text()
            shutil.rmtree(output)
        else:
            lines = [line for line in told.splitlines() if not line.startswith("Warning: The password")]
            assert len(lines) == 1, told
            assert lines[0].endswith(NEEDS) or lines == [WRONG]
        assert not output.exists()
        kept = [file.read_text() for file in (home / ".cookiecutter_replay").glob("*")]
        assert SECRET not in "".join([told, *kept])
    shown = at_a_terminal(command, ["abc", "7"], path)
    assert "Traceback" not in shown
    if "No project was written" in shown or "Unable to load extension" in shown:
        assert not output.exists()
    else:
        assert WRONG in shown
        assert "Field(7, ge=1" in (output / "my-service" / "app" / "config.py").read_text()
