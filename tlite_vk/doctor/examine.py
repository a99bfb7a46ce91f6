"""All checks, in the order in which one thing needs another."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from . import devices, drivers, storage
from .finding import Finding, Status, ok
from .system import System


def examine(system: System, cache: Path) -> Iterator[Finding]:
    """Each finding as it is made. cache: the cache folder."""
    from tlite_vk import __version__

    yield ok(
        "tlite-vk", f"{__version__} on Python {platform.python_version()}, {platform.platform()}, {sys.executable}"
    )
    loader = drivers.loader(system)
    yield loader
    if loader.status is not Status.problem:
        yield from drivers.drivers(system)
        yield from devices.nodes(system)
        found = devices.devices(system)
        yield from found
        if not any(finding.name == "device" and finding.status is Status.problem for finding in found):
            yield from devices.validation(system)
    yield storage.compiler(system)
    yield from storage.cache(cache)
    yield from storage.variables(system)
