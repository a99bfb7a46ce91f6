"""From an ONNX file to a compiled one: `compile_to_file("model.onnx", "model.tlvk")`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tlite_vk import __version__, spirv
from tlite_vk.cache import replacing
from tlite_vk.compile import compile_variants
from tlite_vk.errors import InputError, ModelError
from tlite_vk.graph.onnx_load import model_facts
from tlite_vk.program import Program
from tlite_vk.target import Target
from tlite_vk.tokenizer import Tokenizer

from . import program_json, variants
from .archive import ABOUT, ArchiveWriter, is_compiled
from .sections import SectionWriter

DEFAULT_CONTEXT = 2048
ENTRIES = ("decode", "prefill", "score")
_LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*")
_LONGEST_LICENCE = 1 << 20


@dataclass(frozen=True)
class CompileReport:
    """What was written: bytes of the file and of one target's weights, the targets, how many programs differ."""

    path: Path
    file_bytes: int
    weight_bytes: int
    targets: tuple[str, ...]
    programs: int
    tokenizer: bool
    facts: Mapping[str, str]


def compile_to_file(
    model: str | Path,
    output: str | Path,
    *,
    context: int | None = None,
    licence: str | None = None,
    source: str | None = None,
) -> CompileReport:
    """Compile a generating model for every kind of device into one file; opening it needs numpy and this package only.

    context: most positions of rotary tables that the graph computes (default 2048); tables that it holds are kept
    whole. licence, source: of the weights; by default what the ONNX file says. Files named LICENSE beside it go along.
    Raises ModelError or GraphError for a model that does not compile, OSError where the file cannot be written.
    """
    path, target = _checked(Path(model), Path(output), context)
    targets = variants.standard_targets()
    programs = compile_variants(path, targets, ENTRIES, positions=context or DEFAULT_CONTEXT)
    facts = model_facts(path)[0]
    facts |= {key: value for key, value in (("license", licence), ("source", source)) if value is not None}
    tokenizer = Tokenizer.load(path) if (path.parent / "tokenizer.json").is_file() else None
    about = {"facts": facts, "stop_ids": None if tokenizer is None else sorted(tokenizer.stop_ids)}
    texts = _licences(path.parent)
    if tokenizer is not None:
        texts |= {f"tokenizer/{name}": text.encode() for name, text in tokenizer.texts.items()}
    with replacing(target) as file:
        different = write(file, targets, programs, about, texts)
        _readable(file)
    weights = max(program.weight_bytes for program in programs)
    names = tuple(t.name for t in targets)
    return CompileReport(target, target.stat().st_size, weights, names, different, tokenizer is not None, facts)


def write(
    file: IO[bytes],
    targets: Sequence[Target],
    programs: Sequence[Program],
    about: Mapping[str, Any],
    texts: Mapping[str, bytes],
) -> int:
    """Write a compiled file; returns how many of the programs differ. Raises OSError.

    about: what is told of the model, as JSON holds it. texts: further members by name.
    """
    archive = ArchiveWriter(file)
    places = SectionWriter(archive).write(programs)
    modules = _modules(archive, programs)
    members: dict[bytes, str] = {}
    listed: list[dict[str, Any]] = []
    for target, program, placed in zip(targets, programs, places, strict=True):
        text = program_json.to_json(program, {n: [p.section, p.part] for n, p in placed.items()}, modules)
        if text not in members:
            members[text] = f"programs/{len(members):02}.json"
            archive.add(members[text], text)
        listed.append({"target": variants.to_json(target), "program": members[text]})
    for name, content in texts.items():
        archive.add(name, content)
    archive.add(ABOUT, json.dumps({"made_by": f"tlite-vk {__version__}", "variants": listed, **about}).encode())
    archive.finish()
    return len(members)


def _modules(archive: ArchiveWriter, programs: Sequence[Program]) -> dict[str, str]:
    """Write the SPIR-V of every kernel that is used; the member of each shader."""
    members: dict[str, str] = {}
    for program in programs:
        for kernel in program.kernels:
            if kernel.shader not in members:
                members[kernel.shader] = f"spirv/{kernel.shader.replace(':', '-')}.spv"
                generated = program.modules.get(kernel.shader)
                archive.add(members[kernel.shader], spirv.load(kernel.shader) if generated is None else generated)
    return members


def _checked(path: Path, target: Path, context: int | None) -> tuple[Path, Path]:
    path = path / "model.onnx" if path.is_dir() else path
    if context is not None and context < 1:
        raise InputError("context must be positive")
    if target.is_dir():
        raise InputError(f"{target} is a folder; name the file to write, e.g. {target / 'model.tlvk'}")
    if not path.is_file():
        raise ModelError(f"no such model: {path}")
    if is_compiled(path):
        raise ModelError(f"{path} is compiled already; give the ONNX model that it was made from")
    if target.exists():
        own = [path, *(path.parent / name for name in model_facts(path)[1])]
        if any(file.exists() and target.samefile(file) for file in own):
            raise InputError(f"{target} is the model itself; choose another name for the compiled one")
    return path, target


def _licences(folder: Path) -> dict[str, bytes]:
    """Members for the licences that lie beside the model."""
    files = sorted({file for pattern in _LICENCES for file in folder.glob(pattern) if file.is_file()})
    return {f"licence/{f.name}": f.read_bytes() for f in files if f.stat().st_size <= _LONGEST_LICENCE}


def _readable(file: IO[bytes]) -> None:
    """Whoever may read other new files may read this one; temporary files are private."""
    mask = os.umask(0)
    os.umask(mask)
    os.fchmod(file.fileno(), 0o666 & ~mask)
