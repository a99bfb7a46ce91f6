"""A mask that is causal, a sliding window, padding of keys, or all of these -> attributes of Attention, and padding.

What the mask says is read from how it is computed: element (b, h, i, j) as a formula of i and j, which must be a
conjunction of j <= i + P, j > i + P - W and conditions on the key alone. So the mask [B, 1, T, S] itself disappears.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tlite_vk.graph.elements.formula import FALSE, TRUE, Element, Formula, Select, both, either, negated
from tlite_vk.graph.elements.moves import broadcast
from tlite_vk.graph.elements.polynomial import Atom, never_negative
from tlite_vk.graph.elements.reader import Reader
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.shape import add

from .base import Pass, RejectedError, Rewriter, require
from .reading import reader_of

HIDDEN = -1e4  # an additive mask this low or lower hides a key: what exporters use for it


@dataclass(frozen=True)
class Mask:
    """causal: no key after its query. window: keys a query sees back, itself included (0: all). padding: the element
    (b, j) of [B, S] that is not 0 where a key is valid."""

    causal: bool
    window: int
    padding: Atom | None


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
        padding = None if mask.padding is None else _padding(rewriter, node, mask.padding)
        attributes = {**a, "is_causal": int(mask.causal), "left_window_size": mask.window - 1}
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
    causal, window, padding = False, 0, None
    for part in _conjunction(_visible(reader.read(mask, place))):
        if part.kind == "at_least_0" and never_negative(part.part, reader.atoms):
            continue
        if part.kind == "at_least_0" and part.part == -ahead:
            causal = True
            continue
        width = (part.part - ahead).constant if part.kind == "at_least_0" else None
        if width is not None and width >= 0:
            window = min(window or int(width) + 1, int(width) + 1)
            continue
        if part.kind == "nonzero" and padding in (None, part.part) and part.part.key[2] == (index[0], index[3]):
            padding = part.part
            continue
        raise RejectedError(f"its mask has the condition {part}")
    return Mask(causal or (never_negative(-ahead, reader.atoms) and window > 0), window, padding)


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


def _padding(rewriter: Rewriter, node: Node, atom: Atom) -> Value:
    """bool [B, 1, 1, S] of the tensor [B, S] that an element (b, j) belongs to."""
    value: Value = atom.key[1]
    require(len(value.dims) == 2, f"its padding comes from {value}")
    made = []
    if value.dtype != "bool":
        made.append(rewriter.make("Cast", [value], node, {"to": 9}, domain="", name=f"{value.name}.valid"))
        value = made[-1].output
    axes = rewriter.constant(f"{value.name}.axes", np.asarray([1, 2], np.int64))
    made.append(rewriter.make("Unsqueeze", [value, axes], node, domain="", name=f"{value.name}.keys"))
    rewriter.insert_before(node, made)
    return made[-1].output
