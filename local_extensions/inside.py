"""What cookiecutter and cruft do not tell an extension: read from their functions that are running.

Each look says why it is needed. If a function or a variable has another name, the template ends with one
message, and no project is written: without the look, an answer would go unchecked or a password be recorded.
Tested with cookiecutter 2.6.0, 2.7.0 and the newest, see tests/answers/test_inside.py.
"""

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import cookiecutter

NEEDS = "This template renders with cookiecutter 2.6 and 2.7: uvx 'cookiecutter<2.8'"
try:
    from cookiecutter import replay
    from cookiecutter.exceptions import FailedHookException
    from cookiecutter.prompt import read_user_variable, render_variable
except ImportError as error:  # cookiecutter shows this as one line
    raise ImportError(f"{error}. {NEEDS}") from error

Answers = dict[str, Any]

ENTRY = "cookiecutter"  # the function that renders a project
ASKING = "prompt_for_config"
WRITING = "generate_files"
CRUFT_ASKING = "generate_cookiecutter_context"
CRUFT_COMMANDS = [("cruft", name) for name in ("create", "link", "update")]


class Variables(dict[str, Any]):
    """The variables of a function that is running."""

    def __missing__(self, name: str) -> NoReturn:
        """End where there is no such variable."""
        refuse_version(f"no {name!r}")


class Call(NamedTuple):
    """A function that is running."""

    package: str
    function: str
    variables: Variables


def calls() -> Iterator[Call]:
    """Yield the functions that are running, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame := frame and frame.f_back:
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        yield Call(package, frame.f_code.co_name, Variables(frame.f_locals))


def running(function: str) -> list[Variables]:
    """Return the variables of each call of the function, the innermost first."""
    return [call.variables for call in calls() if call.function == function]


def running_now(function: str) -> Variables:
    """Return the variables of the innermost call of the function."""
    return next(iter(running(function)), None) or refuse_version(f"no {function}()")


def refuse(problem: str) -> NoReturn:
    """End with a message, and with nothing else.

    cookiecutter shows the message of a FailedHookException. cruft would wrap it in a traceback.
    """
    under_cruft = any(call.package == "cruft" for call in calls())
    raise SystemExit(problem) if under_cruft else FailedHookException(problem)


def refuse_version(difference: str) -> NoReturn:
    """End because the answers cannot be checked."""
    refuse(
        f"The answers cannot be checked: cookiecutter {cookiecutter.__version__} has {difference}. "
        f"No project was written. {NEEDS}"
    )


def step() -> tuple[str, Answers]:
    """Return what cookiecutter is doing, and the answers so far.

    Why: what was given beforehand is to be checked before a question is asked, and a replay, which asks
    nothing, before the project has a folder. cookiecutter loads an extension in both steps, and for a hook.
    """
    for call in calls():
        if call.function == "run_hook":
            return call.function, {}
        if call.function in (ASKING, WRITING):
            return call.function, call.variables["context"]["cookiecutter"]
    refuse_version(f"neither {ASKING}() nor {WRITING}()")


def given_answers() -> list[Answers]:
    """Return each record of what was given beforehand, for the password to be taken out.

    Why: cookiecutter keeps records of its own beside the one that it passes on.
    """
    return [variables["context"]["cookiecutter"] for name in (ASKING, ENTRY) for variables in running(name)]


def kept_records() -> list[Answers]:
    """Return the records that cookiecutter writes to its replay file, for the password to be taken out.

    Why: a replay file is read by others, and stays. cruft has none.
    """
    return [record for variables in running(ENTRY) for record in variables["context"].values()]


def given_names() -> list[str]:
    """Return the names of what was given for this run: `key=value`, or the extra context of cruft.

    Why: cookiecutter leaves out a misspelt name without a word, and takes the names in the user's
    configuration file for those of the command.
    """
    if entry := running(ENTRY):
        return list(entry[0]["extra_context"] or ())
    # cruft adds the answers on record, and renders the old template first, which may lack what is given now.
    rendered = running_now(CRUFT_ASKING)["extra_context"] or ()
    commands = (call.variables for call in calls() if (call.package, call.function) in CRUFT_COMMANDS)
    given = next(commands, {"extra_context": ()})["extra_context"]
    return [name for name in given or () if name in rendered]


def recorded_answers() -> Answers:
    """Return the answers on record.

    Why: a replay shows the extension those questions alone that the record leaves out.
    """
    answers: Answers = running_now(ENTRY)["context"]["cookiecutter"]
    return answers


def record_plain_answers() -> None:
    """Write cookiecutter's replay file again, with nothing but answers.

    Why: with the private variables on record, a replay would not run the checks of the questions.
    """
    for variables in running(ENTRY):
        context = variables["context"]
        answers = {name: value for name, value in context["cookiecutter"].items() if not name.startswith("_")}
        folder, name = variables["config_dict"]["replay_dir"], variables["template_name"]
        replay.dump(folder, name, context | {"cookiecutter": answers})


def makes_a_project() -> bool:
    """Tell whether a project is being made.

    Why: `cruft update`, `check` and `diff` render the template too, and are to say nothing of what is next.
    """
    return any(
        call.function == ENTRY or (call.package, call.function) == ("cruft", "create") for call in calls()
    )


def can_ask() -> bool:
    """Tell whether cookiecutter is asking questions, on a terminal.

    Why: with --no-input a wrong answer ends the run.
    """
    asking = running(ASKING)
    return bool(asking) and not asking[0]["no_input"] and sys.stdin.isatty()


def ask(name: str, answers: Answers) -> str:
    """Ask a question again, with its text, number and default.

    Why: cookiecutter has no check of an answer, and asks once.
    """
    asking = running_now(ASKING)
    default = render_variable(asking["env"], asking["context"]["cookiecutter"][name], answers)
    try:
        return str(read_user_variable(name, default, asking["prompts"], asking["prefix"]))
    except (EOFError, KeyboardInterrupt):
        refuse(f"{name} was not answered.")
