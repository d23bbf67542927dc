"""What the template adds to Jinja: how an answer is quoted, and how it is checked as soon as it is given.

cookiecutter has no hook between one question and the next. `cookiecutter.json` has a private variable after
each question instead, whose value is rendered there and then: `{{ cookiecutter | check('pool_size') }}`.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, MutableMapping
from types import FrameType
from typing import Any

from cookiecutter import replay
from cookiecutter.exceptions import FailedHookException
from jinja2 import Environment
from jinja2.ext import Extension
from rich.console import Console
from rich.prompt import Prompt

Answers = MutableMapping[str, Any]

# Where the hook finds the URL with its password. The answers hold it without: they go to the replay file, to
# .cruft.json and to a copy of each hook.
NEW_PROJECT = "FASTAPI_TEMPLATE_NEW_PROJECT"  # set for the hook where it is to say what is next
SECRET_URL = "FASTAPI_TEMPLATE_DATABASE_URL"  # noqa: S105 a variable's name

USABLE_CONNECTIONS = 97  # of the 100 that a stock PostgreSQL has
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
YES = ("yes", "y", "true", "t", "on", "1")
NO = ("no", "n", "false", "f", "off", "0")
EXAMPLE = "postgresql://user:password@host:5432/database"


class Filters(Extension):
    """The template's own filters."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.filters.update(in_quotes=in_quotes, check=check, check_all=check_all, literal=literal)
        # `cruft update` renders two versions of the template in one process: each is to load its own file.
        sys.modules.pop(__name__, None)


def in_quotes(text: object) -> str:
    """Return the text as it stands between double quotes in Python, TOML, YAML and JSON alike.

    The quotes stay in the template, which is thereby valid Python or TOML before it is rendered.
    """
    escaped = json.dumps(str(text), ensure_ascii=False)[1:-1]
    return escaped.replace("\x7f", "\\u007f")  # which TOML does not take as it is


def check(answers: Answers, name: str) -> str:
    """Check the answer to one question, and put it into its plain form; ask again where somebody can answer.

    Returns nothing to render.

    Raises:
        FailedHookException: it is wrong and nobody can be asked. cookiecutter shows the message and ends.
        SystemExit: the same, under cruft.
    """
    if name not in answers:  # a replay asks nothing: the answers are in the record
        answers = recorded_answers()
    while problem := settle(answers, name):
        if not can_ask():
            # cookiecutter shows the message of the one, cruft would wrap it in a traceback.
            raise SystemExit(problem) if under_cruft() else FailedHookException(problem)
        Console().print(f"  {problem}", style="red", markup=False, highlight=False)
        answers[name] = ask(name)
    if name == "max_overflow":
        warn_of_many_connections(int(answers["pool_size"]), int(answers["max_overflow"]))
    return ""


def settle(answers: Answers, name: str) -> str:
    """Put an answer into its plain form; return what is wrong with it, or nothing."""
    try:
        answers[name] = CHECKS[name](str(answers[name]))
    except ValueError as problem:
        return f"{name} {problem}"
    if name == "database_url":
        hide_password(answers)
    return ""


def check_all(answers: Answers) -> str:
    """Check every answer again, as the last thing before the project is rendered.

    Raises:
        FailedHookException: one is wrong.
    """
    hooks = logging.getLogger("cookiecutter.hooks")
    hooks.disabled = True  # an error would be logged with a traceback before cookiecutter shows its message
    for name in CHECKS:
        if problem := settle(answers, name):
            raise FailedHookException(problem)
    hooks.disabled = False
    os.environ.pop(NEW_PROJECT, None)
    for caller, known in callers():
        if caller == "cookiecutter":
            record_for_replay(**known)
        if caller in ("cookiecutter", "create"):  # not cruft's update, check or diff
            os.environ[NEW_PROJECT] = "yes"
    return ""


def literal(answers: Answers) -> str:
    """Write the answers so that they come out as they are when they are rendered: `cruft update` does that.

    Called when everything else is rendered, before cruft writes `.cruft.json`.
    """
    for name in CHECKS:
        answers[name] = re.sub(r"\{(?=[{%#])", "{{ '{' }}", answers[name])
    return ""


def recorded_answers() -> Answers:
    """Return the answers in cookiecutter's own record."""
    [record] = [known["context"] for caller, known in callers() if caller == "cookiecutter"]
    answers: Answers = record["cookiecutter"]
    return answers


def record_for_replay(
    config_dict: dict[str, Any], template_name: str, context: dict[str, dict[str, Any]], **_: object
) -> None:
    """Write cookiecutter's record again, with nothing but answers: a replay then runs the checks on them."""
    answers = {name: value for name, value in context["cookiecutter"].items() if not name.startswith("_")}
    replay.dump(config_dict["replay_dir"], template_name, context | {"cookiecutter": answers})


def can_ask() -> bool:
    """Tell whether cookiecutter is asking questions, on a terminal."""
    # cookiecutter tells its extensions nothing of --no-input: look at the function that called this one.
    asking = any(caller == "prompt_for_config" and not known["no_input"] for caller, known in callers())
    return asking and sys.stdin.isatty()


def under_cruft() -> bool:
    """Tell whether cruft renders the template, with functions of cookiecutter's."""
    return any(caller == "generate_cookiecutter_context" for caller, _ in callers())


def ask(name: str) -> str:
    """Ask a question again."""
    try:
        return Prompt.ask(f"  {name}", default="", show_default=False)
    except (EOFError, KeyboardInterrupt):
        raise FailedHookException(f"{name} was not answered.") from None


