"""How many bytes of the host's memory a model may ask for: what its file claims is weighed before it is allocated.

Weights stay in the file's memory map and cost nothing here; the file itself, and constants that are computed from it,
do. Within `host_budget` they add up to at most its limit; outside of one, each is held against the machine's memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

from .errors import GraphError


class _Budget:
    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0


_current: ContextVar[_Budget | None] = ContextVar("host_budget", default=None)


@cache
def physical_memory() -> int:
    """Bytes of memory that this machine has."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return 1 << 34


@contextmanager
def host_budget(limit: int | None) -> Iterator[None]:
    """Within it, what `take` is asked for adds up to at most `limit` bytes (None: what the machine has)."""
    token = _current.set(_Budget(physical_memory() if limit is None else limit))
    try:
        yield
    finally:
        _current.reset(token)


def take(count: int, what: str) -> None:
    """Enter `count` bytes for `what` into the account. Raises GraphError where they are too many."""
    budget = _current.get() or _Budget(physical_memory())
    check(count, what)
    budget.used += count


def check(count: int, what: str) -> None:
    """As `take` for what is given back at once: nothing is entered."""
    budget = _current.get() or _Budget(physical_memory())
    if count > budget.limit - budget.used:
        taken = f", of which {budget.used} are taken" if budget.used else ""
        raise GraphError(
            f"{what} needs {count} bytes of memory; the limit is {budget.limit}{taken}: raise it with --max-memory"
        )
