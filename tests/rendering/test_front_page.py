"""What the front page says of the template and of its peers is what the files have."""

import html
import json
import re
from pathlib import Path

import pytest

from tests.conftest import TEMPLATE

README = (TEMPLATE / "README.md").read_text()
QUESTIONS = json.loads((TEMPLATE / "cookiecutter.json").read_text())
PICTURE = (TEMPLATE / "docs" / "terminal.svg").read_text(encoding="utf-8")
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/peers.md", "benchmarks/README.md"]
# Its column in the README, its name in benchmarks/RESULTS.md, and its contender.
PEERS = [
    (2, "FastAPI's full-stack 0.10.0", "fullstack"),
    (3, "s3rius 6.1.2", "s3rius"),
    (4, "benavlabs 0.19.0", "benavlabs"),
    (5, "rafsaf", "rafsaf"),
]


def table(text: str, first_line: str) -> list[list[str]]:
    """Return the rows of the table that begins so, the head included."""
    lines = text[text.index(first_line) :].split("\n\n", maxsplit=1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]


COMPARISON = table(README, "| | this template |")
ROUND_TRIPS = {
    row[0]: row[1:] for row in table((TEMPLATE / "benchmarks/RESULTS.md").read_text(), "|  | read |")
}


def test_the_table_of_the_questions_is_that_of_cookiecutter() -> None:
    rows = {row[0].strip("`"): row[1] for row in table(README, "| variable | default |")[1:]}
    asked = {name: default for name, default in QUESTIONS.items() if not name.startswith("_")}
    assert list(rows) == list(asked)
    literal = {name: str(default) for name, default in asked.items() if default and "{{" not in str(default)}
    assert {name: rows[name] for name in literal} == literal


def test_each_row_about_the_peers_says_where_it_was_read() -> None:
    where = table((TEMPLATE / "docs" / "peers.md").read_text(), "| row | full-stack |")
    assert [row[0] for row in where[1:]] == [row[0] for row in COMPARISON[1:]]
    assert {len(row) for row in where} == {len(COMPARISON[0]) - 1}
    assert all(cell for row in where for cell in row)


@pytest.mark.parametrize(("column", "name", "contender"), PEERS)
def test_a_peer_has_the_version_and_the_round_trips_of_the_benchmark(
    column: int, name: str, contender: str
) -> None:
    version = re.findall(r"[\d.]+\d", name)
    assert re.findall(r"[\d.]+\d", COMPARISON[0][column]) == version
    described = (TEMPLATE / "benchmarks" / "contenders" / f"{contender}.py").read_text()
    assert all(number in described.split("\n\n")[0] for number in version)
    read, _list, create, _delete = ROUND_TRIPS[name]
    assert (
        f"{read} and {create}" == next(row for row in COMPARISON if row[0].startswith("round trips"))[column]
    )


def test_a_library_that_fits_has_a_test() -> None:
    tested = {path.stem for path in (TEMPLATE / "tests" / "service" / "libraries").glob("test_*.py")}
    named = (
        "fastapi-users, fastcrud, fastapi-pagination, sqladmin, taskiq, Celery and polyfactory run unmodified"
    )
    assert named in " ".join(README.split())
    for library in re.split(r", | and ", named.removesuffix(" run unmodified")):
        assert f"test_{library.lower().replace('-', '_')}" in tested


def test_the_picture_shows_the_questions_and_nothing_of_a_machine() -> None:
    shown = " ".join(html.unescape(re.sub(r"<[^>]+>", "", PICTURE)).split())
    for question in QUESTIONS["__prompts__"].values():
        assert question in shown
    assert "@font-face" not in PICTURE
    assert set(re.findall(r"(?<![\w.:/])/(?:home|root|tmp|work|Users)/[\w-]*", shown)) == {"/home/ada"}


@pytest.mark.parametrize("page", PAGES)
def test_a_link_to_a_file_leads_there(page: str) -> None:
    path = TEMPLATE / page
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert [link for link in links if not (path.parent / Path(link)).exists()] == []
