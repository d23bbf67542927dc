"""Runs in the rendered project: write `.env`, tidy up, and say what to do next."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

DATABASE_URL = "{{ cookiecutter.database_url | in_quotes }}"  # without its password
SECRET_URL = os.environ.get("FASTAPI_TEMPLATE_DATABASE_URL")  # with it
DEPLOY = ("deploy/base", "deploy/overlays/production", "deploy/overlays", "deploy")
FOLDERS = [Path(name) for name in (".github/workflows", ".github", *DEPLOY)]  # the inner before the outer


def write_env(database_url: str) -> None:
    """Write `.env`, readable by its owner alone, from the example and the URL; keep one that exists."""
    env = Path(".env")
    try:
        env.touch(mode=0o600, exist_ok=False)  # a link is one that exists
    except FileExistsError:
        if not env.exists():
            say(".env is a link to a file that does not exist. It is kept, and nothing is written.")
        elif database_url:
            say(".env was there and is kept as it is: DATABASE_URL in it is not the one given now.")
        return
    settings = Path(".env.example").read_text(encoding="utf-8").partition("\n\n")[2]
    settings = settings.replace("DATABASE_URL=", f"DATABASE_URL={in_env(database_url)}", 1)
    env.write_text(settings, encoding="utf-8", newline="\n")


def in_env(url: str) -> str:
    """Return the URL as a shell, python-dotenv and Docker read it alike: what they would not is encoded."""
    kept = (letter if letter.isprintable() and letter not in "'\\$\"`" else quote(letter) for letter in url)
    return f"'{''.join(kept)}'" if url else ""


def remove_empty_folders() -> None:
    """Remove the folders of what was not chosen: of each file in them the name rendered to nothing."""
    for folder in FOLDERS:
        if not any(folder.iterdir()):
            folder.rmdir()


def say_what_is_next() -> None:
    """Print where the project is and how it is run and tested, unless `cruft` only compares versions."""
    say(f"\nYour project is in {Path.cwd()}. In that folder:")
    say("  uv run python -m dev    runs it")
    say("  uv run pytest           tests it")
    say("Commit uv.lock, which the first of them writes.")


def say(line: str) -> None:
    """Print the line if somebody reads it; a failure here must not undo the project."""
    if "FASTAPI_TEMPLATE_NEW_PROJECT" in os.environ:
        with suppress(OSError):
            os.write(1, f"{line}\n".encode(sys.stdout.encoding, errors="backslashreplace"))


Path(__file__).unlink()  # cookiecutter leaves its copies of hooks behind
write_env(SECRET_URL or DATABASE_URL)
remove_empty_folders()
say_what_is_next()
# Nothing is rendered after this. {{ cookiecutter | literal }}
