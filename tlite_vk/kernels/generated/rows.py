"""Kernels that reduce: each result comes from a row of elements, which one invocation or one workgroup walks over.

Short rows take one invocation each. Long ones take a workgroup: every lane walks over its share, and the shares are
combined through shared memory, which is right at any subgroup size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tlite_vk.graph import shape as dims
from tlite_vk.graph.shape import Dim, Shape
from tlite_vk.lower import Lowering
from tlite_vk.program import Window

from .index import Index
from .source import Source

SHORT = 64
"""Rows up to this length are walked over by one invocation."""


class Rows:
    """The rows of a tensor of `shape` along `axes`, one at a time per invocation or workgroup.

    `source` is the kernel; `row` the number of the row; `element(position in the row)` the position in the tensor.
    """

    def __init__(self, low: Lowering, label: str, shape: Sequence[Dim], axes: Sequence[int]) -> None:
        self.shape: Shape = tuple(low.dim(d) for d in shape)
        self.axes = sorted(axes)
        self.kept = [i for i in range(len(self.shape)) if i not in self.axes]
        self.length = dims.product(self.shape[i] for i in self.axes)
        self.count = dims.product(self.shape[i] for i in self.kept)
        self.alone = isinstance(self.length, int) and self.length <= SHORT
        lanes = 64 if self.alone else _lanes(low)
        self.source = Source(low, label, lanes)
        self.row, self.groups = self.source.each(self.count) if self.alone else self.source.each_group(self.count)
        self.lanes = 1 if self.alone else self.source.lanes
        self._start = "0" if self.alone else self.source.lane()
        self._flat: set[str] = set()  # offsets of elements of the row
        self._place = Index(self.source, [self.shape[i] for i in self.kept], flat=self.row)

    def kept_at(self) -> Index:
        """The position of the row among the axes that are kept."""
        return self._place

    def read_only_here(self) -> list[Window]:
        """Windows of the buffers of which a row's kernel reads the elements of its own row only.

        What is written after a `combine` may take over their place: all lanes have read the whole row by then, but for
        the elements that each reads again just before it writes them.
        """
        return self.source.read_only_at(self._flat)

    def element(self, position: str) -> Index:
        """The position in the tensor of an element of the row."""
        if not self.kept and len(self.axes) == len(self.shape):
            self._flat.add(position)
            return Index(self.source, self.shape, flat=position)
        if self.axes == list(range(len(self.kept), len(self.shape))):  # the last axes: rows lie side by side
            flat = self.source.let("int", f"{self.row} * {self.source.dim(self.length)} + {position}")
            self._flat.add(flat)
            return Index(self.source, self.shape, flat=flat)
        inner = Index(self.source, [self.shape[i] for i in self.axes], flat=position)
        coords = [""] * len(self.shape)
        for i, axis in enumerate(self.kept):
            coords[axis] = self._place.coord(i)
        for i, axis in enumerate(self.axes):
            coords[axis] = inner.coord(i)
        return Index(self.source, self.shape, coords=coords)

    @contextmanager
    def walk(self) -> Iterator[str]:
        """A loop over this invocation's share of the row; yields the position in the row."""
        with self.source.loop(self.source.dim(self.length), self._start, str(self.lanes)) as position:
            yield position

    def combine(self, kind: str, name: str, both: Callable[[str, str], str]) -> str:
        """The combination of all lanes' values of a variable, the same in every lane."""
        if self.alone:
            return name
        source = self.source
        shared = f"shared{kind}"
        source.declare(f"shared {kind} {shared}[{self.lanes}];")
        lane = source.lane()
        source.line(f"{shared}[{lane}] = {name};")
        source.line("barrier();")
        live = source.fresh("n")
        with source.block(f"for (int {live} = {self.lanes}; {live} > 1; {live} = ({live} + 1) / 2)"):
            other = f"{shared}[{lane} + ({live} + 1) / 2]"
            with source.block(f"if ({lane} < {live} / 2)"):
                source.line(f"{shared}[{lane}] = {both(f'{shared}[{lane}]', other)};")
            source.line("barrier();")
        result = source.variable(kind, f"{shared}[0]")
        source.line("barrier();")
        return result

    @contextmanager
    def once(self) -> Iterator[None]:
        """Lines that one lane of the row runs."""
        if self.alone:
            yield
            return
        with self.source.block(f"if ({self.source.lane()} == 0)"):
            yield

    def emit(self) -> None:
        self.source.emit(self.groups)


def _lanes(low: Lowering) -> int:
    """Invocations per long row: about a subgroup on a CPU, where they share one core."""
    return min(low.target.lanes, 16) if low.target.cpu else 128
