"""Checks what was given, asks again, and keeps the password out of every record of the answers."""

import json
import os
import re
import sys
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from cookiecutter.exceptions import FailedHookException
from rich.console import Console

from local_extensions import inside
from local_extensions.checks import (
    CHECKS,
    URLS,
    left_out,
    plain_text,
    too_many_connections,
    without_password,
)
from local_extensions.inside import Answers, refuse
from local_extensions.quoting import as_literal, holds_tag

COOKIECUTTER_JSON = Path(__file__).parents[1] / "cookiecutter.json"
QUESTIONS: Answers = json.loads(COOKIECUTTER_JSON.read_text(encoding="utf-8"))
ADDED = ("_template", "_output_dir", "_repo_dir", "_checkout", "_commit")  # by cookiecutter and by cruft

# Where the hook finds the URL with its password. The answers hold it without: they go to the replay file, to
# .cruft.json and to a copy of each hook.
SECRET_URL = "FASTAPI_TEMPLATE_DATABASE_URL"  # noqa: S105 a variable's name
NEW_PROJECT = "FASTAPI_TEMPLATE_NEW_PROJECT"  # set for the hook where it is to say what is next


def check_given(questions: Answers) -> None:
    """Check what was given beforehand. Take the password out of a URL before anything can show or record it.

    Raises:
        FailedHookException: there is no such question, or a tag in an answer. SystemExit under cruft.
    """
    os.environ.pop(SECRET_URL, None)
    refuse_unknown_names([name for name in questions if not name.startswith("_")])
    for given in inside.given_answers():
        with suppress(KeyError, ValueError):  # what it is, is checked when its turn comes
            hide_password(given)
    refuse_code(questions)


def refuse_unknown_names(questions: list[str]) -> None:
    """Refuse a `key=value` that answers no question: cookiecutter would leave it out without a word.

    The user's configuration file may have such names: it is for other templates, too.
    """
    for name in inside.given_names():
        if not name.startswith("_") and name not in questions:
            shown = repr(name) if re.fullmatch(r"[\w-]{1,40}", name) else "of that name"  # a URL, perhaps
            close = get_close_matches(name, questions, n=1, cutoff=0.4)
            meant = f"Did you mean {close[0]}?" if close else f"The questions are {', '.join(questions)}."
            refuse(f"There is no question {shown}. {meant}")


def refuse_code(questions: Answers) -> None:
    """Refuse tags in what was given as `key=value` or in a configuration file: cookiecutter renders it.

    What is typed at the prompt comes later. It is not rendered.
    """
    for name, value in questions.items():
        if value == QUESTIONS.get(name):
            continue
        if name.startswith("_"):
            refuse(f"{name} is the template's own and cannot be given.")
        if holds_tag(str(value)):
            refuse(f"{name} holds {{{{, {{% or {{#, which would run. At the prompt, such an answer is text.")


def check(answers: Answers, name: str) -> str:
    """Check the answer to one question, and put it into its plain form; ask again where somebody can answer.

    Returns nothing to render.

    Raises:
        FailedHookException: it is wrong and nobody can be asked. cookiecutter shows the message and ends.
        SystemExit: the same, under cruft.
    """
    if name not in answers:  # a replay asks nothing: the answers are in the record
        answers = inside.recorded_answers()
    while problem := settle(answers, name):
        if not inside.can_ask():
            refuse(problem)
        Console(emoji=False).print(f"  {problem}", style="red", markup=False, highlight=False)
        answers[name] = inside.ask(name, answers)
    if name == "max_overflow":
        pool_size = answers.get("pool_size") or inside.recorded_answers()["pool_size"]
        warn(too_many_connections(int(pool_size), int(answers["max_overflow"])))
    return ""


def settle(answers: Answers, name: str) -> str:
    """Put an answer into its plain form; return what is wrong with it, or nothing."""
    try:
        answers[name] = CHECKS[name](plain_text(answers[name]))
    except ValueError as problem:
        return f"{name} {problem}"
    if name == "database_url":
        warn(left_out(answers[name]))
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
    inside.record_plain_answers()
    os.environ.pop(NEW_PROJECT, None)
    if inside.makes_a_project():
        os.environ[NEW_PROJECT] = "yes"


def literal(answers: Answers) -> str:
    """Write the answers so that they come out as they are when they are rendered: `cruft update` does that.

    Called when everything else is rendered, before cruft writes `.cruft.json`.
    """
    for name in CHECKS:
        answers[name] = as_literal(answers[name])
    return ""


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
    for record in inside.kept_records():
        record["database_url"] = bare


def warn(message: str) -> None:
    """Show a warning beside the answers, if there is one."""
    if message:
        print(f"Warning: {message}", file=sys.stderr)
