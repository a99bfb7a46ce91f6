"""A Program: what to dispatch, on which bytes, in which order. Frozen plain data, free of Vulkan, onnx and sympy.

Sizes and offsets are expressions over a few symbols (T: tokens of the step, C: capacity of the ring, W: its window),
evaluated when a session records a bucket. Buffers are named:
    arena      activations, placed by the memory plan
    step, ids, picked, sampling (settings), sampler (its scratch), and any other input or output by its own name
    state:N    a KV cache; kept between steps
    weight:N   a packed weight, or a constant
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .expression import Expression, evaluate

Access = Literal["read", "write", "update"]


@dataclass(frozen=True)
class Kernel:
    """One pipeline: a SPIR-V module by name, the kinds of its bindings, its specialization constants.

    The module is one of the package's own, or one of `Program.modules`. A subgroup size that is not 0 is required, with
    all subgroups full.
    """

    shader: str
    bindings: tuple[str, ...]
    specialization: tuple[tuple[int, int], ...]
    push_bytes: int
    subgroup_size: int = 0


@dataclass(frozen=True)
class Window:
    """A range of a buffer as one binding sees it; offset and size in bytes."""

    buffer: str
    offset: Expression
    size: Expression
    access: Access

    def resolve(self, symbols: Mapping[str, int]) -> tuple[str, int, int]:
        return self.buffer, evaluate(self.offset, symbols), evaluate(self.size, symbols)


@dataclass(frozen=True)
class Dispatch:
    """One kernel over its windows. `push` are 32-bit words: expressions, or floats."""

    kernel: int
    windows: tuple[Window, ...]
    groups: tuple[Expression, Expression, Expression]
    push: tuple[Expression | float, ...]
    label: str

    def push_words(self, symbols: Mapping[str, int]) -> bytes:
        return b"".join(
            struct.pack("<f", word)
            if isinstance(word, float)
            else struct.pack("<I", evaluate(word, symbols) & 0xFFFFFFFF)
            for word in self.push
        )


@dataclass(frozen=True)
class Entry:
    """One way through the model: its dispatches in order, and the arena they need.

    Barriers are not stored: `tlite_vk.hazards.schedule` derives them for a bucket from the windows' byte ranges.
    arena: bytes, an expression. outputs: where each output lies (a window with access "read").
    head: index of the first dispatch of the head, which a chunk that is not the last leaves out; the number of
    dispatches if there is none. pick: index of the greedy choice, the last dispatch where there is one.
    sampling: what runs in the place of the greedy choice to draw a token.
    """

    name: str
    dispatches: tuple[Dispatch, ...]
    arena: Expression
    outputs: Mapping[str, Window]
    head: int
    pick: int
    sampling: tuple[Dispatch, ...] = ()


@dataclass(frozen=True)
class State:
    """A buffer kept between steps: `size` bytes for a ring of capacity C."""

    name: str
    size: Expression


@dataclass(frozen=True)
class WeightPlan:
    """A constant that a session uploads. `kind` says what to make of `source` (see tlite_vk.weight_bytes).

    rows: of a matrix or of a rotary table, 0 for anything else. columns: of a matrix, with its codes only.
    """

    name: str
    size: int
    kind: str
    source: Any = field(repr=False, compare=False)
    rows: int = 0
    columns: int = 0


@dataclass(frozen=True)
class Program:
    """A compiled model. `limits` holds what generation must respect: window (0: none), positions (0: any).

    modules: SPIR-V of the kernels that were generated for this model, by the name that `Kernel.shader` has.
    """

    kernels: tuple[Kernel, ...]
    entries: Mapping[str, Entry]
    states: tuple[State, ...]
    weights: tuple[WeightPlan, ...]
    inputs: Mapping[str, Expression]
    vocabulary: int
    window: int
    positions: int
    notes: tuple[str, ...] = ()
    modules: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def weight_bytes(self) -> int:
        return sum(weight.size for weight in self.weights)

    def only(self, names: Sequence[str]) -> Program:
        """The program with these entries, in this order, and the weights that they read. Raises KeyError."""
        entries = {name: self.entries[name] for name in names}
        read = {w.buffer for e in entries.values() for d in (*e.dispatches, *e.sampling) for w in d.windows}
        weights = tuple(w for w in self.weights if f"weight:{w.name}" in read)
        return replace(self, entries=entries, weights=weights)
