"""Attention as opset 23 and later define it, for any mask: scores, softmax, weighted sum.

Stateless: past keys and values come as inputs. Generation uses the ring (attention.py) instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tlite_vk.graph import shape as dims
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.shape import Dim
from tlite_vk.lower import Lowering, lowers

from .elementwise import larger
from .generated.fusion import pull, settle, store
from .generated.index import Index, add, times
from .generated.rows import Rows
from .generated.source import Source, number
from .matmul import Product
from .reduction import over

_LOWEST = number(float("-inf"))


@dataclass(frozen=True)
class _Attention:
    """One Attention node. B batch, H heads, G key heads, T queries, S keys, D and E the widths of keys and values."""

    low: Lowering
    node: Node
    written: set[Value] = field(default_factory=set)  # outputs that later steps may read

    @cached_property
    def attributes(self) -> dict[str, Any]:
        return self.node.attributes

    def heads(self, i: int) -> int | Dim:
        x = self.node.input(i)
        return x.dims[1] if len(x.dims) == 4 else int(self.attributes["q_num_heads" if i == 0 else "kv_num_heads"])

    def width(self, i: int) -> Dim:
        x = self.node.input(i)
        return x.dims[3] if len(x.dims) == 4 else dims.floor_div(x.dims[2], self.heads(i))

    def rows(self, i: int) -> Dim:
        return self.node.input(i).dims[2 if len(self.node.input(i).dims) == 4 else 1]

    @cached_property
    def past(self) -> Dim:
        past = self.node.optional(4)
        return 0 if past is None else past.dims[2]

    @cached_property
    def shape(self) -> tuple[Dim, ...]:
        """[B, H, T, S]"""
        return self.node.input(0).dims[0], self.heads(0), self.rows(0), dims.add(self.past, self.rows(1))

    def wanted(self, i: int) -> Value | None:
        """Output i, where anything reads it."""
        value = self.node.outputs[i] if i < len(self.node.outputs) else None
        return value if value is not None and (value in self.low.users or value in self.low.graph.outputs) else None

    def element(self, source: Source, i: int, place: tuple[str, str, str, str]) -> str:
        """Input i (query, key, value) at (batch, head, row, column)."""
        x, (b, h, t, d) = self.node.input(i), place
        if len(x.dims) == 4:
            return pull(source, x, Index(source, x.dims, coords=place))
        column = source.let("int", add(times(h, source.dim(self.width(i))), d))
        return pull(source, x, Index(source, x.dims, coords=[b, t, column]))

    def cached(self, source: Source, i: int, place: tuple[str, str, str, str]) -> str:
        """Key or value i at (batch, key head, slot, column): from the past, or from the new rows."""
        present, past = self.wanted(i), self.node.optional(i + 3)
        if present is not None and present in self.written:
            return pull(source, present, Index(source, present.dims, coords=place))
        if past is None:
            return self.element(source, i, place)
        b, h, slot, d = place
        result = source.variable("float", "0.0")
        with source.block(f"if ({slot} < {source.dim(self.past)})"):
            source.line(f"{result} = {pull(source, past, Index(source, past.dims, coords=place))};")
        with source.block("else"):
            moved = source.let("int", f"{slot} - {source.dim(self.past)}")
            source.line(f"{result} = {self.element(source, i, (b, h, moved, d))};")
        return result

    def key_head(self, source: Source, head: str) -> str:
        group = dims.floor_div(self.heads(0), self.heads(1))
        return head if group == 1 else source.let("int", f"{head} / {source.dim(group)}")

    # --- what happens to a score ---------------------------------------------------------------------------------

    def capped(self, source: Source, score: str) -> str:
        cap = float(self.attributes.get("softcap", 0.0))
        return score if not cap else f"{number(cap)} * {source.call('hyperbolicTangent', f'{score} / {number(cap)}')}"

    def masked(self, source: Source, at: Index, score: str) -> str:
        """The score with its mask added; -inf where the key is not seen."""
        result = source.variable("float", score)
        self._mask(source, at, score, result)
        hidden = self._hidden(source, at)
        if hidden:
            source.line(f"if ({' || '.join(hidden)}) {result} = {self._unseen(score)};")
        return result

    def _unseen(self, score: str) -> str:
        """The score of a key that is not seen."""
        by = float(self.attributes.get("hidden", -math.inf))
        return _LOWEST if math.isinf(by) else f"{score} + {number(by)}"

    def _mask(self, source: Source, at: Index, score: str, result: str) -> None:
        mask = self.node.optional(3)
        if mask is None:
            return
        columns, slot = mask.dims[-1], at.coord(3)

        def apply() -> None:
            whole = (*at.shape[:3], columns)
            element = pull(source, mask, at.of(whole, at.coords()).broadcast(mask.dims))
            if mask.dtype == "bool":
                source.line(f"if (!{element}) {result} = {self._unseen(score)};")
            else:
                source.line(f"{result} += {element};")

        if dims.equal(columns, self.shape[3]):
            apply()
            return
        with source.block(f"if ({slot} < {source.dim(columns)})"):
            apply()
        with source.block("else"):
            source.line(f"{result} = {_LOWEST};")

    def _hidden(self, source: Source, at: Index) -> list[str]:
        """Conditions under which a query does not see a key."""
        b, _, t, slot = at.coords()
        conditions, valid = [], self.node.optional(6)
        first = source.dim(self.past)
        if valid is not None:
            count = pull(source, valid, Index(source, valid.dims, coords=[b, *["0"] * (len(valid.dims) - 1)]))
            conditions.append(f"{slot} >= {count}")
            first = f"{count} - {source.dim(self.shape[2])}"
        ahead = source.let("int", f"{slot} - {t} - ({first})")
        if self.attributes.get("is_causal", 0):
            conditions.append(f"{ahead} > 0")
        left, right = (int(self.attributes.get(f"{side}_window_size", -1)) for side in ("left", "right"))
        if left >= 0:
            conditions.append(f"{ahead} < {-left}")
        if right >= 0:
            conditions.append(f"{ahead} > {right}")
        return conditions


@lowers("Attention")
def attention(low: Lowering, node: Node) -> None:
    a = _Attention(low, node)
    settle(low, node.inputs[:3] + node.inputs[4:6], work=1, room=2)
    settle(low, node.inputs, room=6)
    for i in (1, 2):
        if a.wanted(i) is not None:
            _write_present(a, i)
    mode = int(node.attributes.get("qk_matmul_output_mode", 0))
    asked = a.wanted(3)
    done = 2 if asked is None or mode == 3 else mode  # steps that the scores have behind them when they are written
    scores = asked if asked is not None and mode != 3 else Value(f"{node.name}/scores", "float32", a.shape)
    weights = asked if asked is not None and mode == 3 else Value(f"{node.name}/weights", "float32", a.shape)
    steps: list[Callable[[Source, Index, str], str]] = [
        lambda source, at, x: f"{x} * {number(_scale(a))}",
        lambda source, at, x: a.capped(source, x),
        lambda source, at, x: a.masked(source, at, x),
    ]
    _write_scores(a, scores, steps[: done + 1])
    _write_weights(a, scores, weights, steps[done + 1 :])
    _write_result(a, weights)


def _scale(a: _Attention) -> float:
    given, width = a.attributes.get("scale"), a.width(0)
    assert given is not None or isinstance(width, int)
    return float(given) if given is not None else 1 / math.sqrt(float(width))


def _write_present(a: _Attention, i: int) -> None:
    """Output i: the past keys or values followed by the new ones, [B, G, S, D]."""
    value = a.node.outputs[i]
    source = Source(a.low, f"{a.node.name}/present")
    item, groups = source.each(a.low.count(value))
    b, h, slot, d = Index(source, value.dims, flat=item).coords()
    element = a.cached(source, i, (b, h, slot, d))
    store(source, source.writes(a.low.write(value), "float"), "float", item, element)
    source.emit(groups)
    a.written.add(value)


def _write_scores(a: _Attention, scores: Value, steps: list[Callable[[Source, Index, str], str]]) -> None:
    def finish(source: Source, at: Index, total: str) -> str:
        for step in steps:
            total = source.let("float", step(source, at, total))
        return total

    def query(source: Source, batch: Index, row: str, k: str) -> str:
        return a.element(source, 0, (batch.coord(0), batch.coord(1), row, k))

    def key(source: Source, batch: Index, k: str, slot: str) -> str:
        return a.cached(source, 1, (batch.coord(0), a.key_head(source, batch.coord(1)), slot, k))

    Product(scores, a.shape[:2], a.shape[2], a.shape[3], a.width(0), query, key, finish).emit(
        a.low, f"{a.node.name}/scores"
    )


def _write_weights(
    a: _Attention, scores: Value, weights: Value, steps: list[Callable[[Source, Index, str], str]]
) -> None:
    """Softmax of each row; a query that sees no key gets zeros."""
    rows = Rows(a.low, f"{a.node.name}/softmax", a.shape, [3])
    source = rows.source

    def element(position: str) -> str:
        at = rows.element(position)
        x = pull(source, scores, at)
        for step in steps:
            x = source.let("float", step(source, at, x))
        return x

    high = over(rows, "float", _LOWEST, larger, element)
    shift = source.let("float", f"{high} == {_LOWEST} ? 0.0 : {high}")
    total = over(
        rows,
        "float",
        "0.0",
        lambda source, kind, x, y: f"{x} + {y}",
        lambda p: source.call("exponential", f"{element(p)} - {shift}"),
    )
    factor = source.let("float", f"{total} == 0.0 ? 0.0 : 1.0 / {total}")
    target = source.writes(a.low.write(weights), "float")
    with rows.walk() as position:
        text = f"{source.call('exponential', f'{element(position)} - {shift}')} * {factor}"
        store(source, target, "float", rows.element(position).flat(), text)
    a.low.may_replace(weights, *rows.read_only_here())
    rows.emit()


def _write_result(a: _Attention, weights: Value) -> None:
    y, width = a.node.output, a.width(2)

    def weight(source: Source, batch: Index, row: str, slot: str) -> str:
        return pull(source, weights, batch.of(a.shape, [*batch.coords(), row, slot]))

    def value(source: Source, batch: Index, slot: str, column: str) -> str:
        return a.cached(source, 2, (batch.coord(0), a.key_head(source, batch.coord(1)), slot, column))

    def place(source: Source, at: Index) -> str:
        b, h, t, d = at.coords()
        if len(y.dims) == 4:
            return at.flat()
        return at.of(y.dims, [b, t, source.let("int", add(times(h, source.dim(width)), d))]).flat()

    Product(y, a.shape[:2], a.shape[2], width, a.shape[3], weight, value, place=place).emit(a.low, a.node.name)
