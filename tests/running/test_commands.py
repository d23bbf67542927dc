"""Every command of the READMEs and of `docs/` runs for an ordinary user, or has a reason here."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Callable, Generator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import httpx2
import pytest
from httpx2 import TransportError

from tests.conftest import TEMPLATE, git

PROJECT = TEMPLATE / "{{cookiecutter.project_slug}}"
BLOCK = re.compile(r"^```(?:console|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
MARK = "the command ended with"
SECONDS = 200
NOBODY = 65534  # the user and the group
NOT_RUN = {
    "these are the tests of the template": [r".*uv run pytest -n 2"],
    "the next line runs the same tests": [r"uv run pytest +#"],
    "tests/running/test_drills.py follows this section": [
        r".* revision ",
        r"uv run python -m dev alembic upgrade",
    ],
    "there is no container engine, and no registry": [r"(.* )?docker "],
    "there is no cluster": [r"kubectl ", r"rm service_url owner_url"],
    "there is no such server": [r"psql 'postgresql://administrator@host"],
    "there are no tenants; tests/service/habits/test_recipes.py has some": [
        r"uv run python -m migrations.tenants"
    ],
    "these are settings": [r"(export )?(DATABASE|OTEL)_\w+=\S+( +#.*)?$"],
}
SERVERS = re.compile(r".*(python -m dev( --.*)?|uvicorn app.main:app .*)$")
ELSEWHERE = re.compile(r"uvx (cookiecutter gh:|cruft create )")  # starts a project in another folder
ON_A_DATABASE = re.compile(r"uv run (python -m (app|migrations)\.|alembic )")


def commands(text: str) -> list[str]:
    """Return the commands in the blocks of a document."""
    blocks = "".join(BLOCK.findall(text)).replace("{{ cookiecutter.project_slug }}", "my-service")
    return [line for line in blocks.replace("\\\n", "").splitlines() if line]


def to_run(text: str) -> list[str]:
    """Return the commands that can run on such a machine."""
    not_run = [pattern for patterns in NOT_RUN.values() for pattern in patterns]
    return [each for each in commands(text) if not any(re.match(pattern, each) for pattern in not_run)]


class Shell:
    """A shell of an ordinary user's, and the servers that were started in it."""

    def __init__(self, house: "House", folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = str(probe.getsockname()[1])
        self._log = house.folder / f"shell-{self._port}.log"
        self._ended = 0
        self._output = self._log.open("w")
        self._process = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env=house.environment | {"PORT": self._port, "UVICORN_PORT": self._port},
            text=True,
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=house.user,
            group=house.user,
            extra_groups=None if house.user is None else [],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        with self._process, self._output:  # closes what it is told through, and waits
            pass
        wait_until(lambda: not has_members(self._process.pid), lambda: self.log)

    def run(self, command: str) -> str:
        """Run a command, or start a server and wait until it answers; return what a command printed."""
        begin = len(self.log)
        if SERVERS.match(command):
            self._write(f"{{ {command}\n}} < /dev/null &")
            wait_until(self._answers, lambda: self.log)
            return ""
        self._ended += 1
        given = "<(yes '')" if ELSEWHERE.match(command) else "/dev/null"  # every answer is the default
        self._write(f"{{ {command}\n}} < {given}; status=$?; echo; echo {MARK} $status")
        wait_until(lambda: len(self._statuses()) == self._ended, lambda: self.log)
        assert self._statuses()[-1] == "0", f"{command}\n{self.log[begin:]}"
        return self.log[begin:].rpartition(f"\n{MARK}")[0]

    def _statuses(self) -> list[str]:
        return re.findall(rf"^{MARK} (\d+)$", self.log, re.MULTILINE)

    def _answers(self) -> bool:
        with suppress(TransportError):
            return httpx2.get(f"http://127.0.0.1:{self._port}/health/ready").status_code == 200
        return False

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.replace("127.0.0.1:8000", f"127.0.0.1:{self._port}") + "\n")
        self._process.stdin.flush()

    @property
    def log(self) -> str:
        return self._log.read_text()


def has_members(group: int) -> bool:
    """Tell whether a process of the group runs."""
    with suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


def wait_until(look: Callable[[], bool], log: Callable[[], str]) -> None:
    deadline = time.monotonic() + SECONDS
    while not look():
        assert time.monotonic() < deadline, log()
        time.sleep(0.05)


