"""How an answer is written into a file of the project. Pure functions."""

import json
import re
import unicodedata

BRACE = "{{ '{' }}"  # renders to a brace: see `as_literal`
TAG = re.compile(rf"\{{\{{(?!{re.escape(BRACE[2:])})|\{{%|\{{#")


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


def as_literal(text: str) -> str:
    """Return the text so that it comes out as it is when it is rendered."""
    return re.sub(r"\{(?=[{%#])", BRACE, text)


def holds_tag(text: str) -> bool:
    """Tell whether Jinja would run something in the text."""
    return TAG.search(text) is not None
