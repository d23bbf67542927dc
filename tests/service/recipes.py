"""The recipes of docs/sessions.md, which tests run word for word."""

import re
from typing import Any

from fastapi import APIRouter

from service.libraries.tools import Own
from service.tools import PROJECT

PAGE = (PROJECT / "docs" / "sessions.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: ([\w-]+) -->\n```python\n(.*?)```\n", PAGE, re.DOTALL))


def run_examples(*examples: str, instead: dict[str, str] | None = None, **functions: Any) -> dict[str, Any]:
    """Run these examples of the page; return what they define. The functions are those of the owner.

    `instead` replaces text of the examples, such as a broker that is not here.
    """
    names: dict[str, Any] = {"__name__": __name__, "Base": Own, "router": APIRouter(), **functions}
    for example in examples:
        code = EXAMPLES[example]
        for old, new in (instead or {}).items():
            assert old in code
            code = code.replace(old, new)
        exec(compile(code, f"docs/sessions.md, {example}", "exec"), names)
    return names
