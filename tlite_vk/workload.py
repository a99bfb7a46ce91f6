"""What a step costs at least: bytes that decoding must read, multiply-adds that a prompt must do. For `bench`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .expression import evaluate
from .kernels.linear import PackedBlock
from .program import Dispatch, Program

_CAPACITY = 1 << 12  # sizes of states are linear in the capacity but for rounding: divide those of a large one


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
        dispatches = self._products(self.program.entries["decode"].dispatches)
        read = {w.buffer for d in dispatches for w in d.windows if w.access == "read"}  # tickets are updated
        return sum(plans[name].size for name in read & plans.keys())

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

    def _shader(self, dispatch: Dispatch) -> str:
        return self.program.kernels[dispatch.kernel].shader

    def _products(self, dispatches: Iterable[Dispatch]) -> list[Dispatch]:
        return [d for d in dispatches if not self._shader(d).startswith("embedding")]

    def _matrix_elements(self, dispatches: Iterable[Dispatch]) -> int:
        """Weights, each of which is multiplied once per token."""
        codes = {
            f"weight:{p.name}": p.source.block.rows * p.source.packing.columns
            for p in self.program.weights
            if isinstance(p.source, PackedBlock) and p.source.part == "codes"
        }
        used = [{w.buffer for w in d.windows} for d in self._products(dispatches)]  # unused bindings repeat a window
        return sum(codes.get(name, 0) for names in used for name in names)

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
