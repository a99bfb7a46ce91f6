"""Element `index` of a value as an expression, read backwards through the nodes that make it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.ops.dtypes import FLOATS, INDICES, from_onnx
from tlite_vk.graph.shape import Dim

from .formula import (
    FALSE,
    TRUE,
    Element,
    Formula,
    as_formula,
    as_number,
    at_least_0,
    both,
    each,
    either,
    negated,
    nonzero,
    pairwise,
    select,
)
from .moves import Index, Place, axes_of, broadcast, moved
from .polynomial import ONE, ZERO, Atoms, Polynomial, never_negative, number, of

MAX_TERMS = 4  # products that are summed one by one
MAX_COMPARED = 1 << 16  # elements of a constant that are looked at
Rule = Callable[["Reader", Node, Index], "Element | None"]


class Reader:
    """Reads elements of a graph's values.

    maker: the node that computes a value. known: values of which every element is this number.
    stop: values that are taken as they are.
    """

    def __init__(
        self,
        maker: Callable[[Value], Node | None],
        *,
        known: Mapping[Value, int] | None = None,
        stop: Collection[Value] = (),
        resolve: Callable[[Value], Value] = lambda v: v,
    ) -> None:
        self.atoms = Atoms()
        self._maker, self._known, self._stop, self._resolve = maker, dict(known or {}), stop, resolve
        self._seen: dict[Place, Element] = {}

    def index(self, value: Value, names: str) -> Index:
        """One index per axis of the value, named by the letters."""
        return tuple(self.atoms.index(n, d) for n, d in zip(names, value.dims, strict=True))

    def step(self, value: Value, index: Index) -> Place | None:
        """Where an element comes from, through one node that only moves elements."""
        value = self._resolve(value)
        node = None if value in self._stop or value.constant is not None else self._maker(value)
        return None if node is None else moved(self.atoms, node, node.outputs.index(value), index)

    def source(self, value: Value, index: Index) -> Place:
        """Where an element comes from, through nodes that only move elements."""
        while True:
            value = self._resolve(value)
            place = self.step(value, index)
            if place is None:
                return value, index
            value, index = place

    def read(self, value: Value, index: Index) -> Element:
        """The element as an expression; what cannot be taken apart is an atom of its own."""
        value, index = self.source(value, index)
        key = (value, index)
        if key not in self._seen:
            self._seen[key] = self._read(value, index)
        return self._seen[key]

    def _read(self, value: Value, index: Index) -> Element:
        if value in self._known:
            return _typed(value, number(self._known[value]))
        if value.constant is not None or value.content is not None:
            found = self._constant(value, index)
            return self.leaf(value, index) if found is None else found
        node = None if value in self._stop else self._maker(value)
        rule = _RULES.get(node.op) if node is not None and node.domain == "" else None
        result = None if rule is None or node is None else rule(self, node, index)
        return self.leaf(value, index) if result is None else result

    def leaf(self, value: Value, index: Index) -> Element:
        """The element as an atom."""
        atom = self.atoms.atom("element", value, index)
        return nonzero(atom) if value.dtype == "bool" else of(atom)

    def _constant(self, value: Value, index: Index) -> Element | None:
        at = [i.constant for i in index]
        if value.content is not None and value.constant is None:
            if any(a is None for a in at) and value.content.size != 1:
                return None
            place = tuple(0 if a is None else int(a) for a in at)
            item = value.content[place]
            return (TRUE if item else FALSE) if isinstance(item, bool) else self.atoms.dim(item)
        if not isinstance(value.constant, np.ndarray) or value.constant.shape != value.shape:
            return None
        array = value.constant
        for axis, a in enumerate(at):
            if a is not None:
                if not 0 <= a < array.shape[axis]:
                    return None
                array = array.take([int(a)], axis)
        if array.size == 0 or array.size > MAX_COMPARED:
            return None
        if bool((array == array.flat[0]).all()):
            return _typed(value, number(array.flat[0].item()))
        return _progression(array, index)

    def operand(self, node: Node, i: int, index: Index) -> Element | None:
        """The element of an input that is broadcast to the node's output."""
        value = node.input(i)
        place = broadcast(index, value.dims, node.output.dims)
        return None if place is None else self.read(value, place)


