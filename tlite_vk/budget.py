"""How many bytes a model may take, on the device and of the host: sizes as people write them, and what holds here.

with limited(parse_bytes("2G")):
    model = load("model.onnx")
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .errors import InputError
from .graph.budget import host_budget

MEMORY = "TLITE_VK_MEMORY"
MAX_MEMORY_OF_AN_OPEN_DEVICE = (
    "max_memory needs a device to open; give an open one its limit: open_device(memory_limit=...)"
)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*(K|M|G|Ki|Mi|Gi)?B?", re.IGNORECASE)

_limit: ContextVar[int | None] = ContextVar("memory_limit", default=None)


@contextmanager
def limited(limit: int | None) -> Iterator[None]:
    """Devices opened within it hold at most `limit` bytes, and models read within it ask the host for at most as many.

    None: what holds outside, else TLITE_VK_MEMORY, else what the device and the machine have. Raises InputError for a
    limit below one byte, or an environment variable that is no size.
    """
    if limit is not None and limit < 1:
        raise InputError(f"a memory limit must be at least one byte, not {limit}")
    limit = current() if limit is None else limit
    token = _limit.set(limit)
    try:
        with host_budget(limit):
            yield
    finally:
        _limit.reset(token)


def current() -> int | None:
    """The limit of the innermost `limited`, else TLITE_VK_MEMORY, else None. Raises InputError as `limited` does."""
    limit = _limit.get()
    return _from_environment() if limit is None else limit


def parse_bytes(text: str) -> int:
    """Bytes of a size such as 800000, 800M, 1.5G or 2GiB. Raises InputError for anything else, and for nothing."""
    match = _SIZE.fullmatch(text.strip())
    count = int(float(match[1]) * _UNITS[(match[2] or "").upper()]) if match else 0
    if count < 1:
        raise InputError(f"{text!r} is no size in bytes; write one such as 800M, 1.5G or 2GiB")
    return count


def _from_environment() -> int | None:
    text = os.environ.get(MEMORY, "")
    if not text.strip():
        return None
    try:
        return parse_bytes(text)
    except InputError as error:
        raise InputError(f"{MEMORY}: {error}") from None
