"""What a person at a terminal is told and asked."""

import os
import sys


def say(line: str) -> None:
    """Print a line where it does not mix with the output of a command."""
    print(line, file=sys.stderr)


def agrees(question: str) -> bool:
    """Ask the person at the terminal. Without a terminal nobody agrees."""
    if not (os.isatty(0) and os.isatty(2)):
        return False
    print(question, end=" [y/N] ", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
