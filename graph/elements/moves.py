"""Operators that only move elements: where element `index` of the result comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.shape import Dim, Shape, equal, multiply

from .polynomial import ONE, ZERO, Atoms, Polynomial, never_negative, number

Index = tuple[Polynomial, ...]
Place = tuple[Value, Index]
"""A value and an index into it."""


def moved(atoms: Atoms, node: Node, output: int, index: Index) -> Place | None:
    """The element of an input that element `index` of output number `output` is, or None where the node computes."""
    rule = _RULES.get(node.op) if node.domain == "" else None
    if rule is None or node.optional(0) is None or node.input(0).shape is None:
        return None
    return rule(atoms, node, output, index)


def reshaped(atoms: Atoms, index: Index, source: Shape, target: Shape) -> Index | None:
    """An index into shape `target` as one into shape `source` of as many elements, row-major."""
    result: list[Polynomial] = []
    outs, ins = list(zip(target, index, strict=True)), list(source)
    while ins or outs:
        group_in, group_out = _group(ins, [d for d, _ in outs])
        if group_in is None or group_out is None:
            return None
        flat = ZERO
        for d, i in outs[:group_out]:
            flat = flat * atoms.dim(d) + i
        part: list[Polynomial] = []
        for d in reversed(ins[1:group_in]):
            flat, rest = atoms.divide(flat, d)
            part.append(rest)
        result += ([flat] if group_in else []) + part[::-1]
        outs, ins = outs[group_out:], ins[group_in:]
    return tuple(result)


def _group(ins: Sequence[Dim], outs: Sequence[Dim]) -> tuple[int | None, int | None]:
    """How many leading extents of each side have the same product, as few as possible but at least one overall."""
    a = b = 0
    product_in: Dim = 1
    product_out: Dim = 1
    while True:
        if (a or b) and equal(product_in, product_out):
            return a, b
        if a < len(ins) and (b >= len(outs) or a <= b):
            product_in = multiply(product_in, ins[a])
            a += 1
        elif b < len(outs):
            product_out = multiply(product_out, outs[b])
            b += 1
        else:
            return None, None


def broadcast(index: Index, source: Shape, target: Shape) -> Index | None:
    """An index into a result of shape `target` as one into an operand that is broadcast to it."""
    lead = len(target) - len(source)
    result: list[Polynomial] = []
    for d, wide, i in zip(source, target[lead:], index[lead:], strict=True):
        if not (d == 1 or equal(d, wide)):
            return None
        result.append(ZERO if d == 1 else i)
    return tuple(result)


Rule = Callable[[Atoms, Node, int, Index], Place | None]
_RULES: dict[str, Rule] = {}


def _moves(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        for name in names:
            _RULES[name] = rule
        return rule

    return register


@_moves("Reshape", "Squeeze", "Unsqueeze", "Flatten")
def _reshape(atoms: Atoms, node: Node, output: int, index: Index) -> Place | None:
    x = node.input(0)
    found = reshaped(atoms, index, x.dims, node.output.dims)
    return None if found is None else (x, found)


@_moves("Identity")
def _identity(atoms: Atoms, node: Node, output: int, index: Index) -> Place | None:
    return node.input(0), index


@_moves("Transpose")
def _transpose(atoms: Atoms, node: Node, output: int, index: Index) -> Place | None:
    x = node.input(0)
    perm = node.attributes.get("perm") or list(range(len(index)))[::-1]
    place = [ZERO] * len(index)
    for axis, i in zip(perm, index, strict=True):
        place[axis] = i
    return x, tuple(place)


@_moves("Expand")
def _expand(atoms: Atoms, node: Node, output: int, index: Index) -> Place | None:
    x = node.input(0)
    found = broadcast(index, x.dims, node.output.dims)
    return None if found is None else (x, found)


def _numbers(value: Value | None) -> list[int] | None:
    if value is None or not isinstance(value.constant, np.ndarray):
        return None
    return [int(n) for n in value.constant.reshape(-1)]


@_moves("Slice")
def _slice(atoms: Atoms, node: Node, output: int, index: Index) -> Place | None:
    x = node.input(0)
    starts, axes, steps = (_numbers(node.optional(i)) for i in (1, 3, 4))
    starts_content = _elements(atoms, node.optional(1))
    if starts_content is None or (node.optional(3) is not None and axes is None):
        return None
    count = len(starts_content)
    axes, steps = axes or list(range(count)), steps or ([1] * count if node.optional(4) is None else [])
    if len(steps) != count or any(s < 1 for s in steps):
        return None
    place = list(index)
    for n, (axis, step) in enumerate(zip(axes, steps, strict=True)):
        start, extent = starts_content[n], x.dims[axis]
        if starts is not None:
            if starts[n] < 0 and not isinstance(extent, int):
                return None
            start = number(max(0, starts[n] + (extent if starts[n] < 0 else 0)))
        place[axis] = index[axis].scaled(step) + start
    return x, tuple(place)


def _elements(atoms: Atoms, value: Value | None) -> list[Polynomial] | None:
    """The elements of a small integer tensor that are known, as polynomials that are not negative."""
    if value is None:
        return None
    if isinstance(value.constant, np.ndarray):
        return [number(int(n)) for n in value.constant.reshape(-1)]
    if value.content is None:
        return None
    found = [atoms.dim(d) for d in value.content.reshape(-1).tolist()]
    return found if all(never_negative(p, atoms) for p in found) else None


@_moves("Split")
def _split(atoms: Atoms, node: Node, output: int, index: Index) -> Place | None:
    x, axis = node.input(0), int(node.attributes.get("axis", 0))
    before = [v.dims[axis] for v in node.outputs[:output]]
    start = ZERO
    for d in before:
        start = start + atoms.dim(d)
    place = list(index)
    place[axis] = place[axis] + start
    return x, tuple(place)


@_moves("Gather")
def _gather(atoms: Atoms, node: Node, output: int, index: Index) -> Place | None:
    """A Gather by one number picks a slice; by anything else it computes."""
    x, picks, axis = node.input(0), node.input(1), int(node.attributes.get("axis", 0))
    pick = _numbers(picks)
    if pick is None or len(pick) != 1:
        return None
    axis %= len(x.dims)
    extent = x.dims[axis]
    if pick[0] < 0 and not isinstance(extent, int):
        return None
    at = number(pick[0] + (extent if pick[0] < 0 else 0))
    return x, (*index[:axis], at, *index[axis + len(picks.dims) :])


@_moves("GatherND")
def _gather_nd(atoms: Atoms, node: Node, output: int, index: Index) -> Place | None:
    """Likewise, by one place."""
    x, place = node.input(0), _numbers(node.input(1))
    lead = len(node.input(1).dims) - 1
    if place is None or node.attributes.get("batch_dims", 0) or node.input(1).dims[-1] != len(place):
        return None
    if any(n < 0 and not isinstance(d, int) for n, d in zip(place, x.dims, strict=False)):
        return None
    at = [number(n + (d if n < 0 else 0)) for n, d in zip(place, x.dims, strict=False)]
    return x, (*at, *index[lead:])


@_moves("Concat")
def _concat(atoms: Atoms, node: Node, output: int, index: Index) -> Place | None:
    """Only where the part is known for the whole index."""
    axis = int(node.attributes["axis"])
    start, at = ZERO, index[axis]
    for value in node.inputs:
        if value is None or value.shape is None:
            return None
        end = start + atoms.dim(value.dims[axis])
        if never_negative(at - start, atoms) and never_negative(end - ONE - at, atoms):
            place = list(index)
            place[axis] = at - start
            return value, tuple(place)
        start = end
    return None


def axes_of(value: Value | None, rank: int) -> list[int] | None:
    """A constant vector of axes, counted from the front."""
    found = _numbers(value)
    return None if found is None else [a % rank for a in found]