def _progression(array: npt.NDArray[Any], index: Index) -> Element | None:
    """Integers that grow evenly along one axis, as a folded Range does."""
    axes = [axis for axis, extent in enumerate(array.shape) if extent > 1]
    line = array.reshape(-1)
    if len(axes) != 1 or array.dtype.kind not in "iu" or len(np.unique(np.diff(line.astype(np.int64)))) != 1:
        return None
    first, step = int(line[0]), int(line[1]) - int(line[0])
    return index[axes[0]].scaled(step) + number(first)


def _typed(value: Value, p: Polynomial) -> Element:
    return as_formula(p) if value.dtype == "bool" else p


_RULES: dict[str, Rule] = {}


def _reads(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        for name in names:
            _RULES[name] = rule
        return rule

    return register


def _binary(combine: Callable[[Polynomial, Polynomial], Element]) -> Rule:
    def rule(reader: Reader, node: Node, index: Index) -> Element | None:
        a, b = reader.operand(node, 0, index), reader.operand(node, 1, index)
        return None if a is None or b is None else pairwise(a, b, combine)

    return rule


def _integers(node: Node) -> bool:
    return all(v is not None and v.dtype in INDICES for v in node.inputs)


def _comparison(combine: Callable[[Polynomial, Polynomial], Element]) -> Rule:
    rule = _binary(combine)
    return lambda reader, node, index: rule(reader, node, index) if _integers(node) else None


_reads("Add")(_binary(lambda a, b: a + b))
_reads("Sub")(_binary(lambda a, b: a - b))
_reads("Mul")(_binary(lambda a, b: a * b))
_reads("LessOrEqual")(_comparison(lambda a, b: at_least_0(b - a)))
_reads("Less")(_comparison(lambda a, b: at_least_0(b - a - ONE)))
_reads("GreaterOrEqual")(_comparison(lambda a, b: at_least_0(a - b)))
_reads("Greater")(_comparison(lambda a, b: at_least_0(a - b - ONE)))
_reads("Equal")(_comparison(lambda a, b: both(at_least_0(a - b), at_least_0(b - a))))


@_reads("And", "Or")
def _logic(reader: Reader, node: Node, index: Index) -> Element | None:
    a, b = reader.operand(node, 0, index), reader.operand(node, 1, index)
    if a is None or b is None:
        return None
    return (both if node.op == "And" else either)(as_formula(a), as_formula(b))


@_reads("Not")
def _not(reader: Reader, node: Node, index: Index) -> Element | None:
    return negated(as_formula(reader.read(node.input(0), index)))


@_reads("Neg")
def _neg(reader: Reader, node: Node, index: Index) -> Element | None:
    return each(reader.read(node.input(0), index), lambda x: -x)


@_reads("Div")
def _div(reader: Reader, node: Node, index: Index) -> Element | None:
    a, b = reader.operand(node, 0, index), reader.operand(node, 1, index)
    if a is None or not isinstance(b, Polynomial) or not b.constant or node.output.dtype not in FLOATS:
        return None
    factor = 1.0 / b.constant
    return each(a, lambda x: x.scaled(factor))


@_reads("Cos", "Sin")
def _turn(reader: Reader, node: Node, index: Index) -> Element | None:
    kind = node.op.lower()
    return each(reader.read(node.input(0), index), lambda x: of(reader.atoms.atom(kind, x)))


@_reads("Where")
def _where(reader: Reader, node: Node, index: Index) -> Element | None:
    condition, yes, no = (reader.operand(node, i, index) for i in range(3))
    if condition is None or yes is None or no is None:
        return None
    if node.output.dtype == "bool":
        yes, no = as_formula(yes), as_formula(no)
    return select(as_formula(condition), yes, no)


@_reads("Cast")
def _cast(reader: Reader, node: Node, index: Index) -> Element | None:
    source, target = node.input(0).dtype, from_onnx(node.attributes["to"])
    x = reader.read(node.input(0), index)
    if target == "bool":
        return as_formula(x)
    exact = source == "bool" or source in INDICES or (source in FLOATS and target in ("float32", "float64"))
    return as_number(x) if exact and (target in INDICES or target in FLOATS) else None


@_reads("Range")
def _range(reader: Reader, node: Node, index: Index) -> Element | None:
    start, step = reader.read(node.input(0), ()), reader.read(node.input(2), ())
    if not isinstance(start, Polynomial) or not isinstance(step, Polynomial):
        return None
    return start + step * index[0]


@_reads("ConstantOfShape")
def _filled(reader: Reader, node: Node, index: Index) -> Element | None:
    fill = node.attributes.get("value")
    return _typed(node.output, ZERO if fill is None else number(np.asarray(fill).reshape(-1)[0].item()))


@_reads("Trilu")
def _trilu(reader: Reader, node: Node, index: Index) -> Element | None:
    k = ZERO if node.optional(1) is None else reader.read(node.input(1), ())
    if not isinstance(k, Polynomial):
        return None
    x, ahead = reader.read(node.input(0), index), index[-1] - index[-2] - k
    kept = at_least_0(ahead) if node.attributes.get("upper", 1) else at_least_0(-ahead)
    return select(kept, x, FALSE if isinstance(x, Formula) else ZERO)


@_reads("CumSum")
def _running_sum(reader: Reader, node: Node, index: Index) -> Element | None:
    """Of equal elements."""
    axis = axes_of(node.input(1), len(index))
    if axis is None or node.attributes.get("exclusive", 0) or node.attributes.get("reverse", 0):
        return None
    item = reader.read(node.input(0), index)
    return item * (index[axis[0]] + ONE) if isinstance(item, Polynomial) and item.constant is not None else None


@_reads("ReduceSum")
def _sum(reader: Reader, node: Node, index: Index) -> Element | None:
    """Of equal elements."""
    x = node.input(0)
    axes = axes_of(node.optional(1), len(x.dims))
    if axes is None:
        return None
    wide = list(index)
    if not node.attributes.get("keepdims", 1):
        for axis in sorted(axes):
            wide.insert(axis, ZERO)
    count = ONE
    for axis in axes:
        wide[axis] = reader.atoms.index(f"sum of {x.name} over {axis}", x.dims[axis])
        count = count * reader.atoms.dim(x.dims[axis])
    item = reader.read(x, tuple(wide))
    return item * count if isinstance(item, Polynomial) and item.constant is not None else None


@_reads("MatMul")
def _matmul(reader: Reader, node: Node, index: Index) -> Element | None:
    """A product over very few elements, as exporters write an outer product."""
    a, b = node.input(0), node.input(1)
    depth: Dim = a.dims[-1]
    if not isinstance(depth, int) or depth > MAX_TERMS or len(a.dims) < 2 or len(b.dims) < 2:
        return None
    lead = node.output.dims[:-2]
    left, right = (broadcast(index[:-2], v.dims[:-2], lead) for v in (a, b))
    if left is None or right is None:
        return None
    total: Element = ZERO
    for k in range(depth):
        x = reader.read(a, (*left, index[-2], number(k)))
        y = reader.read(b, (*right, number(k), index[-1]))
        total = pairwise(total, pairwise(x, y, lambda p, q: p * q), lambda p, q: p + q)
    return total


@_reads("Gather")
def _gather(reader: Reader, node: Node, index: Index) -> Element | None:
    """By indices that are expressions themselves, and, as the operator wants it, inside of the data."""
    data, picks, axis = node.input(0), node.input(1), int(node.attributes.get("axis", 0)) % len(node.input(0).dims)
    pick = reader.read(picks, index[axis : axis + len(picks.dims)])
    at = _from_front(reader, pick, data.dims[axis])
    return None if at is None else reader.read(data, (*index[:axis], at, *index[axis + len(picks.dims) :]))


@_reads("GatherND")
def _gather_nd(reader: Reader, node: Node, index: Index) -> Element | None:
    data, picks, batch = node.input(0), node.input(1), int(node.attributes.get("batch_dims", 0))
    depth = picks.dims[-1]
    if not isinstance(depth, int) or batch:
        return None
    lead = index[: len(picks.dims) - 1]
    found = [_from_front(reader, reader.read(picks, (*lead, number(k))), data.dims[k]) for k in range(depth)]
    place = [p for p in found if p is not None]
    return reader.read(data, (*place, *index[len(lead) :])) if len(place) == depth else None


def _from_front(reader: Reader, pick: Element, extent: Dim) -> Polynomial | None:
    """An index counted from the front; None where it is none, or may be negative. Inputs are trusted."""
    if not isinstance(pick, Polynomial):
        return None
    if pick.constant is not None and pick.constant < 0:
        return pick + number(extent) if isinstance(extent, int) else None
    given = any(a.kind == "element" for a in pick.atoms())
    return pick if given or never_negative(pick, reader.atoms) else None
