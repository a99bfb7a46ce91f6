"""What a shell offers behind the cursor: models, devices, names. Nothing offered: the shell offers files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

Completer = Callable[[str], list[str]]
Offers = list[tuple[str, str]]
"""(value, what it is) each."""

DEPTH, MOST = 2, 4000
"""How many folders down models are looked for, and how many entries are looked at before a shell would seem to hang."""


def models(incomplete: str) -> list[str]:
    """Models near what was typed: folders that hold a model.onnx, other .onnx files, compiled programs."""
    return _near(incomplete, (".onnx", ".tlvk"))


def gguf_files(incomplete: str) -> list[str]:
    """GGUF files near what was typed."""
    return _near(incomplete, (".gguf",))


def one_of(*names: str) -> Completer:
    """Those of some names that begin so."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def downloads(incomplete: str) -> list[str]:
    """What `fetch` knows."""
    from tlite_vk.fetch import MODELS

    return one_of(*MODELS)(incomplete)


def devices(incomplete: str) -> Offers:
    """Indices, and the first words of names where these are all different; nothing where there is no driver."""
    from tlite_vk.device import list_devices
    from tlite_vk.errors import TliteError

    try:
        names = [(info.index, info.name) for info in list_devices()]
    except TliteError:
        return []
    words = [name.split()[0].lower() for _, name in names]
    offers = [(str(index), name) for index, name in names]
    if len(set(words)) == len(words):
        offers += [(word, name) for word, (_, name) in zip(words, names, strict=True)]
    return [(value, name) for value, name in offers if value.startswith(incomplete.lower())]


def _near(incomplete: str, suffixes: tuple[str, ...]) -> list[str]:
    typed, slash, rest = incomplete.rpartition("/")
    start = Path((typed or "/") if slash else ".").expanduser()
    found = (path.relative_to(start).as_posix() for path in _walk(start, rest, suffixes))
    return [typed + slash + name for name in found if name.startswith(rest)]


def _walk(start: Path, rest: str, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Files with these suffixes, for model.onnx its folder, breadth first; hidden ones only where a dot was typed."""
    folders, seen = [(start, 0)], 0
    while folders and seen < MOST:
        folder, depth = folders.pop(0)
        for entry in _entries(folder):
            seen += 1
            path = folder / entry.name
            if entry.name.startswith(".") and not (depth == 0 and rest.startswith(".")):
                continue
            if entry.is_dir():
                if depth < DEPTH:
                    folders.append((path, depth + 1))
                if ".onnx" in suffixes and (path / "model.onnx").is_file():
                    yield path
            elif path.suffix in suffixes and (path.name != "model.onnx" or depth == 0):
                yield path


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []
