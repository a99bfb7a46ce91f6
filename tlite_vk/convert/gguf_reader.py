"""Read a GGUF file: metadata, tensor table, and tensor rows on demand.

Source: the GGUF specification, version 3 (little endian). The `gguf` package reads the same files, but takes seconds
over the token lists and trusts counts and offsets; here every length is checked against the file before it is used, and
tensor data is read by rows, so that memory stays flat however large the model is.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from tlite_vk.convert.gguf_types import TYPES, GgmlType
from tlite_vk.errors import ModelError
from tlite_vk.graph.budget import check, take

Scalar = int | float | bool | str
Value = Scalar | list[Scalar]

_MAGIC = b"GGUF"
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MIN_ENTRY = 8 + 4 + 1  # a key's length, a type, one byte of value
_MIN_TENSOR = 8 + 4 + 8 + 4 + 8  # a name's length, rank, one dimension, type, offset
_MAX_RANK = 4
_MAX_NAME = 200  # characters; the specification has at most 64 for a tensor, real keys are shorter
OBJECT_BYTES = 64  # of a number or a text in Python, in a list
_DEFAULT_ALIGNMENT = 32
_MAX_STRING = 1 << 24  # bytes; real ones (chat templates) stay under 100 kB
_MAX_ARRAY = 1 << 22  # elements; real ones (vocabularies, merges) stay under a million


@dataclass(frozen=True)
class Tensor:
    """One entry of the tensor table. `shape` has the rows first, [N, K]; GGUF stores it reversed."""

    name: str
    shape: tuple[int, ...]
    type: GgmlType
    offset: int  # bytes from the start of the file
    nbytes: int

    @property
    def rows(self) -> int:
        """Number of rows: the product of all dimensions but the last."""
        return math.prod(self.shape[:-1])

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.shape[-1] // self.type.block * self.type.block_bytes


def shown(value: object) -> str:
    """A value of the metadata in a message: not all of it where it is long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


