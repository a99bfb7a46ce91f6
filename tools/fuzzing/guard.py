"""What must hold for every input: our own exceptions only, one line each, no file from elsewhere, bounded memory."""

from __future__ import annotations

import os
import resource
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tlite_vk
from tlite_vk import chat_sandbox
from tlite_vk.errors import TliteError
from tlite_vk.graph.errors import GraphError

MEMORY = 2 << 30  # bytes of address space that inputs may take beside what the process has at first
LONGEST = 1000  # characters of a message
_ALLOWED = tuple(
    str(Path(folder).resolve())
    for folder in {
        *(p for p in sys.path if p), *sysconfig.get_paths().values(), sys.prefix, sys.base_prefix,
        str(Path(tlite_vk.__file__).parent), "/dev/null", "/dev/urandom", "/proc/self",
    }
)  # fmt: skip


class Finding(BaseException):
    """An input for which a property does not hold."""


class _Watch:
    """The folders that may be read just now; None: no input is being run."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.outside: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or self.folder is None or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if not path.startswith((self.folder, *_ALLOWED)):
            self.outside.append(path)


_watch = _Watch()


def install() -> None:
    """Once a process, before the first input."""
    chat_sandbox.SECONDS = 3.0  # endless templates are common among inputs
    sys.addaudithook(_watch)


def bound_memory() -> None:
    """Let allocations beyond the bound fail, which is a finding."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Runs one input, whose files lie in `folder`. Raises Finding where a property does not hold."""
    _watch.folder, _watch.outside = str(folder.resolve()), []
    try:
        yield
    except (TliteError, GraphError) as error:
        if "\n" in str(error) or not str(error) or len(str(error)) > LONGEST:
            raise Finding(f"not one line of a message: {str(error)[:2000]!r}") from error
    finally:
        _watch.folder = None
    if _watch.outside:
        raise Finding(f"files outside of the model's folder were opened: {_watch.outside[:5]}")
