"""A chat in one file: what was said, the tokens, and their keys and values, bound to the model that computed them.

MAGIC, version and header length (uint32, little endian), SHA-256 of all that follows; the header in JSON, then the
rows of the caches [rows, bytes], one after the other in the header's order.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .cache import write_atomic
from .compiled.archive import is_compiled
from .errors import InputError
from .graph.errors import GraphError

MAGIC, VERSION = b"tlvkchat", 1
_START = struct.Struct("<8sII32s")
_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16


@dataclass(frozen=True)
class ChatFile:
    """ids: tokens that the rows hold. lowest: first position that a ring still held. rows: uint8 [rows, bytes]."""

    binding: Mapping[str, Any]
    messages: list[dict[str, str]]
    ids: list[int]
    lowest: int
    rows: Mapping[str, npt.NDArray[np.uint8]]


def model_identity(path: Path) -> str:
    """A digest of a model's files: `path`, and those beside it that hold its weights, by size and samples.

    64 samples of 64 KiB a file: enough to tell models apart, quick for weights of many gigabytes.
    Raises InputError where they cannot be read any more.
    """
    try:
        return _digest([path, *_beside(path)])
    except (OSError, GraphError) as error:
        raise InputError(f"cannot read {path}, which a saved chat is bound to: {error}") from error


def _beside(path: Path) -> list[Path]:
    """The files that an ONNX model keeps its weights in, whatever their names; a compiled file has none."""
    if is_compiled(path):
        return []
    from .graph.onnx_load import model_facts  # with onnx: what a compiled file does without

    return [path.parent / name for name in model_facts(path)[1]]


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(struct.pack("<Q", size))
        last = max(0, size - _SAMPLE_BYTES)
        with file.open("rb") as stream:
            for start in sorted({last * i // (_SAMPLES - 1) for i in range(_SAMPLES)}):
                stream.seek(start)
                digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def write_chat(path: Path, chat: ChatFile) -> None:
    """Write it; the file is the old one or the new one, never half of one."""
    about = {
        "binding": dict(chat.binding),
        "messages": chat.messages,
        "ids": chat.ids,
        "lowest": chat.lowest,
        "rows": [[name, *array.shape] for name, array in chat.rows.items()],
    }
    header = json.dumps(about, ensure_ascii=False).encode("utf-8", "surrogatepass")
    body = b"".join([header, *(np.ascontiguousarray(array).tobytes() for array in chat.rows.values())])
    write_atomic(path, _START.pack(MAGIC, VERSION, len(header), hashlib.sha256(body).digest()) + body)


def read_chat(path: Path, binding: Mapping[str, Any]) -> ChatFile:
    """Read it for a model with this binding. Raises InputError, in one line, for any file that does not serve."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if data[: len(MAGIC)] != MAGIC:
        raise InputError(f"{path} is no saved chat")
    if len(data) < _START.size:
        raise InputError(f"{path} is damaged: it is too short")
    _, version, length, digest = _START.unpack_from(data)
    if version != VERSION:
        raise InputError(f"{path} has version {version} of the format, this program reads {VERSION}; save it again")
    body = memoryview(data)[_START.size :]
    if hashlib.sha256(body).digest() != digest:
        raise InputError(f"{path} is damaged: its checksum is wrong")
    try:
        chat = _parse(bytes(body[:length]), body[length:])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: its header is wrong") from error
    for name, mine in binding.items():
        if chat.binding.get(name) != mine:
            raise InputError(f"{path} was saved with another {name}{_values(name, chat.binding.get(name), mine)}")
    return chat


def _values(name: str, theirs: object, mine: object) -> str:
    return "; load the model that it was saved with" if name == "model" else f" ({theirs}, here {mine})"


def _parse(header: bytes, rest: memoryview) -> ChatFile:
    """Raises ValueError, KeyError or TypeError where anything is not as `write_chat` writes it."""
    about = json.loads(header.decode("utf-8", "surrogatepass"))
    messages = [{"role": m["role"], "content": m["content"]} for m in about["messages"]]
    ids, lowest = about["ids"], about["lowest"]
    if not all(isinstance(text, str) for m in messages for text in m.values()):
        raise ValueError("messages")
    if not all(type(i) is int and i >= 0 for i in [*ids, lowest]):
        raise ValueError("ids")
    rows: dict[str, npt.NDArray[np.uint8]] = {}
    at = 0
    for name, count, size in about["rows"]:
        part = np.frombuffer(rest[at : at + count * size], np.uint8)
        rows[str(name)] = part.reshape(count, size)
        at += count * size
    if at != len(rest):
        raise ValueError("rows")
    return ChatFile(dict(about["binding"]), messages, list(ids), lowest, rows)
