"""What a step, or one dispatch of it, costs at least: bytes to move, multiply-adds to do. For `bench` and `profile`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .expression import evaluate
from .program import Dispatch, Program, WeightPlan, Window

_CAPACITY = 1 << 12  # sizes of states are linear in the capacity but for rounding: divide those of a large one


_FEW_WORDS = ("picked", "sampling", "sampler", "weight:tickets")
"""Buffers that are bound whole and of which a dispatch touches a few words."""
_SHARE_RESULTS = ("argmax", "attention_split")
"""Kernels whose workgroups hand each other partial results through the arena, fewer than there is room for."""


@dataclass(frozen=True)
class Lengths:
    """Of one step: `count` valid tokens behind `position` cached ones; symbols as in a Program (T, C, W)."""

    symbols: dict[str, int]
    position: int
    count: int

    def seen(self, window: int) -> int:
        """Keys that the step's queries see, all together; 0: no window."""
        ends = range(self.position + 1, self.position + self.count + 1)
        return sum(min(end, window) if window else end for end in ends)

    def span(self, window: int) -> int:
        """Rows of the ring that any of its queries sees."""
        end = self.position + self.count
        return min(end, window + self.count - 1) if window else end


@dataclass(frozen=True)
class Workload:
    """Reads a Program's dispatches; embeddings and rotary tables do not count, of which a step reads a few rows."""

    program: Program

    @property
    def cache_row_bytes(self) -> float:
        """Bytes of keys and values of one position, all layers together."""
        sizes = (evaluate(state.size, {"C": _CAPACITY, "T": 1, "W": 0}) for state in self.program.states)
        return sum(sizes) / _CAPACITY

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that one decode step reads."""
        plans = {f"weight:{p.name}": p for p in self.program.weights if p.kind != "rotary"}
        read = {w.buffer for d in self._products(self.program.entries["decode"].dispatches) for w in d.windows}
        return sum(plans[name].size for name in (read & plans.keys()).difference(_FEW_WORDS))

    def decode_bytes(self, cached: float, window: int = 0) -> float:
        """Bytes that a decode step reads after `cached` positions: weights and cache."""
        return self.weight_bytes + self.cache_row_bytes * (min(cached, window) if window else cached)

    def prefill_multiply_adds(self, tokens: int, window: int = 0) -> int:
        """Multiply-adds of a prompt of `tokens` from an empty cache; what follows the choice of the last row, once."""
        entry = self.program.entries["prefill"]
        body, head = entry.dispatches[: entry.head], entry.dispatches[entry.head :]
        seen = sum(min(p + 1, window) if window else p + 1 for p in range(tokens))
        attention = 2 * self._attention_width(body) * seen
        return tokens * self._matrix_elements(body) + attention + self._matrix_elements(head)

    def bytes_of(self, dispatch: Dispatch, at: Lengths) -> int:
        """Bytes that a dispatch reads and writes at least: every byte of its windows once, an update's twice.

        What its workgroups hand each other does not count.
        Of the ring count the rows seen and written, of tables of rows (embedding, rotary) as many rows as the step has.
        A generated kernel that picks elements from a window counts the whole window.
        """
        resolved = {(w.resolve(at.symbols), w.access): w for w in dispatch.windows}  # unused bindings repeat a window
        return round(sum(self._window_bytes(dispatch, window, at) for window in resolved.values()))

    def _window_bytes(self, dispatch: Dispatch, window: Window, at: Lengths) -> float:
        name, _, size = window.resolve(at.symbols)
        reads, writes = window.access in ("read", "update"), window.access in ("write", "update")
        scratch = name == "arena" and window.access == "update" and self._shader(dispatch) in _SHARE_RESULTS
        if scratch or name in _FEW_WORDS:
            return 0.0
        if name.startswith("state:"):
            rows = reads * at.span(self._attention_window(dispatch, at)) + writes * at.count
            return rows * size / at.symbols["C"]
        if self._shader(dispatch) == "last_row" and not writes:
            return size / at.symbols["T"]
        rows = self._table_rows(dispatch, self._plans.get(name))
        return size * min(1.0, at.count / rows) if rows else float(size * (reads + writes))

    def _table_rows(self, dispatch: Dispatch, plan: WeightPlan | None) -> int:
        """Rows of a weight of which a step reads one per token; 0 for any other."""
        is_table = plan is not None and (plan.kind == "rotary" or self._shader(dispatch).startswith("embedding"))
        return plan.rows if plan is not None and is_table else 0

    def multiply_adds_of(self, dispatch: Dispatch, at: Lengths, rows: int) -> int:
        """Multiply-adds of a dispatch over `rows` valid rows: products with weights, attention. 0 for all others."""
        pairs = at.seen(self._attention_window(dispatch, at))
        return rows * self._matrix_elements([dispatch]) + 2 * self._attention_width([dispatch]) * pairs

    def _attention_window(self, dispatch: Dispatch, at: Lengths) -> int:
        """Positions that this layer sees back, 0 for all; attention kernels take it as push constant 3."""
        if not self._shader(dispatch).startswith("attention"):
            return 0
        window: Any = dispatch.push[3]
        return evaluate(window, at.symbols)

    @cached_property
    def _plans(self) -> dict[str, WeightPlan]:
        return {f"weight:{p.name}": p for p in self.program.weights}

    @cached_property
    def _codes(self) -> dict[str, int]:
        """Elements of each matrix, by the buffer of its codes."""
        return {name: p.rows * p.columns for name, p in self._plans.items() if p.columns}

    def _shader(self, dispatch: Dispatch) -> str:
        return self.program.kernels[dispatch.kernel].shader

    def _products(self, dispatches: Iterable[Dispatch]) -> list[Dispatch]:
        return [d for d in dispatches if not self._shader(d).startswith("embedding")]

    def _matrix_elements(self, dispatches: Iterable[Dispatch]) -> int:
        """Weights, each of which is multiplied once per token."""
        used = [{w.buffer for w in d.windows} for d in self._products(dispatches)]  # unused bindings repeat a window
        return sum(self._codes.get(name, 0) for names in used for name in names)

    def _attention_width(self, dispatches: Iterable[Dispatch]) -> int:
        """Heads times head size, all layers together; the kernels take them as push constant 0 and constant 1."""
        total = 0
        for dispatch in dispatches:
            if self._shader(dispatch).startswith("attention"):
                head_size = dict(self.program.kernels[dispatch.kernel].specialization)[1]
                total += head_size * evaluate(_whole(dispatch.push[0]), {})
        return total


def _whole(word: object) -> int:
    assert isinstance(word, int)
    return word
