"""A mask that is causal, a sliding window, padding of keys, or all of these -> attributes of Attention, and padding.

What the mask says is read from how it is computed: element (b, h, i, j) as a formula of i and j, which must be a
conjunction of j <= i + P, j > i + P - W and conditions on the key alone. So the mask [B, 1, T, S] itself disappears.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import numpy as np

from tlite_vk.graph.elements.formula import FALSE, TRUE, Element, Formula, Select, atoms_of, both, either, negated
from tlite_vk.graph.elements.moves import Index, broadcast
from tlite_vk.graph.elements.polynomial import Atom, Polynomial, never_negative
from tlite_vk.graph.elements.reader import Reader
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.ops.dtypes import INDICES
from tlite_vk.graph.shape import Shape, add, equal_shapes

from .base import Pass, RejectedError, Rewriter, require
from .reading import reader_of

HIDDEN = -1e4  # an additive mask this low or lower hides a key: what exporters use for it


@dataclass(frozen=True)
class Mask:
    """causal: no key after its query. window: keys a query sees back, itself included (0: all). padding: conditions on
    elements (b, j) of tensors [B, S], which hold where a key is valid. hidden: what is added to other keys' scores."""

    causal: bool
    window: int
    padding: tuple[Formula, ...]
    hidden: float


class AttentionMask(Pass):
    name: ClassVar[str] = "attention-mask"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            if node.op == "Attention" and node.domain == "" and node.optional(3) is not None:
                try:
                    self._fuse(rewriter, node)
                except RejectedError as why:
                    rewriter.reject(node, str(why))

    def _fuse(self, rewriter: Rewriter, node: Node) -> None:
        require(node.optional(6) is None, "it also counts valid keys")
        a = node.attributes
        own = (a.get("is_causal", 0), a.get("left_window_size", -1), a.get("right_window_size", -1))
        require(own == (0, -1, -1), "it has a causal mask or window besides")
        mask = read_mask(reader_of(rewriter), node)
        padding = _padding(rewriter, node, mask.padding) if mask.padding else None
        attributes = {**a, "is_causal": int(mask.causal), "left_window_size": mask.window - 1, "hidden": mask.hidden}
        inputs = [*node.inputs[:3], padding, *node.inputs[4:]]
        rewriter.replace(node, rewriter.make("Attention", inputs, node, attributes, domain="", outputs=node.outputs))
        window = f", window of {mask.window}" if mask.window else ""
        rewriter.matched(node, f"{'causal' if mask.causal else 'all keys'}{window}{', padding' if padding else ''}")


def read_mask(reader: Reader, node: Node) -> Mask:
    """What the mask of an Attention says. Raises RejectedError where it says something else than Mask can."""
    q, k, mask, past = node.input(0), node.input(1), node.input(3), node.optional(4)
    heads = q.dims[1] if len(q.dims) == 4 else int(node.attributes["q_num_heads"])
    rows = q.dims[2] if len(q.dims) == 4 else q.dims[1]
    keys = k.dims[2] if len(k.dims) == 4 else k.dims[1]
    before = 0 if past is None else past.dims[2]
    scores = (q.dims[0], heads, rows, add(before, keys))
    index = tuple(reader.atoms.index(n, d) for n, d in zip("bhij", scores, strict=True))
    place = broadcast(index, mask.dims, scores)
    require(place is not None, f"its mask {mask} does not have the shape of its scores")
    assert place is not None
    ahead = index[3] - index[2] - reader.atoms.dim(before)  # how far a key lies after its query
    causal, window = False, 0
    padding: list[Formula] = []
    element = reader.read(mask, place)
    for part in _conjunction(_visible(element)):
        if part.kind == "at_least_0" and never_negative(part.part, reader.atoms):
            continue
        if part.kind == "at_least_0" and part.part == -ahead:
            causal = True
            continue
        width = (part.part - ahead).constant if part.kind == "at_least_0" else None
        if width is not None and width >= 0:
            window = min(window or int(width) + 1, int(width) + 1)
            continue
        if all(_is_of_key(atom, (index[0], index[3]), (scores[0], scores[3])) for atom in atoms_of(part)):
            padding.append(part)
            continue
        raise RejectedError(f"its mask has the condition {part}")
    return Mask(
        causal or (never_negative(-ahead, reader.atoms) and window > 0), window, tuple(padding), _hides_by(element)
    )


