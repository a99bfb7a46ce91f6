"""From the weights of several Programs to sections of one file, each content once.

A packed matrix is stored whole, whatever row blocks a target cuts it into: a block is a strided part of it, cheap to
copy out (uint8 [chunks, rows, bytes], docs/adr/0010). All else is stored as shaders read it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tlite_vk.book import identity
from tlite_vk.kernels.linear import PackedBlock, RowBlock
from tlite_vk.program import Program, WeightPlan
from tlite_vk.stored import THREADS
from tlite_vk.weight_bytes import fill

from .archive import ArchiveWriter

Bytes = npt.NDArray[np.uint8]
Part = tuple[int, int, int, list[list[int]]] | None
FOLDER = "weights/"
_AHEAD = 2 * THREADS


@dataclass(frozen=True)
class Place:
    """Where a weight lies: the section, and its part of a matrix (outer, rows, item, ranges), or None for all of it."""

    section: str
    part: Part


class SectionWriter:
    """Writes the weights of programs that may share them."""

    def __init__(self, archive: ArchiveWriter) -> None:
        self._archive = archive
        self._names: dict[str, str] = {}  # by what the section is made of
        self._contents: dict[bytes, str] = {}

    def write(self, programs: Iterable[Program]) -> list[dict[str, Place]]:
        """Write every section that the programs need; where each weight lies, by its name, for each program."""
        found = [{plan.name: _stored(plan) for plan in program.weights} for program in programs]
        wanted = {key: whole for program in found for key, whole, _ in program.values()}
        for key, data in _filled(wanted):
            self._names[key] = self._add(hashlib.sha256(data.data).digest() if len(found) > 1 else key.encode(), data)
        return [{name: Place(self._names[key], part) for name, (key, _, part) in program.items()} for program in found]

    def _add(self, digest: bytes, data: Bytes) -> str:
        """The name of the section with this content, written if it is new."""
        if digest not in self._contents:
            self._contents[digest] = f"{FOLDER}{len(self._contents):04}"
            self._archive.add_mapped(self._contents[digest], data.data)
        return self._contents[digest]


def _stored(plan: WeightPlan) -> tuple[str, WeightPlan, Part]:
    """(what the section is made of, the plan of the whole section, the weight's part of it)."""
    if not isinstance(plan.source, PackedBlock):
        return f"{plan.kind} {plan.name} {_origin(plan.source)}", plan, None
    source, packing = plan.source, plan.source.packing
    every = RowBlock(0, packing.rows, ((0, packing.rows),))
    whole = PackedBlock(source.weight, packing, every, source.part)
    key = f"{source.part} {identity(source.weight)} {packing}"
    codes = source.part == "codes"
    outer, item = (
        (packing.chunks, packing.format.chunk_bytes) if codes else (packing.groups, packing.format.scale_bytes)
    )
    taken = [list(r) for r in source.block.ranges]
    part = None if source.block.rows == packing.rows or not item else (outer, packing.rows, item, taken)
    return key, WeightPlan(plan.name, -(-whole.nbytes // 16) * 16, "packed", whole), part


def _origin(source: Any) -> str:
    return " ".join(identity(s) for s in source) if isinstance(source, tuple) else str(id(source))


def _filled(wanted: dict[str, WeightPlan]) -> Iterator[tuple[str, Bytes]]:
    """The content of each section, in order; threads pack a few ahead."""
    waiting: deque[tuple[str, Future[Bytes]]] = deque()
    with ThreadPoolExecutor(THREADS) as threads:
        try:
            for key, plan in wanted.items():
                waiting.append((key, threads.submit(_bytes, plan)))
                if len(waiting) > _AHEAD:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for key, future in waiting:
                yield key, future.result()
        finally:
            threads.shutdown(cancel_futures=True)


def _bytes(plan: WeightPlan) -> Bytes:
    data = np.zeros(plan.size, np.uint8)
    fill(data, plan)
    return data
