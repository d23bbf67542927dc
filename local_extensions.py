"""What the template adds to Jinja."""

import json

from jinja2 import Environment
from jinja2.ext import Extension


def in_quotes(text: object) -> str:
    """Return the text as it stands between double quotes in Python, TOML, YAML and JSON alike.

    The quotes stay in the template, which is thereby valid Python or TOML before it is rendered.
    """
    escaped = json.dumps(str(text), ensure_ascii=False)[1:-1]
    return escaped.replace("\x7f", "\\u007f")  # which TOML does not take as it is


class Filters(Extension):
    """The template's own filters."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.filters["in_quotes"] = in_quotes
