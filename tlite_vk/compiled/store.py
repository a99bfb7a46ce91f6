"""Compiled models in the cache folder, so that a model starts quickly the second time.

An entry is a compiled file for one target. Its name is a hash of what it was made from: the graph's bytes and its path,
target, entries, positions, and the code and shaders of this package. Files with weights are compared by size and by the
times at which content and inode changed: no program sets the latter back, as a copy that keeps times does the former.
Entries are only ever replaced as a whole; what cannot be read or written is as if it were not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import tlite_vk
from tlite_vk import spirv
from tlite_vk.cache import cache_folder, replacing
from tlite_vk.errors import InputError, ModelError
from tlite_vk.program import Program
from tlite_vk.target import Target

from .archive import VERSION
from .reader import CompiledFile

LIMIT = "TLITE_VK_CACHE_BYTES"
DEFAULT_LIMIT = 8 << 30
_HASHED = 1 << 26
"""Graph files up to this size are known by their content; larger ones, which hold weights, by size and time."""
_OVERHEAD = 1 << 18
"""About what programs and shaders take."""
_SPARE = 1 << 26  # bytes that are left free on the disk
_ABANDONED = 3600  # seconds after which a half-written file has no writer any more


@dataclass(frozen=True)
class Entry:
    """A cached model: its file, bytes, when it was last used (seconds since 1970), and the model it was made from."""

    path: Path
    size: int
    used: float

    @property
    def model(self) -> str:
        try:
            return str(CompiledFile(self.path).about["model"])
        except (ModelError, OSError, KeyError):
            return "?"


def folder() -> Path:
    return cache_folder() / "programs"


def limit() -> int:
    """Bytes that entries may take together; 0: nothing is kept. Raises InputError for a setting that is no number."""
    given = os.environ.get(LIMIT, "")
    if not given:
        return DEFAULT_LIMIT
    if not given.isdecimal():
        raise InputError(f"{LIMIT} must be a number of bytes (0: keep no compiled models), not {given!r}")
    return int(given)


def entries() -> list[Entry]:
    """Those that were not used for longest first."""
    found: list[Entry] = []
    with contextlib.suppress(OSError):
        for path in folder().glob("*.tlvk"):
            with contextlib.suppress(OSError):
                state = path.stat()
                found.append(Entry(path, state.st_size, state.st_mtime))
    return sorted(found, key=lambda entry: entry.used)


def key(path: Path, target: Target, names: Sequence[str], positions: int | None) -> str:
    """The name of the entry for a model: of other inputs, another."""
    made_of = [VERSION, _package(), str(path.resolve()), _content(path), asdict(target), list(names), positions]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:40]


def find(name: str, model: Path) -> CompiledFile | None:
    """The entry, if it is there, whole, and made from the weights that lie beside the model now."""
    path = folder() / f"{name}.tlvk"
    try:
        if not limit() or not path.is_file():
            return None
        file = CompiledFile(path)
        if file.about.get("files") == _states(model, [name for name, *_ in file.about["files"]]):
            with contextlib.suppress(OSError):
                os.utime(path)
            return file
    except (ModelError, OSError, KeyError, TypeError, ValueError):
        pass
    discard(path)
    return None


@dataclass(frozen=True)
class Sources:
    """What a model is made from, as it was at one time: the graph's content, and versions of the files with weights."""

    graph: Any
    files: list[list[Any]]


def sources(model: Path) -> Sources | None:
    """Those of a model that is about to be compiled; None where they cannot be read. Raises GraphError."""
    from tlite_vk.graph.onnx_load import model_facts

    with contextlib.suppress(OSError):
        return Sources(_content(model), _states(model, model_facts(model)[1]))
    return None


def keep(name: str, model: Path, made_from: Sources | None, target: Target, program: Program) -> CompiledFile | None:
    """Write an entry and open it; None where there is no room, where it cannot be written, and where the model is not
    what the program was made from any more. Older entries make room."""
    from .writer import write

    path, size = folder() / f"{name}.tlvk", program.weight_bytes + _OVERHEAD
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if made_from is None or not _make_room(size):
            return None
        about: dict[str, Any] = {"facts": {}, "stop_ids": None, "model": str(model.resolve())}
        with replacing(path) as file:
            write(file, [target], [program], {**about, "files": made_from.files}, {})
            if Sources(_content(model), _states(model, [name for name, *_ in made_from.files])) != made_from:
                raise OSError("the model was changed while it was compiled")
        return CompiledFile(path)
    except OSError:
        return None


def discard(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def clear() -> int:
    """Remove every entry; returns the bytes that were freed."""
    freed = 0
    for entry in entries():
        discard(entry.path)
        freed += 0 if entry.path.exists() else entry.size
    return freed


def _make_room(size: int) -> bool:
    """Remove what was not used for longest until `size` more bytes are within the limit. Raises OSError."""
    for path in _abandoned():
        discard(path)
    most, known = limit(), entries()
    if size > most:
        return False
    total = sum(entry.size for entry in known)
    for entry in known:
        if total + size <= most:
            break
        discard(entry.path)
        total -= entry.size
    return shutil.disk_usage(folder()).free >= size + _SPARE


def _abandoned() -> Iterator[Path]:
    """Files whose writer was killed."""
    for path in folder().glob(".*.tlvk.*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED:
                yield path


def _content(path: Path) -> Any:
    state = path.stat()
    if state.st_size > _HASHED:
        return _version(state)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _states(model: Path, names: Sequence[str]) -> list[list[Any]]:
    """[name, and the version] of the files beside a model."""
    return [[name, *_version((model.parent / name).stat())] for name in names]


def _version(state: os.stat_result) -> list[int]:
    """What tells one content of a file from another: bytes, times of change of content and of inode in ns, inode."""
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


@cache
def _package() -> str:
    """A hash of this package: its version, its sources by size and time, its shaders by content."""
    total = hashlib.sha256(tlite_vk.__version__.encode())
    root = Path(tlite_vk.__file__).parent
    for source in sorted([*root.glob("**/*.py"), *(root / "graph").glob("**/*.py")]):
        state = source.stat()
        total.update(f"{source} {state.st_size} {state.st_mtime_ns}".encode())
    for name in spirv.names():
        total.update(name.encode())
        total.update(spirv.load(name))
    return total.hexdigest()