class GgufFile:
    """An open GGUF file. Use as a context manager.

    Raises ModelError, in one line, for anything that is not a complete little-endian GGUF file of version 2 or 3.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open(path)
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            self.metadata: dict[str, Value] = {}
            self.tensors: dict[str, Tensor] = {}
            self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> GgufFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()

    def read_rows(self, tensor: Tensor, first: int, count: int) -> npt.NDArray[np.uint8]:
        """Raw bytes of `count` rows from row `first`: uint8 [count, row_bytes]."""
        size = count * tensor.row_bytes
        check(8 * size, f"a row of {tensor.name!r}")
        self._file.seek(tensor.offset + first * tensor.row_bytes)
        data = self._bytes(size)
        if len(data) != size:
            raise self._damaged(f"tensor {tensor.name!r} ends early")
        return np.frombuffer(data, np.uint8).reshape(count, tensor.row_bytes)

    def chunks(self, size: int = 1 << 20) -> Iterator[bytes]:
        """The whole file from its start, `size` bytes at a time (for hashing)."""
        self._file.seek(0)
        while data := self._bytes(size):
            yield data

    def _bytes(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise ModelError(f"cannot read {self.path}: {error.strerror}") from error

    # -- header -----------------------------------------------------------------------------------------------------

    def _read_header(self) -> None:
        if self._bytes(4) != _MAGIC:
            raise ModelError(f"{self.path} is not a GGUF file (its first four bytes are not 'GGUF')")
        version = self._number("I")
        if version not in (2, 3):
            big_endian = version & 0xFFFF == 0
            what = "big-endian GGUF" if big_endian else f"GGUF version {version}"
            raise ModelError(f"{self.path}: {what} is not supported; versions 2 and 3, little endian, are")
        tensor_count = self._count(_MIN_TENSOR, "tensors")
        entry_count = self._count(_MIN_ENTRY, "metadata entries")
        for _ in range(entry_count):
            key = self._name("metadata key")
            if key in self.metadata:
                raise self._damaged(f"metadata key {key!r} occurs twice")
            self.metadata[key] = self._value(self._number("I"))
        entries = [self._tensor_entry() for _ in range(tensor_count)]
        self._place_tensors(entries)

    def _tensor_entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._name("tensor name")
        rank = self._number("I")
        if not 1 <= rank <= _MAX_RANK:
            raise self._damaged(f"tensor {name!r} has {rank} dimensions")
        dims = tuple(self._number("Q") for _ in range(rank))
        if 0 in dims:
            raise self._damaged(f"tensor {name!r} has an empty dimension")
        return name, dims[::-1], self._number("I"), self._number("Q")

    def _place_tensors(self, entries: list[tuple[str, tuple[int, ...], int, int]]) -> None:
        alignment = self.metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0 or alignment % 8:
            raise self._damaged(f"general.alignment is {shown(alignment)}")
        start = -(-self._file.tell() // alignment) * alignment
        for name, shape, type_id, offset in entries:
            if name in self.tensors:
                raise self._damaged(f"tensor {name!r} occurs twice")
            if type_id not in TYPES:
                raise ModelError(f"{self.path}: tensor {name!r} has the unknown GGUF type number {type_id}")
            kind = TYPES[type_id]
            if shape[-1] % kind.block:
                raise self._damaged(f"tensor {name!r} has {shape[-1]} columns, no multiple of {kind.block}")
            nbytes = math.prod(shape) // kind.block * kind.block_bytes
            if offset % alignment or start + offset + nbytes > self.size:
                missing = start + offset + nbytes - self.size
                what = f"is cut off: {missing} bytes are missing" if missing > 0 else "is not aligned"
                raise self._damaged(f"tensor {name!r} {what}")
            self.tensors[name] = Tensor(name, shape, kind, start + offset, nbytes)

    # -- primitive values -------------------------------------------------------------------------------------------

    def _read(self, size: int) -> bytes:
        data = self._bytes(size)
        if len(data) != size:
            raise self._damaged("it ends within its header")
        return data

    def _number(self, code: str) -> int:
        return int(struct.unpack("<" + code, self._read(struct.calcsize("<" + code)))[0])

    def _count(self, min_bytes: int, what: str) -> int:
        count = self._number("Q")
        if count * min_bytes > self.size - self._file.tell():
            raise self._damaged(f"it announces {count} {what}, more than fit in its {self.size} bytes")
        return count

    def _string(self) -> str:
        # A few published files carry stray bytes in a token; they must not make the whole file unreadable.
        size = self._number("Q")
        if size > _MAX_STRING:
            raise self._damaged(f"it holds a string of {size} bytes")
        take(OBJECT_BYTES + 4 * size, f"the header of {self.path}")
        return self._read(size).decode("utf-8", errors="replace")

    def _name(self, what: str) -> str:
        name = self._string()
        if len(name) > _MAX_NAME:
            raise self._damaged(f"it has a {what} of {len(name)} characters")
        return name

    def _value(self, kind: int) -> Value:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array()
        return self._scalars(kind, 1)[0]

    def _array(self) -> list[Scalar]:
        kind = self._number("I")
        width = 8 if kind == _STRING else struct.calcsize("<" + _SCALARS.get(kind, "B"))
        count = self._count(width, "array elements")
        if count > _MAX_ARRAY:
            raise self._damaged(f"it holds an array of {count} elements")
        if kind == _STRING:
            return [self._string() for _ in range(count)]
        return self._scalars(kind, count)

    def _scalars(self, kind: int, count: int) -> list[Scalar]:
        if kind not in _SCALARS:
            raise self._damaged(f"a metadata value has the unsupported type number {kind}")
        take(OBJECT_BYTES * count, f"the header of {self.path}")
        layout = f"<{count}{_SCALARS[kind]}"
        return list(struct.unpack(layout, self._read(struct.calcsize(layout))))

    def _damaged(self, why: str) -> ModelError:
        return ModelError(f"{self.path} is damaged or incomplete: {why}; fetch it again")


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise ModelError(f"no such file: {path}") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
