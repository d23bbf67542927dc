"""What is measured: each module has a `measure` that returns its section of RESULTS.md."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """How often and how long each thing is measured."""

    rounds: int = 12
    seconds: float = 1
