"""What was measured on a device before (tlite_vk.tuning), in the cache folder: a file per device and driver.

A choice counts only for the shader that it was measured with, and where it is still a candidate of its kernel.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import spirv
from .cache import cache_folder, write_atomic
from .choices import Choice, Task, task_fields, task_of, text_of
from .device import DeviceInfo
from .errors import DeviceError
from .target import Target

VERSION = 1


def cache_file(info: DeviceInfo) -> Path:
    """Where the choices of a device and driver are kept."""
    return cache_folder() / "tuning" / f"{info.vendor_id:04x}-{info.device_id:04x}-{info.pipeline_cache_uuid}.json"


def tuned(target: Target, info: DeviceInfo) -> Target:
    """The target with what was measured on this device, driver and these shaders; the same target where nothing was."""
    found: dict[tuple[Task, str], Choice] = {}
    for entry in _entries(info):
        with suppress(KeyError, TypeError, ValueError, DeviceError):
            if entry["sha256"] == _digest(str(entry["shader"])):
                key = task_of(entry["task"]), str(entry["kernel"])
                found[key] = tuple(int(number) for number in entry["choice"])
    return replace(target, tuning=text_of(found)) if found else target


def keep(info: DeviceInfo, found: Mapping[tuple[Task, str], tuple[str, Choice]]) -> None:
    """Keep (shader, choice) by (task, kernel), beside what is known of others. A full disk costs time only."""
    new = [
        {"task": task_fields(task), "kernel": kernel, "shader": shader, "sha256": _digest(shader), "choice": choice}
        for (task, kernel), (shader, choice) in found.items()
    ]
    keys = [(entry["task"], entry["kernel"]) for entry in new]
    kept = [entry for entry in _entries(info) if (entry.get("task"), entry.get("kernel")) not in keys]
    data = {"version": VERSION, "device": info.name, "driver": info.driver_name, "entries": kept + new}
    with suppress(OSError):
        write_atomic(cache_file(info), json.dumps(data, indent=1).encode())


def _entries(info: DeviceInfo) -> list[dict[str, Any]]:
    try:
        found = json.loads(cache_file(info).read_text(encoding="utf-8"))
        entries = found["entries"] if found["version"] == VERSION else []
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _digest(shader: str) -> str:
    return hashlib.sha256(spirv.load(shader)).hexdigest()
