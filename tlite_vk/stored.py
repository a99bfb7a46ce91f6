"""Weights that lie packed in a compiled file: memory-mapped sections, and the parts of them that a Program uses."""

from __future__ import annotations

import mmap
import os
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import ModelError

Bytes = npt.NDArray[np.uint8]
THREADS = min(8, os.cpu_count() or 1)
"""That pack and copy weights side by side."""


@dataclass(eq=False)
class Section:
    """A range of a mapped file and its CRC-32, which is compared when the bytes are first used."""

    file: str
    name: str
    data: Bytes
    crc: int
    checked: bool = field(default=False, repr=False)

    def bytes(self) -> Bytes:
        """The content. Raises ModelError if it is not what was written. Threads may share a section."""
        if not self.checked:
            if zlib.crc32(self.data.data) != self.crc:
                raise ModelError(f"{self.file} is damaged ({self.name}); make it anew, or copy it again")
            self.checked = True
        return self.data


@dataclass(frozen=True, eq=False)
class StoredWeight:
    """The source of a weight plan: a section, or rows of a matrix that is packed in it.

    A matrix is uint8 [outer, rows, item]; `ranges` are the rows taken, one after another: none takes the section whole.
    """

    section: Section
    outer: int = 1
    rows: int = 0
    item: int = 0
    ranges: tuple[tuple[int, int], ...] = ()

    @property
    def nbytes(self) -> int:
        taken = sum(stop - start for start, stop in self.ranges)
        return self.outer * taken * self.item if self.ranges else int(self.section.data.size)

    @property
    def whole(self) -> bool:
        """Whether the weight is the section as it lies in the file."""
        return not self.ranges

    def fill(self, target: npt.NDArray[Any]) -> None:
        """Copy into `target` uint8 [at least nbytes]. Raises ModelError where the file is damaged."""
        data = self.section.bytes()
        if self.whole:
            target[: data.size] = data
            return
        source = data[: self.outer * self.rows * self.item].reshape(self.outer, self.rows, self.item)
        out = target[: self.nbytes].reshape(self.outer, -1, self.item)
        at = 0
        for start, stop in self.ranges:
            out[:, at : at + stop - start] = source[:, start:stop]
            at += stop - start

    def release(self) -> None:
        """Give the pages back to the system; they are read again if they are needed again."""
        release_pages(self.section.data)


def release_pages(array: npt.NDArray[Any]) -> None:
    """Give the pages of a contiguous array in a mapped file back to the system; nothing for any other array."""
    base: Any = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    mapping = base.obj if isinstance(base, memoryview) else base
    if isinstance(mapping, mmap.mmap) and array.flags.c_contiguous:
        start = array.ctypes.data - np.frombuffer(mapping, np.uint8).ctypes.data
        first, last = -(-start // mmap.PAGESIZE), (start + array.nbytes) // mmap.PAGESIZE
        if last > first:
            mapping.madvise(mmap.MADV_DONTNEED, first * mmap.PAGESIZE, (last - first) * mmap.PAGESIZE)
