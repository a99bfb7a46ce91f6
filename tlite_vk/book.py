"""What the entries of one Program share while they are lowered: kernels, weights and generated modules, each once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .compiler import compile_all, module_name
from .expression import Expression
from .program import Entry, Kernel, Program, State, WeightPlan, Window


def identity(weight: Any) -> str:
    """Equal for weights that are the same bytes of the same file, however many times they were wrapped."""
    parts = getattr(weight, "parts", (weight,))
    arrays = [getattr(part, "codes", part) for part in parts]
    return " ".join(f"{a.__array_interface__['data'][0]}:{a.shape}:{a.strides}" for a in arrays)


class Book:
    """What the entries of one Program share: kernels and weights, each once."""

    def __init__(self, half_states: bool) -> None:
        self.half_states = half_states
        self.kernels: list[Kernel] = []
        self.weights: dict[tuple[str, str, str], WeightPlan] = {}
        self.sources: dict[str, str] = {}
        self._numbers: dict[Kernel, int] = {}
        self._alive: list[Any] = []

    def kernel(self, kernel: Kernel) -> int:
        if kernel not in self._numbers:
            self._numbers[kernel] = len(self.kernels)
            self.kernels.append(kernel)
        return self._numbers[kernel]

    def weight(self, kind: str, source: Any, name: str, size: int | None) -> WeightPlan:
        same = " ".join(identity(s) for s in source) if isinstance(source, tuple) else str(id(source))
        key = (kind, same, name)
        if key not in self.weights:
            self._alive.append(source)  # ids and addresses stay unique while this lives
            size = 4 * int(np.size(source)) if size is None else size  # every element is a 32-bit word
            nbytes = max(16, -(-size // 16) * 16)
            rows = int(source[0].shape[0]) if kind == "rotary" else 0
            self.weights[key] = WeightPlan(f"{name}/{kind}" if kind != "array" else name, nbytes, kind, source, rows)
        return self.weights[key]

    def generated(self, source: str) -> str:
        """The name of the module made from this GLSL text."""
        name = module_name(source)
        self.sources[name] = source
        return name

    def modules(self) -> dict[str, bytes]:
        """SPIR-V of all generated modules by name. Raises ModelError where there is no GLSL compiler."""
        return compile_all(self.sources)

    def packed(self, source: Any, name: str) -> Window:
        """The window of a packed row block's codes or scales; blocks of the same weight are shared."""
        key = (source.part, "", f"{identity(source.weight)} {source.packing} {source.block}")
        if key not in self.weights:
            nbytes, columns = -(-source.nbytes // 16) * 16, source.packing.columns if source.part == "codes" else 0
            self.weights[key] = WeightPlan(
                f"{name}/{source.part}", nbytes, "packed", source, source.block.rows, columns
            )
        plan = self.weights[key]
        return Window(f"weight:{plan.name}", 0, plan.size, "read")

    def program(
        self,
        entries: Sequence[Entry],
        states: Sequence[State],
        inputs: Mapping[str, Expression],
        vocabulary: int,
        window: int,
        positions: int,
    ) -> Program:
        return Program(
            tuple(self.kernels),
            {e.name: e for e in entries},
            tuple(states),
            tuple(self.weights.values()),
            dict(inputs),
            vocabulary,
            window,
            positions,
            modules=self.modules(),
        )
