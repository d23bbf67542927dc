"""Runs before anything is rendered: every answer is checked again while this file is.

{{- cookiecutter | check_all }}
"""

from pathlib import Path

Path(__file__).unlink()  # cookiecutter leaves its copies of hooks behind
