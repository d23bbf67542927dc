"""Record `docs/terminal.svg`: the first minutes with the template, at a real terminal.

`uv run python docs/terminal.py` needs the port 8000. git takes this clone for github.com/org/template:
the last commit is rendered, not the files as they are. The temporary folder is shown as /home/ada. Left
out are lines that differ from run to run, and symbols that many fonts do not have.
"""

import os
import re
import subprocess
import tempfile
from io import StringIO
from pathlib import Path

import pexpect
from rich.console import Console
from rich.text import Text

TEMPLATE = Path(__file__).parents[1]
PICTURE = Path(__file__).with_name("terminal.svg")
COLUMNS, SECONDS = 100, 120
SHOWN_AS = "/home/ada"
ANSWERS = {"Name of the project": "Order Book", "Schema of the tables": "orders"}
USER = """curl http://127.0.0.1:8000/users --json '{"email": "ada@example.com"}'"""
END_OF_DEFAULT = ")\x1b[0m"  # as rich colours it
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # of another server
LEFT_OUT = re.compile(r"process|Using import string|Will watch for changes")
SYMBOLS = re.compile("[\U0001f300-\U0001faff]")


def main() -> None:
    """Run the commands of the README, and write the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shown = [command("uvx cookiecutter gh:org/template"), questions(folder)]
        shown += [command("cd order-book && uv run python -m dev"), *serve(folder / "order-book")]
    text = "".join(shown).replace(name, SHOWN_AS).replace("\r\n", "\n")
    lines = [line.rstrip() for line in SYMBOLS.sub("  ", text).splitlines() if is_shown(line)]
    console = Console(record=True, width=COLUMNS, file=StringIO())
    console.print(Text.from_ansi("\n".join(lines)))
    console.print()  # rich cuts the last line, and its underscores with it
    picture = FONTS.sub("", console.export_svg(title="", unique_id="terminal"))
    PICTURE.write_text(f"{picture}\n", encoding="utf-8")


def is_shown(line: str) -> bool:
    """Tell whether a line with its colours is in the picture."""
    words = Text.from_ansi(line).plain.strip()
    return bool(words) and not LEFT_OUT.search(words)


def command(line: str) -> str:
    """Return a command as it is typed."""
    return f"\x1b[1m$ {line}\x1b[0m\n"


def spawn(line: str, folder: Path, home: Path) -> "pexpect.spawn[str]":
    """Start a command at a terminal of its own."""
    git = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{TEMPLATE}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/org/template.git",
    }
    ours = ("VIRTUAL_ENV", "DATABASE_")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    variables |= git | {"TERM": "xterm-256color", "UV_NO_PROGRESS": "1", "HOME": str(home)}
    asked = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True)
    variables["UV_CACHE_DIR"] = asked.stdout.strip()
    size = (60, COLUMNS)
    return pexpect.spawn(
        "bash", ["-c", line], cwd=folder, env=variables, encoding="utf-8", timeout=SECONDS, dimensions=size
    )


def questions(folder: Path) -> str:
    """Answer the questions, most of them with their default; return what was shown."""
    asked, shown = spawn("uvx --quiet cookiecutter gh:org/template", folder, home=folder), ""
    while asked.expect_exact([f"{END_OF_DEFAULT}: ", pexpect.EOF]) == 0:
        question = f"{asked.before}{asked.after}"
        answer = next((given for words, given in ANSWERS.items() if words in question), "")
        asked.sendline(answer)
        asked.expect_exact("\r\n")
        shown += f"{question}{answer}\n"
    return shown + str(asked.before)


def serve(project: Path) -> list[str]:
    """Serve the project, and create a user; return what was shown."""
    server = spawn("uv run --quiet python -m dev", project, home=project.parent)
    server.expect_exact("Application startup complete.")
    shown = f"{server.before}{server.after}\n"
    created = spawn(USER, project, home=project.parent)
    created.expect(pexpect.EOF)
    server.sendintr()
    server.expect(pexpect.EOF)
    return [shown, "\x1b[2m# in another terminal\x1b[0m\n", command(USER), str(created.before), "\n"]


if __name__ == "__main__":
    main()