def callers() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the variables of each function that is being called, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame := frame and frame.f_back:
        yield frame.f_code.co_name, frame.f_locals


def check_name(text: str) -> str:
    """Take any text that is not blank."""
    if not text.strip():
        raise ValueError("is empty. Give a name.")
    return text


def check_slug(text: str) -> str:
    """Take what is both a distribution's name and a folder's on every system."""
    fits = re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", text) and len(text) <= 64
    if not fits or text.split(".", maxsplit=1)[0].lower() in DEVICES:
        raise ValueError(
            f"is {text!r}. Allowed: up to 64 letters a-z, digits, dots, dashes and underscores, a letter or "
            "digit first and last, and no name that Windows reserves, such as con or nul."
        )
    return text


def check_url(text: str) -> str:
    """Accept what `app/database_url.py` of the rendered project accepts, or nothing."""
    text = text.strip()
    if not text:
        return ""
    scheme, separator, rest = text.partition("://")
    if not separator or not re.fullmatch(r"[a-z0-9+]+", scheme):
        raise ValueError(f"is not a URL. Expected {EXAMPLE}, or nothing.")
    if scheme not in SCHEMES:
        raise ValueError(f"names {scheme}://. Only PostgreSQL through asyncpg is supported: {EXAMPLE}.")
    address, _, query = rest.rpartition("@")[2].partition("?")
    host, _, database = address.partition("/")
    parameters = dict(part.partition("=")[::2] for part in query.split("&") if part)
    if not re.fullmatch(r"([^:/\[\]]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", host):
        raise ValueError(f"has no valid host and port. Expected {EXAMPLE}.")
    if not database or not (host.partition(":")[0] or parameters.get("host")):
        raise ValueError(f"must name a host and a database. Expected {EXAMPLE}.")
    if parameters.get("sslmode", parameters.get("ssl", "prefer")) not in SSL_MODES:
        raise ValueError(f"has an unknown sslmode. Allowed: {', '.join(SSL_MODES)}.")
    if unknown := sorted(set(parameters) - {"sslmode", "ssl", "channel_binding", "host"}):
        raise ValueError(
            f"has unsupported parameters: {', '.join(unknown)}. Allowed: sslmode, channel_binding, host."
        )
    return text


def check_schema(text: str) -> str:
    """Take what PostgreSQL takes for a schema's name."""
    if not 1 <= len(text.encode()) <= 63 or "\0" in text or text.startswith("pg_"):
        raise ValueError(f"is {text!r}. Allowed: 1 to 63 bytes, no NUL, not starting with pg_.")
    return text


def whole_number(low: int, high: int) -> Callable[[str], str]:
    """Return a check for a whole number within these bounds."""

    def check_number(text: str) -> str:
        text = text.strip()
        if not re.fullmatch(r"-?[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"is {text!r}. Allowed: a whole number from {low} to {high}.")
        return str(int(text))

    return check_number


def check_yes_or_no(text: str) -> str:
    """Take yes or no in the words that people have for them."""
    word = text.strip().lower()
    if word not in (*YES, *NO):
        raise ValueError(f"is {text!r}. Allowed: yes or no.")
    return "yes" if word in YES else "no"


def check_ci(text: str) -> str:
    """Take the name of a CI that there are files for, or none."""
    name = text.strip().lower()
    if name not in ("github", "gitlab", "none"):
        raise ValueError(f"is {text!r}. Allowed: github, gitlab or none.")
    return name


CHECKS: dict[str, Callable[[str], str]] = {
    "project_name": check_name,
    "project_slug": check_slug,
    "description": str,
    "database_url": check_url,
    "database_schema": check_schema,
    "pool_size": whole_number(1, 10_000),
    "max_overflow": whole_number(0, 10_000),
    "pool_timeout": whole_number(1, 600),
    "pool_recycle": whole_number(-1, 31_536_000),
    "pool_pre_ping": check_yes_or_no,
    "ci": check_ci,
}


def hide_password(answers: Answers) -> None:
    """Take the password out of every record of the answers; leave the whole URL to the hook."""
    url = answers["database_url"]
    bare = without_password(url)
    if url == bare:
        if without_password(os.environ.get(SECRET_URL, "")) != url:
            os.environ.pop(SECRET_URL, None)
        return
    os.environ[SECRET_URL] = url
    answers["database_url"] = bare
    if any(url in argument for argument in sys.argv):
        warn(
            "The password in database_url was given on the command line: it is in your shell's history. "
            "Where others may read that, give the database another one."
        )
    for caller, known in callers():
        if caller == "cookiecutter":  # it keeps what was given as key=value or replayed in records of its own
            for record in known["context"].values():
                record["database_url"] = bare


def without_password(url: str) -> str:
    """Return the URL without the password that it may have."""
    scheme, separator, rest = url.partition("://")
    credentials, at, address = rest.rpartition("@")
    return f"{scheme}{separator}{credentials.partition(':')[0]}{at}{address}"


def warn_of_many_connections(pool_size: int, max_overflow: int) -> None:
    """Show the arithmetic if a stock server has too few connections for what was answered."""
    if (one := pool_size + max_overflow) > USABLE_CONNECTIONS:
        warn(
            f"pool_size {pool_size} + max_overflow {max_overflow} = {one} connections for one worker, "
            f"{2 * one} for two. A stock PostgreSQL has {USABLE_CONNECTIONS} for applications."
        )


def warn(message: str) -> None:
    """Show a warning beside the answers."""
    print(f"Warning: {message}", file=sys.stderr)
