"""The Vulkan loader, and the manifests of the drivers that it would load."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from . import child
from .finding import Finding, Status, ok, problem, warning
from .system import System

NAMED = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")
"""Variables that name all drivers, the newer name first; the loader looks nowhere else then."""
ADDED = "VK_ADD_DRIVER_FILES"


def loader(system: System) -> Finding:
    """Whether the Vulkan loader can be opened."""
    error = child.library(system, system.loader)
    if not error:
        return ok("loader", system.loader)
    if "No such file" in error:
        return problem("loader", f"the Vulkan loader ({system.loader}) is not installed", system.install("loader"))
    return problem(
        "loader", f"the Vulkan loader cannot be opened: {error}", f"install it again; {system.install('loader')}"
    )


@dataclass(frozen=True)
class Place:
    """A manifest, or a name that stands for one; `source`: the variable that named it, or "" for the usual folders."""

    file: Path
    source: str = ""


def places(system: System) -> list[Place]:
    """The manifests that the loader reads, in its order."""
    for name in NAMED:
        if system.environment.get(name):
            return list(_named(system, name))
    found = list(_named(system, ADDED))
    for folder in _folders(system):
        found += [Place(file) for file in sorted(folder.glob("*.json"))]
    return found


def _named(system: System, variable: str) -> Iterator[Place]:
    """What a variable names: files, or folders of them."""
    for text in filter(None, system.environment.get(variable, "").split(os.pathsep)):
        path = Path(text)
        inside = sorted(path.glob("*.json")) if path.is_dir() else [path]
        yield from (Place(file, variable) for file in inside)


def _folders(system: System) -> Iterator[Path]:
    environment, root, home = system.environment, system.root, system.home()
    bases = [
        Path(environment.get("XDG_CONFIG_HOME") or home / ".config"),
        root / "etc" / "xdg",
        root / "etc",
        Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share"),
        root / "usr" / "local" / "share",
        root / "usr" / "share",
    ]
    if environment.get("PREFIX"):  # Termux
        bases.append(Path(environment["PREFIX"]) / "share")
    yield from (base / "vulkan" / "icd.d" for base in bases)


def drivers(system: System) -> list[Finding]:
    """One finding per manifest, or the one that there is none."""
    found = places(system)
    variable = next((name for name in NAMED if system.environment.get(name)), "")
    if not found and variable:
        value = system.environment[variable]
        return [
            problem("driver", f"{variable}={value} holds no manifest", f"name a driver's .json, or unset {variable}")
        ]
    if not found:
        return [problem("driver", "no Vulkan driver is installed", _install_driver(system))]
    findings = [_driver(system, place) for place in found]
    if any(finding.status is Status.ok for finding in findings):
        return findings
    return [replace(finding, status=Status.problem) for finding in findings]


def _install_driver(system: System) -> str:
    return f"install your GPU's own driver; or, for a CPU driver, {system.install('cpu driver')}"


def _driver(system: System, place: Place) -> Finding:
    """Whether a manifest and its library can be used."""
    otherwise = f"correct or unset {place.source}" if place.source else "install its package again, or remove the file"
    try:
        library = _library(place.file)
    except FileNotFoundError:
        return warning("driver", f"{place.file} does not exist", otherwise)
    except PermissionError:
        return warning("driver", f"{place.file} may not be read", f"run: sudo chmod a+r {place.file}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = "it names no library" if isinstance(error, KeyError | TypeError) else str(error)
        return warning("driver", f"{place.file} is no driver's manifest: {what}", otherwise)
    why = child.library(system, library)
    if why:
        return warning("driver", f"{place.file}: its library does not load: {why}", otherwise)
    return ok("driver", f"{place.file}: {library}")


def _library(manifest: Path) -> str:
    """The library that a manifest names: a path relative to it where it has a slash, else a name for the linker."""
    content = json.loads(manifest.read_text(encoding="utf-8"))
    library = content["ICD"]["library_path"]
    return str(manifest.parent / library) if "/" in library else str(library)
