"""The readers under test: each takes the bytes of one input and an empty folder for its files."""

from __future__ import annotations

import json
import mmap
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tlite_vk import cache, compiler
from tlite_vk.compiled import archive, program_json
from tlite_vk.compiled.reader import CompiledFile
from tlite_vk.convert import convert
from tlite_vk.graph import dimtext, shape
from tlite_vk.graph.infer import infer
from tlite_vk.graph.onnx_load import load_model
from tlite_vk.graph.pipeline import optimize
from tlite_vk.stored import Section
from tlite_vk.tokenizer import TOKENIZER_FILES, Tokenizer

from . import structure

Target = Callable[[bytes, Path], None]
SEPARATOR = b"\n%%%%\n"  # between the files of one input


def onnx(data: bytes, folder: Path) -> None:
    """An ONNX file: read, shaped and fused, as a graph that generates and as any other. Its data file is 64 bytes."""
    (folder / "model.onnx").write_bytes(data)
    (folder / "data").write_bytes(bytes(range(64)))
    graph = load_model(folder / "model.onnx")
    infer(graph)
    optimize(graph, generate=len(data) % 2 == 0)


def gguf(data: bytes, folder: Path) -> None:
    """A GGUF file, converted. Whatever becomes of it, nothing half written is left."""
    (folder / "model.gguf").write_bytes(data)
    try:
        convert(folder / "model.gguf", folder / "out" / "model.onnx")
    except BaseException:
        assert not (folder / "out").exists(), "half a conversion was left"
        raise
    assert (folder / "out" / "model.onnx").is_file()


def tokenizer(data: bytes, folder: Path) -> None:
    """The files of a tokenizer, a text and a conversation; the first file in the order of TOKENIZER_FILES."""
    parts = data.split(SEPARATOR)
    for name, part in zip(TOKENIZER_FILES, parts, strict=False):
        (folder / name).write_bytes(part)
    text = parts[-1].decode("utf-8", "replace")[:500]
    loaded = Tokenizer.load(folder)
    ids = loaded.encode(text)
    stream = loaded.stream(ids)
    "".join([*(stream.push(i) for i in ids), stream.finish()])
    loaded.decode([i * 7919 % (1 << 20) for i in range(20)])
    if loaded.has_chat_template:
        loaded.encode_chat([{"role": "user", "content": text}])


def caches(data: bytes, folder: Path) -> None:
    """An entry of the cache: only what was written there comes back, never the damaged rest."""
    entry = folder / "entry"
    entry.write_bytes(data)
    for kind in ("spirv", "pipeline"):
        found = cache.read_entry(entry, kind)
        if found is not None:
            cache.write_entry(folder / "again" / "entry", kind, found)
            assert (folder / "again" / "entry").read_bytes() == data, "it is not what would have been written"
    source = data[:100].decode("latin-1")
    file = compiler._cache_file(source)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    compiler._read_cached(source)
    file.unlink()


def compiled(data: bytes, folder: Path) -> None:
    """A compiled file, signed anew where it ends in ?; or, where it begins as JSON, the program in one."""
    if data[:1] == b"{":
        zeros = bytes(16)  # no longer than any weight
        section = Section(str(folder / "model.tlvk"), "weights/0000", np.frombuffer(zeros, np.uint8), zlib.crc32(zeros))
        program_json.from_json(data, lambda name: section, lambda name: b"")
        return
    (folder / "model.tlvk").write_bytes(data)
    if data[-1:] == b"?":
        _sign(folder / "model.tlvk")
    file = CompiledFile(folder / "model.tlvk")
    for number in range(len(file.targets)):
        file.programs(number)
    file.texts("tokenizer/")
    file.check_all()


def _sign(path: Path) -> None:
    """Give a file the checksum that it should have, as a forger would: a fuzzer does not hit on it by chance."""
    with path.open("r+b") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping, memoryview(mapping) as view:
            digest = archive._digest(view, archive._members("the file", file, view).values())
        file.seek(-min(64, path.stat().st_size), 2)
        file.write(digest.encode())


def shapes(data: bytes, folder: Path) -> None:
    """Texts of dimensions, one a line: parsed, printed, compared. What is proved of them holds for some lengths."""
    lines = data.decode("utf-8", "replace").split("\n")[:4]
    dims = [shape.parse_dim(line) for line in lines]
    for dim in dims:
        json.dumps(shape.to_program(dim))
        dimtext.parse_dim(shape.format_dim(dim), lambda text: shape.symbol(text))
    for a in dims:
        for b in dims[:2]:
            structure.check_claims(a, b)


TARGETS: dict[str, Target] = {
    "onnx": onnx,
    "gguf": gguf,
    "tokenizer": tokenizer,
    "caches": caches,
    "compiled": compiled,
    "shapes": shapes,
    "graphs": structure.graphs,
}
