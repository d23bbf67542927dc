"""What the template adds to Jinja."""

from jinja2 import Environment
from jinja2.ext import Extension


class PlainJson(Extension):
    """Let `| tojson` write every character as itself.

    Its escapes are JSON's: Python reads those of an emoji as two halves, and TOML refuses them.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": True}
