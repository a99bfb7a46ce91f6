"""Rotary embedding, however it is written out -> RotaryEmbedding(x, RotaryAngles(positions, frequencies)).

Every element (b, h, t, d) of the queries and keys of an Attention is read as an expression. It is a rotation where that
is x[d] cos(f p) - x[d'] sin(f p), or the other member of that pair; pairs lie half a rotary part apart, or side by side
(interleaved); elements behind the rotary part are x[d]. A RotaryEmbedding whose tables are computed gets RotaryAngles
too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tlite_vk.graph.elements.formula import Element
from tlite_vk.graph.elements.moves import Index, Place
from tlite_vk.graph.elements.polynomial import Atom, Polynomial, number, to_dim
from tlite_vk.graph.elements.reader import Reader
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.shape import Dim, add, equal_shapes

from .base import Pass, RejectedError, Rewriter, require
from .reading import Heads, as_heads, known, reader_of


@dataclass(frozen=True)
class Turn:
    """The angle of a pair: frequency times position; `position` is a polynomial of b and t."""

    frequency: float
    position: Polynomial


@dataclass(frozen=True)
class _Column:
    """One element of a rotated head: scale * (x[own] cos(turn) + sign x[partner] sin(turn)); without a turn, x[own]."""

    own: Place
    partner: Place | None = None
    turn: Turn | None = None
    sign: int = 0
    scale: float = 1.0


class Rotary(Pass):
    name: ClassVar[str] = "rotary"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            if node.domain == "" and node.op == "Attention":
                for i in (0, 1):
                    if len(node.input(i).dims) == 4 and rewriter.maker(node.input(i), "RotaryEmbedding") is None:
                        self._heads(rewriter, node, rewriter.resolve(node.input(i)))
            elif node.domain == "" and node.op == "RotaryEmbedding" and node.optional(3) is None:
                self._tables(rewriter, node)

    def _heads(self, rewriter: Rewriter, node: Node, value: Value) -> None:
        maker = rewriter.maker(value, "Add", "Sub", "Concat", "Transpose", "Reshape")
        if maker is None:
            return
        try:
            new = _rotation(rewriter, reader_of(rewriter), maker, value)
        except RejectedError as why:
            if str(why):
                rewriter.reject(node, f"{value.name}: {why}")
            return
        rewriter.replace(maker, new)
        rewriter.matched(node, f"{value.name}")

    def _tables(self, rewriter: Rewriter, node: Node) -> None:
        reader, cos, sin = reader_of(rewriter), node.input(1), node.input(2)
        pairs = cos.dims[-1]
        if len(cos.dims) != 3 or not isinstance(pairs, int):
            return
        b, t = reader.index(cos, "bt.")[:2]
        try:
            turns = [
                _turns_of(reader.read(cos, (b, t, number(k))), reader.read(sin, (b, t, number(k))))
                for k in range(pairs)
            ]
            angles = _angles(rewriter, node, turns, (b, t), (cos.dims[0], cos.dims[1]))
        except RejectedError as why:
            rewriter.reject(node, str(why))
            return
        inputs: list[Value | None] = [node.input(0), *angles]
        rewriter.replace(
            node, rewriter.make("RotaryEmbedding", inputs, node, node.attributes, domain="", outputs=node.outputs)
        )
        rewriter.matched(node, "its tables")


def _rotation(rewriter: Rewriter, reader: Reader, maker: Node, value: Value) -> Node:
    """The RotaryEmbedding that makes [B, H, T, D]. Raises RejectedError, with no reason where it is nothing alike."""
    heads, width = value.dims[1], value.dims[3]
    require(isinstance(heads, int) and isinstance(width, int), "")
    assert isinstance(heads, int) and isinstance(width, int)
    b, h, t, d = reader.index(value, "bhtd")
    require(_turns(reader.read(value, (b, h, t, number(0)))), "")
    columns = [_column(reader.read(value, (b, h, t, number(k)))) for k in range(width)]
    interleaved, turns, scale = _pairs(columns)
    own, at = columns[0].own
    require(all(c.own[0] is own for c in columns), "its elements come from several tensors")
    base = at[:-1], at[-1]
    for k, column in enumerate(columns):
        require(column.own[1] == (*base[0], base[1] + number(k)), "its elements are out of order")
    place = (own, (*base[0], base[1] + d))
    x = as_heads(rewriter, place, maker, Heads(value.dims[0], heads, value.dims[2], width, (b, h, t, d)))
    if x is None:
        raise RejectedError(f"what it rotates is not heads of {own}")
    cos, sin = _angles(rewriter, maker, [(turn, scale) for turn in turns], (b, t), (value.dims[0], value.dims[2]))
    rotary = 2 * len(turns)
    attributes = {"interleaved": int(interleaved), "rotary_embedding_dim": 0 if rotary == width else rotary}
    return rewriter.make("RotaryEmbedding", [x, cos, sin], maker, attributes, domain="", outputs=[value])


def _turns(element: Element) -> bool:
    return isinstance(element, Polynomial) and any(a.kind in ("cos", "sin") for a in element.atoms())


def _column(element: Element) -> _Column:
    require(isinstance(element, Polynomial) and 1 <= len(element.terms) <= 2, "it is not a sum of two products")
    assert isinstance(element, Polynomial)
    if len(element.terms) == 1 and element.atom is not None:
        return _Column(_place(element.atom))
    found: dict[str, tuple[Atom, Polynomial, float]] = {}
    for monomial, coefficient in element.terms.items():
        kinds = {a.kind: a for a in monomial}
        require(len(monomial) == 2 and "element" in kinds, "a product in it is not an element times cos or sin")
        turn = kinds.get("cos") or kinds.get("sin")
        require(turn is not None, "a product in it is not an element times cos or sin")
        assert turn is not None
        found[turn.kind] = (kinds["element"], turn.key[1], float(coefficient))
    require(set(found) == {"cos", "sin"}, "it has no cos or no sin")
    (own, angle, scale), (partner, other, factor) = found["cos"], found["sin"]
    require(angle == other and abs(factor) == scale, "its cos and sin differ in angle or factor")
    return _Column(_place(own), _place(partner), _turn(angle), 1 if factor > 0 else -1, scale)


def _place(atom: Atom) -> Place:
    return atom.key[1], atom.key[2]


def _turn(angle: Polynomial) -> Turn:
    """The angle as frequency times position. Raises RejectedError where it is no such product."""
    factors = set(angle.terms.values())
    require(len(factors) == 1, f"the angle {angle} is not a frequency times a position")
    frequency = float(factors.pop())
    return Turn(frequency, Polynomial(dict.fromkeys(angle.terms, 1)))


def _turns_of(cos: Element, sin: Element) -> tuple[Turn, float]:
    """The turn and the factor of table elements scale * cos(turn), scale * sin(turn)."""
    found = []
    for element, kind in ((cos, "cos"), (sin, "sin")):
        require(isinstance(element, Polynomial) and len(element.terms) == 1, f"its table of {kind} holds {element}")
        ((monomial, factor),) = element.terms.items()  # type: ignore[union-attr]
        require(len(monomial) == 1 and monomial[0].kind == kind, f"its table of {kind} holds {element}")
        found.append((_turn(monomial[0].key[1]), float(factor)))
    require(found[0] == found[1], "its tables of cos and sin differ in angle or factor")
    return found[0]


def _pairs(columns: list[_Column]) -> tuple[bool, list[Turn], float]:
    """(interleaved, the turn of each pair, the common factor). Raises RejectedError where pairs do not fit together."""
    rotary = sum(c.turn is not None for c in columns)
    require(
        rotary % 2 == 0 and all(c.turn is not None for c in columns[:rotary]), "its rotary part is not at the front"
    )
    half = rotary // 2
    interleaved = rotary > 2 and columns[0].partner == columns[1].own
    for k, column in enumerate(columns[:rotary]):
        other = k ^ 1 if interleaved else (k + half) % rotary
        first = k % 2 == 0 if interleaved else k < half
        require(column.partner == columns[other].own, "its pairs are neither halves nor neighbours")
        require(column.sign == (-1 if first else 1), "it turns the other way")
        require(column.turn == columns[other].turn and column.scale == columns[0].scale, "its pairs differ in angle")
    pairs = columns[0:rotary:2] if interleaved else columns[:half]
    return interleaved, [c.turn for c in pairs if c.turn is not None], columns[0].scale


def _counted(rewriter: Rewriter, like: Node, position: Polynomial, at: Index, extents: tuple[Dim, Dim]) -> Value:
    """Positions [B, T] that are a number, or a length, more than the row."""
    before = position - at[1]
    require(all(a.kind == "symbol" for a in before.atoms()), f"its positions are {position}")
    start, (batch, rows) = to_dim(before), extents
    bounds = [
        known(rewriter, f"{like.name}.{n}", d) for n, d in (("start", start), ("end", add(start, rows)), ("step", 1))
    ]
    line = rewriter.make("Range", [*bounds], like, domain="")
    shape = known(rewriter, f"{like.name}.shape", batch, rows)
    wide = rewriter.make("Expand", [line.output, shape], like, domain="")
    rewriter.insert_before(like, [line, wide])
    return wide.output


def _angles(
    rewriter: Rewriter, like: Node, turns: list[tuple[Turn, float]], at: Index, batch: tuple[Dim, Dim]
) -> tuple[Value, Value]:
    """(cos, sin) [B, T, pairs] by one RotaryAngles in front of a node. batch: B and T."""
    first, scale = turns[0]
    require(
        all(turn.position == first.position and s == scale for turn, s in turns), "its pairs have several positions"
    )
    atom = first.position.atom
    if atom is not None and atom.kind == "element":
        positions, place = _place(atom)
        own = equal_shapes(positions.dims, batch) and place == at
        require(own, f"its positions are not rows of {positions}")
    else:
        positions = _counted(rewriter, like, first.position, at, batch)
    frequencies = np.asarray([turn.frequency for turn, _ in turns], np.float32)
    table = rewriter.constant(f"{positions.name}.frequencies", frequencies)
    names = [rewriter.fresh(f"{positions.name}.{n}") for n in ("cos", "sin")]
    outputs = [Value(n, "float32", (*positions.dims, len(turns))) for n in names]
    node = rewriter.make("RotaryAngles", [positions, table], like, {"scale": scale}, outputs=outputs)
    rewriter.insert_before(like, [node])
    return outputs[0], outputs[1]
