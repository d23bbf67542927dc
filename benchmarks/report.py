"""What a measure found, and RESULTS.md."""

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.database import value_of
from benchmarks.load import WRK

HERE = Path(__file__).parent
LIBRARIES = ["fastapi", "starlette", "sqlalchemy", "asyncpg", "uvicorn", "uvloop", "pydantic"]
mpl.rcParams["svg.hashsalt"] = "the same every time"
mpl.rcParams["font.size"] = 9


@dataclass(frozen=True)
class Target:
    """Something that was to be reached, and whether it was."""

    what: str
    wanted: str
    measured: str
    met: bool | None = None  # None: nothing was wanted, it is reported


@dataclass
class Section:
    """What one measure found."""

    title: str
    targets: list[Target] = field(default_factory=list)
    text: list[str] = field(default_factory=list)  # paragraphs, tables, pictures

    def markdown(self) -> str:
        """Return the section as it stands in RESULTS.md."""
        return "\n\n".join([f"## {self.title}", *self.text])


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the first column is text, the others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the median, and the lowest and highest value if there are several."""
    middle = f"{median(values):,.{digits}f}"
    return f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})" if len(values) > 1 else middle


def picture(name: str, figure: Figure, alternative: str) -> str:
    """Write a picture beside RESULTS.md and return the Markdown that shows it."""
    figure.savefig(HERE / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
    return f"![{alternative}]({name}.svg)"


def summary(sections: Iterable[Section]) -> str:
    """Return the table of targets."""
    words = {True: "yes", False: "**no**", None: ""}
    rows = [
        [target.what, target.wanted, target.measured, words[target.met]]
        for section in sections
        for target in section.targets
    ]
    return table(["what", "wanted", "measured", "met"], rows)


def machine() -> str:
    """Return a paragraph about what everything ran on."""
    versions = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores; "
        f"Python {platform.python_version()}, PostgreSQL {value_of('SHOW server_version')}, {versions}; "
        f"load from {'wrk' if WRK else 'Locust'}."
    )
