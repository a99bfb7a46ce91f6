"""What one check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """ok; warning: models run, though less well than they could; problem: models do not run."""

    ok = "ok"
    warning = "warning"
    problem = "problem"


@dataclass(frozen=True)
class Finding:
    """name: of the check. text: what is there, in one line. advice: what to do next, or "" where there is nothing."""

    name: str
    status: Status
    text: str
    advice: str = ""


def ok(name: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding(name, Status.ok, text)


def warning(name: str, text: str, advice: str) -> Finding:
    """Models run, but something is amiss."""
    return Finding(name, Status.warning, text, advice)


def problem(name: str, text: str, advice: str) -> Finding:
    """Models do not run until it is mended."""
    return Finding(name, Status.problem, text, advice)
