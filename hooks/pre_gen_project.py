"""Runs before any file is rendered. It ends a replay that leaves out the extension, which checks the answers.

{{- answers_are_checked }}
"""

from pathlib import Path

Path(__file__).unlink()  # cookiecutter leaves its copies of hooks behind
