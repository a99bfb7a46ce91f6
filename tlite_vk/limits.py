"""Profiles of poorer devices: what the runtime is to believe of the device at hand, where that is less than it has.

A profile is a TOML or JSON file: `integrated` (a CPU driver passes for a GPU, so that a GPU's kernels run), and tables
`limits` and `features` by the names of DeviceInfo; max_workgroup_size and max_workgroup_count are among the limits.
Those in tlite_vk/profiles have names. A profile never makes a device richer: the poorer of both counts.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from .errors import InputError

VARIABLE = "TLITE_VK_LIMITS"
AXES = ("max_workgroup_size", "max_workgroup_count")
_FOLDER = resources.files("tlite_vk") / "profiles"


@dataclass(frozen=True)
class Limits:
    """A profile that was read. limits: bytes or counts; axes: numbers along x, y, z; features: true where kept."""

    name: str
    limits: Mapping[str, int]
    axes: Mapping[str, tuple[int, ...]]
    features: Mapping[str, bool]
    integrated: bool = False


def profile_names() -> list[str]:
    """The profiles that come with the package."""
    return sorted(file.name.removesuffix(".toml") for file in _FOLDER.iterdir() if file.name.endswith(".toml"))


def chosen_limits(wanted: str | Path | None = None) -> Limits | None:
    """The profile of a name or a file; by default TLITE_VK_LIMITS, and None where that is not set either.

    Raises InputError, in one line, for a profile that is unknown or cannot be read.
    """
    wanted = wanted or os.environ.get(VARIABLE)
    if not wanted:
        return None
    if str(wanted) in profile_names():
        return parse(str(wanted), (_FOLDER / f"{wanted}.toml").read_text())
    path = Path(wanted)
    if not path.is_file():
        raise InputError(f"there is no profile of limits {str(wanted)!r}; take {', '.join(profile_names())}, or a file")
    try:
        return parse(str(path), path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the limits of {path}: {error}") from None


def parse(name: str, text: str) -> Limits:
    """A profile from the text of a TOML file, or of a JSON file where the name ends so.

    Raises InputError for what is neither, for an unknown entry and for a value of another type. Whether a limit or a
    feature of that name exists, the device says.
    """
    try:
        found = json.loads(text) if name.endswith(".json") else tomllib.loads(text)
    except ValueError as error:
        raise InputError(
            f"the limits of {name} are no {'JSON' if name.endswith('.json') else 'TOML'}: {error}"
        ) from None
    if not isinstance(found, dict) or found.keys() - {"integrated", "limits", "features"}:
        raise InputError(f"the limits of {name} may hold integrated, limits and features, and nothing else")
    given = _table(name, found, "limits")
    axes = {key: _numbers(name, key, given.pop(key)) for key in AXES if key in given}
    limits = {key: _number(name, key, value) for key, value in given.items()}
    features = _table(name, found, "features")
    for key, value in (*features.items(), ("integrated", found.get("integrated", False))):
        if not isinstance(value, bool):
            raise InputError(f"the limits of {name}: {key} must be true or false, not {value!r}")
    return Limits(name, limits, axes, features, found.get("integrated", False))


def _table(name: str, found: Mapping[str, Any], key: str) -> dict[str, Any]:
    table = found.get(key, {})
    if not isinstance(table, dict):
        raise InputError(f"the limits of {name}: {key} must be a table of names and values")
    return dict(table)


def _number(name: str, key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise InputError(f"the limits of {name}: {key} must be a whole number of 0 or more, not {value!r}")
    return value


def _numbers(name: str, key: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != 3:
        raise InputError(f"the limits of {name}: {key} takes three numbers, along x, y and z, not {value!r}")
    return tuple(_number(name, key, part) for part in value)
