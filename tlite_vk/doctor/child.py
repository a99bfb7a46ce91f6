"""What may crash or hang runs in a process of its own: opening libraries, asking drivers, running a kernel."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

from .system import System

SECONDS = 120.0
_OPEN = "import ctypes, sys\ntry: ctypes.CDLL(sys.argv[1])\nexcept OSError as error: sys.exit(str(error))"


class ChildError(Exception):
    """The process ended otherwise than it should; the message says how."""


def library(system: System, name: str) -> str:
    """Why a shared library cannot be opened, or ""."""
    try:
        _run(system, ["-c", _OPEN, name])
    except ChildError as error:
        return str(error)
    return ""


def probe(system: System, *arguments: str) -> Any:
    """What `python -m tlite_vk.doctor.probe ARGUMENTS` finds. Raises ChildError with its message."""
    answer = json.loads(_run(system, ["-m", "tlite_vk.doctor.probe", *arguments]))
    if "error" in answer:
        raise ChildError(answer["error"])
    return answer["found"]


def _run(system: System, arguments: list[str]) -> str:
    """Standard output of a Python process. Raises ChildError."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=dict(system.environment),
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ChildError(f"no answer within {SECONDS:.0f} s") from None
    if done.returncode < 0:
        raise ChildError(f"it crashed ({signal.Signals(-done.returncode).name})")
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise ChildError(lines[-1] if lines else f"exit code {done.returncode}")
    return done.stdout.decode(errors="replace")
