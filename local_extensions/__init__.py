"""What the template adds to Jinja: how an answer is quoted, and how it is checked as soon as it is given.

cookiecutter has no hook between one question and the next. `cookiecutter.json` has a private variable after
each question instead, whose value is rendered there and then: `{{ cookiecutter | check('pool_size') }}`.

- `quoting.py`: how an answer is written into a file. Pure functions.
- `checks.py`: which answers are right. Pure functions. `names.py`: what a project cannot be called.
- `answers.py`: checks what was given, asks again, and keeps the password out of every record.
- `inside.py`: what cookiecutter and cruft do not tell an extension.
"""

import shutil
import sys
from pathlib import Path

from jinja2 import Environment
from jinja2.ext import Extension

from local_extensions import inside
from local_extensions.answers import check, check_all, check_given, literal
from local_extensions.quoting import as_dns_label, as_schema, in_markdown, in_quotes


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
        forget_modules()
        step, answers = inside.step()
        if step == "prompt_for_config":
            check_given(answers)
        elif step == "generate_files":
            check_all(answers)


def forget_modules() -> None:
    """Let the next environment import this package anew.

    `cruft update` renders two versions of the template in one process, from one folder, within a second. Each
    is to load its own files. Where a file has the same size in both, the other's bytecode would be taken.
    """
    for name in list(sys.modules):
        if name.partition(".")[0] == __name__:
            del sys.modules[name]
    shutil.rmtree(Path(__file__).parent / "__pycache__", ignore_errors=True)
