"""Positions in tensors. A position knows its coordinates or its flat offset; each gives the other when it is needed.

So a chain of elementwise operators over equal shapes never computes a coordinate, and a Transpose or a Slice of
something that is computed on the spot never computes an offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from tlite_vk.graph import shape as dims
from tlite_vk.graph.shape import Dim, Shape

from .source import Source


class Index:
    """A position in a tensor of `shape`, as text of ints in a kernel."""

    def __init__(
        self, source: Source, shape: Sequence[Dim], *, flat: str | None = None, coords: Sequence[str] | None = None
    ) -> None:
        self.source = source
        self.shape: Shape = tuple(source.low.dim(d) for d in shape)
        assert (flat is None) != (coords is None), "a position is given in one way"
        assert coords is None or len(coords) == len(self.shape), "one coordinate per axis"
        self._flat = flat
        self._coords = None if coords is None else tuple(coords)

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def key(self) -> object:
        """Equal for equal positions."""
        return self.shape, self._flat, self._coords

    def flat(self) -> str:
        """The offset in elements of a tensor without gaps."""
        if self._flat is not None:
            return self._flat
        text = reduce(
            lambda total, i: add(times(total, self.source.dim(self.shape[i])), self.coord(i)), range(self.rank), "0"
        )
        return self.source.let("int", text)

    def coord(self, axis: int) -> str:
        """The coordinate along an axis."""
        return self._from_flat(axis) if self._coords is None else self._coords[axis]

    def coords(self) -> list[str]:
        return [self.coord(i) for i in range(self.rank)]

    def _from_flat(self, axis: int) -> str:
        if self.shape[axis] == 1:
            return "0"
        assert self._flat is not None
        inner, outer = dims.product(self.shape[axis + 1 :]), dims.product(self.shape[:axis])
        text = self._flat
        if inner != 1:
            text = self.source.let("int", f"{text} / {self.source.dim(inner)}")
        if outer != 1:
            text = self.source.let("int", f"{text} % {self.source.dim(self.shape[axis])}")
        return text

    # --- other positions that follow from this one ---------------------------------------------------------------

    def of(self, shape: Sequence[Dim], coords: Sequence[str]) -> Index:
        """The position with these coordinates in a tensor of another shape."""
        return Index(self.source, shape, coords=coords)

    def same_place(self, shape: Sequence[Dim]) -> Index:
        """The position with the same offset in a tensor of as many elements."""
        shape = tuple(self.source.low.dim(d) for d in shape)
        if shape == self.shape:
            return self
        if self._flat is not None:
            return Index(self.source, shape, flat=self._flat)
        kept = [c for d, c in zip(self.shape, self.coords(), strict=True) if d != 1]
        if [d for d in shape if d != 1] == [d for d in self.shape if d != 1]:  # axes of 1 come and go
            rest = iter(kept)
            return Index(self.source, shape, coords=["0" if d == 1 else next(rest) for d in shape])
        return Index(self.source, shape, flat=self.flat())

    def broadcast(self, shape: Sequence[Dim]) -> Index:
        """The position that an operand of `shape` has for this result, by numpy's broadcasting."""
        shape = tuple(self.source.low.dim(d) for d in shape)
        if shape == self.shape:
            return self
        if dims.product(shape) == 1:
            return Index(self.source, shape, coords=["0"] * len(shape))
        first = self.rank - len(shape)
        if all(d == 1 for d in self.shape[:first]) and shape == self.shape[first:]:
            return self.same_place(shape)
        return self.of(shape, [self._spread(d, first + i) for i, d in enumerate(shape)])

    def _spread(self, extent: Dim, axis: int) -> str:
        if extent == 1:
            return "0"
        here = self.coord(axis)
        if dims.equal(extent, self.shape[axis]):
            return here
        return self.source.let("int", f"{self.source.dim(extent)} == 1 ? 0 : {here}")

    def replaced(self, axis: int, coord: str, extent: Dim | None = None) -> Index:
        """This position with another coordinate along an axis (of another extent)."""
        coords = [coord if i == axis else self.coord(i) for i in range(self.rank)]
        shape = [d if i != axis or extent is None else extent for i, d in enumerate(self.shape)]
        return self.of(shape, coords)


def add(a: str, b: str) -> str:
    if a == "0" or b == "0":
        return b if a == "0" else a
    return f"{a} + {b}"


def times(a: str, b: str) -> str:
    if a == "0" or b == "0":
        return "0"
    if a == "1" or b == "1":
        return b if a == "1" else a
    return f"({a}) * {b}" if " " in a else f"{a} * {b}"