class House:
    """The home of an ordinary user: a clone of the template, which is github.com/org/template to git."""

    def __init__(self, folder: Path, repository: Path) -> None:
        self.folder, self.user = folder, ordinary_user()
        self.template = folder / "template"
        git(folder, "clone", "--quiet", str(repository), str(self.template))
        version = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]["version"]
        git(self.template, "tag", f"v{version}")  # the READMEs name the newest release
        kept = ("LANG", "PIP_", "UV_INDEX", "UV_DEFAULT", "SSL_", "HTTP", "http", "NO_PROXY", "no_proxy")
        self.environment = {name: value for name, value in os.environ.items() if name.startswith(kept)}
        path = os.environ["PATH"] if self.user is None else "/usr/local/bin:/usr/bin:/bin"
        self.environment |= {
            "HOME": str(folder),
            "PATH": f"{self.template / '.uv' / 'bin'}:{path}",
            "TMPDIR": tempfile.mkdtemp(dir=folder),
            "GIT_PAGER": "cat",
        }
        settings = [
            (f"url.{self.template}.insteadOf", "https://github.com/org/template"),
            (f"url.{self.template}.insteadOf", "https://github.com/org/template.git"),
            ("user.name", "Ada"),
            ("user.email", "ada@example.com"),
        ]
        self.environment["GIT_CONFIG_COUNT"] = str(len(settings))
        for number, (name, value) in enumerate(settings):
            self.environment |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        self.take_over(folder)

    def take_over(self, folder: Path) -> None:
        """Give the folder to the user."""
        if self.user is not None:
            subprocess.run(["chown", "--recursive", f"{self.user}:{self.user}", str(folder)], check=True)

    def elsewhere(self) -> Path:
        """Return a new folder."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        self.take_over(folder)
        return folder


def ordinary_user() -> int | None:
    """Return the id of a user for root to become; nobody needs to become another."""
    return NOBODY if hasattr(os, "geteuid") and os.geteuid() == 0 else None


@pytest.fixture(scope="module")
def house(template_repository: Path) -> Generator[House]:
    with tempfile.TemporaryDirectory(prefix="house-") as name:
        Path(name).chmod(0o755)
        yield House(Path(name), template_repository)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the commands are those of a POSIX shell")
def test_the_commands_of_the_readmes_and_of_the_pages_work(house: House) -> None:
    with ExitStack() as shells:
        shell = shells.enter_context(Shell(house, house.template))
        for command in to_run((TEMPLATE / "README.md").read_text()):
            if ELSEWHERE.match(command):
                shells.close()
                shell = shells.enter_context(Shell(house, house.elsewhere()))
            shell.run(command)

    project = house.template / "my-service"  # the first command made it
    (project / "ids.txt").write_text("1\n2\n")
    pages = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
    found = [command for page in pages for command in to_run(page.read_text())]
    of_production = [command for command in found if "--no-dev" in command]
    with Shell(house, project) as shell:
        serve, *others = [command for command in found if command not in of_production]
        shell.run(serve)
        urls = "env"
        for name in ("DATABASE_URL", "DATABASE_OWNER_URL"):
            urls += f" {name}={shell.run(f'uv run python -m dev printenv {name}').strip()}"
        for command in others:
            shell.run(f"{urls} {command}" if ON_A_DATABASE.match(command) else command)

        copy = house.elsewhere() / "production"  # `--no-dev` removes what development needs
        shutil.copytree(project, copy, ignore=shutil.ignore_patterns(".venv", ".postgres"))
        house.take_over(copy)
        with Shell(house, copy) as machine:
            for command in of_production:
                machine.run(f"export {urls.removeprefix('env ')}; {command}")


@pytest.mark.parametrize("reason", NOT_RUN)
def test_what_is_not_run_is_there(reason: str) -> None:
    pages = [TEMPLATE / "README.md", *PROJECT.glob("README.md"), *PROJECT.glob("docs/*.md")]
    pages += PROJECT.glob("deploy/*README.md*")
    found = [command for page in pages for command in commands(page.read_text())]
    for pattern in NOT_RUN[reason]:
        assert any(re.match(pattern, command) for command in found), pattern
