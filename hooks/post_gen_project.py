"""Runs in the rendered project: write `.env`, and remove the folders of the CI that was not chosen."""

from pathlib import Path

DATABASE_URL = "{{ cookiecutter.database_url | in_quotes }}"


def write_env(database_url: str) -> None:
    """Write `.env`, readable by its owner alone, from the example and the URL that was answered."""
    env = Path(".env")
    env.touch(mode=0o600)
    example = Path(".env.example").read_text(encoding="utf-8")
    settings = example.partition("\n\n")[2]
    env.write_text(
        settings.replace("DATABASE_URL=", f"DATABASE_URL={quote(database_url)}", 1), encoding="utf-8"
    )


def quote(url: str) -> str:
    """Return the URL as python-dotenv reads it back: it would expand a `$`, which a URL may encode."""
    escaped = url.replace("\\", "\\\\").replace("'", "\\'").replace("$", "%24")
    return f"'{escaped}'" if url else ""


def remove_empty_folders() -> None:
    """A file whose name renders to nothing is skipped, its folder is not."""
    for folder in (Path(".github/workflows"), Path(".github")):
        if not any(folder.iterdir()):
            folder.rmdir()


write_env(DATABASE_URL)
remove_empty_folders()