def _hides_by(element: Element) -> float:
    """What the mask adds to the scores of keys that it hides."""
    numbers: set[float] = set()
    pending = [element]
    while pending:
        part = pending.pop()
        if isinstance(part, Select):
            pending += [part.yes, part.no]
        elif isinstance(part, Polynomial) and part.constant:
            numbers.add(float(part.constant))
    require(len(numbers) <= 1, f"its mask adds {' and '.join(map(str, sorted(numbers)))}")
    return numbers.pop() if numbers else -math.inf


def _is_of_key(atom: Atom, index: Index, extents: Shape) -> bool:
    """Whether the atom is element (b, j) of an integer or boolean tensor [B, S]."""
    if atom.kind != "element" or atom.key[2] != index:
        return False
    value: Value = atom.key[1]
    return value.dtype in (*INDICES, "bool") and equal_shapes(value.dims, extents)


def _conjunction(formula: Formula) -> list[Formula]:
    if formula == FALSE:
        raise RejectedError("its mask hides all keys")
    return sorted(formula.parts, key=str) if formula.kind == "all" else [formula]


def _visible(element: Element) -> Formula:
    """Where a mask lets a key be seen: where it is true, or adds 0."""
    if isinstance(element, Formula):
        return element
    if isinstance(element, Select):
        yes, no = _visible(element.yes), _visible(element.no)
        return either(both(element.condition, yes), both(negated(element.condition), no))
    value = element.constant
    require(value is not None, f"its mask adds {element}")
    require(value == 0 or value <= HIDDEN, f"its mask adds {value}")  # type: ignore[operator]
    return TRUE if value == 0 else FALSE


def _padding(rewriter: Rewriter, node: Node, conditions: tuple[Formula, ...]) -> Value:
    """bool [B, 1, 1, S] of conditions on elements (b, j)."""
    made: list[Node] = []

    def make(op: str, *inputs: Value, **attributes: int) -> Value:
        made.append(rewriter.make(op, list(inputs), node, attributes, domain="", name=f"{node.name}.valid"))
        return made[-1].output

    def build(f: Formula) -> Value:
        if f.kind == "nonzero":
            value: Value = f.part.key[1]
            return value if value.dtype == "bool" else make("Cast", value, to=9)
        if f.kind == "not":
            return make("Not", build(f.part))
        if f.kind in ("all", "any"):
            parts = [build(part) for part in sorted(f.parts, key=str)]
            return reduce(lambda x, y: make("And" if f.kind == "all" else "Or", x, y), parts)
        return _compared(rewriter, make, f.part)

    valid = build(both(*conditions))
    axes = rewriter.constant(f"{node.name}.axes", np.asarray([1, 2], np.int64))
    keys = make("Unsqueeze", valid, axes)
    rewriter.insert_before(node, made)
    return keys


def _compared(rewriter: Rewriter, make: Callable[..., Value], p: Polynomial) -> Value:
    """Whether p >= 0, where p is an element of a tensor, or its opposite, plus a number."""
    factors = {m[0]: c for m, c in p.terms.items() if len(m) == 1}
    require(len(factors) == 1 and set(factors.values()) <= {1, -1} and len(p.terms) <= 2, f"its mask compares {p}")
    ((atom, sign),) = factors.items()
    value: Value = atom.key[1]
    bound = np.asarray(-sign * p.terms.get((), 0), value.dtype)
    op = "GreaterOrEqual" if sign > 0 else "LessOrEqual"
    return make(op, value, rewriter.constant(f"{value.name}.bound", bound))
