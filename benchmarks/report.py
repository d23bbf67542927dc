"""What a measure found, and RESULTS.md."""

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.database import value_of
from benchmarks.load import WRK
from benchmarks.servers import NAMES

HERE = Path(__file__).parent
LIBRARIES = [
    "fastapi",
    "starlette",
    "sqlalchemy",
    "asyncpg",
    "psycopg",
    "fastcrud",
    "uvicorn",
    "uvloop",
    "pydantic",
]
PICTURES: dict[str, Figure] = {}  # by name, until `write` writes them
mpl.rcParams["svg.hashsalt"] = "the same every time"
mpl.rcParams["font.size"] = 9
NOTE = (
    "One worker on one core. CPU is that of the server's process. [README.md](README.md) of this folder says "
    "who the contenders are. Compare within one table alone: the machine is not the same from one minute to "
    "the next. Ratios are medians of the ratios of each round, so they differ a little from dividing these "
    "numbers."
)


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
    columns: dict[str, dict[str, str]] = field(default_factory=dict)  # of the first table: cells by contender
    opening: str = ""  # a picture for the top of RESULTS.md
    measured: str = field(default_factory=lambda: f"*Measured on {place()}.*")

    def markdown(self) -> str:
        """Return the section as it stands in RESULTS.md."""
        return "\n\n".join([f"## {self.title}", self.measured, *self.text])


def document(sections: Sequence[Section]) -> str:
    """Return RESULTS.md: what is read in a minute, the goals, the details."""
    columns = {heading: cells for section in sections for heading, cells in section.columns.items()}
    rows = [
        [name, *(cells.get(contender, "") for cells in columns.values())]
        for contender, name in NAMES.items()
        if any(contender in cells for cells in columns.values())
    ]
    goals = [target for section in sections for target in section.targets]
    words = {True: "yes", False: "**no**", None: ""}
    parts = [
        "# Results",
        *(section.opening for section in sections if section.opening),
        *([table(["", *columns], rows)] if rows else []),
        NOTE,
        machine(),
        "## Goals",
        table(
            ["what", "wanted", "measured", "met"],
            [[goal.what, goal.wanted, goal.measured, words[goal.met]] for goal in goals],
        ),
        *(section.markdown() for section in sections),
    ]
    return "\n\n".join(parts) + "\n"


def write(text: str) -> None:
    """Write RESULTS.md and its pictures."""
    (HERE / "RESULTS.md").write_text(text)
    for name, figure in PICTURES.items():
        figure.savefig(HERE / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the first column is text, the others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the median, and the lowest and highest value if there are several."""
    middle = f"{median(values):,.{digits}f}"
    return f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})" if len(values) > 1 else middle


def picture(name: str, figure: Figure, alternative: str) -> str:
    """Keep a picture for `write` and return the Markdown that shows it."""
    PICTURES[name] = figure
    return f"![{alternative}]({name}.svg)"


def bars(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draw a panel for each title, with a bar for each contender: the median, and the range as a line."""
    figure = Figure(figsize=(4 * len(panels), 2.6), layout="constrained")
    for axes, (title, found) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        names = list(reversed(list(found)))
        middles = [median(found[name]) for name in names]
        around = [
            [middle - min(found[name]) for middle, name in zip(middles, names, strict=True)],
            [max(found[name]) - middle for middle, name in zip(middles, names, strict=True)],
        ]
        drawn = axes.barh(
            [NAMES[name] for name in names],
            middles,
            xerr=around,
            color=["#d1495b" if name == "service" else "#8d99ae" for name in names],
        )
        axes.bar_label(drawn, [f"{middle:,.0f}" for middle in middles], padding=3)
        axes.margins(x=0.28)  # room for the figures
        axes.set_title(title)
    return figure


def machine() -> str:
    """Return a paragraph about what everything ran on."""
    versions = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    return (
        f"{place()}; Python {platform.python_version()}, PostgreSQL {value_of('SHOW server_version')}, "
        f"{versions}; load from {'wrk' if WRK else 'Locust'}."
    )


def place() -> str:
    """Return the date and the machine."""
    processor = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = {line.partition(": ")[2] for line in processor.splitlines() if line.startswith("model name")}
    return ", ".join(
        [
            f"{datetime.now(UTC):%Y-%m-%d}",
            f"{platform.system()} {platform.machine()}",
            f"{os.cpu_count()} cores",
            *sorted(models),
        ]
    )
