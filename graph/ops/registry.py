"""The table of operators. Each is one Python function, its numpy oracle, whose positional parameters are the operator's
inputs and whose keyword parameters are its attributes; a second function with the same parameters is its shape rule.

    @operator("Gather")
    def gather(data, indices, *, axis=0):
        return np.take(data, indices, axis)

    @gather.rule
    def _(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
        ...

Defining both in a module of this package is all it takes to add an operator. Opset differences that are only a matter
of form (axes as attribute or input) are removed by the loader (`upgrade.py`), so one definition serves all versions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.shape import Shape

Array = npt.NDArray[Any]
MANY = 1 << 30
FUSED = "tlite"  # the domain of operators that only our passes make


@dataclass(frozen=True, slots=True)
class Tensor:
    """What is known of a tensor at compile time."""

    dtype: str
    shape: Shape
    data: Array | None = None  # its elements: numbers, or expressions (dtype object)

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass(frozen=True, slots=True)
class Step:
    """Run-time parameters of a generation step: tokens already cached, and valid rows among those given."""

    position: int = 0
    rows: int | None = None


# What Python and numpy raise for operands that do not fit; a rule or an oracle on a bad model may meet any of them.
MISFITS = (TypeError, ValueError, IndexError, AttributeError, KeyError, ArithmeticError, MemoryError)

Rule = Callable[..., Any]
Oracle = Callable[..., Any]


@dataclass(eq=False)
class Operator:
    """An operator's rule and oracle. `symbolic` computes its elements from expressions (arrays of dtype object)."""

    name: str
    domain: str
    since: int
    oracle: Oracle
    shape_rule: Rule | None = None
    symbolic: Oracle | None = None
    foldable: bool = True
    special: frozenset[str] = field(default_factory=frozenset)  # parameters that are not attributes: outputs, step
    attributes: frozenset[str] = field(default_factory=frozenset)
    inputs: tuple[int, int] = (0, 0)  # how many it takes, at least and at most

    def __post_init__(self) -> None:
        parameters = inspect.signature(self.oracle).parameters
        positional = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
        needed = sum(p.default is p.empty for p in positional)
        self.inputs = (max(needed, int(variadic)), MANY if variadic else len(positional))
        keywords = {n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
        self.special = frozenset(keywords & {"outputs", "step"})
        self.attributes = frozenset(keywords - self.special)

    def rule(self, function: Rule) -> Rule:
        self.shape_rule = function
        return function

    def symbolic_rule(self, function: Oracle) -> Oracle:
        self.symbolic = function
        return function

    def check_attributes(self, attributes: Mapping[str, Any]) -> None:
        unknown = sorted(set(attributes) - self.attributes)
        if unknown:
            raise GraphError(f"attribute {unknown[0]!r} is not supported")

    def check_inputs(self, inputs: Sequence[object | None]) -> None:
        least, most = self.inputs
        if not least <= len(inputs) <= most or any(i is None for i in inputs[:least]):
            counted = f"{least}" if least == most else f"{least} or more" if most == MANY else f"{least} to {most}"
            raise GraphError(f"it takes {counted} inputs, not {sum(i is not None for i in inputs)}")

    def infer(self, inputs: Sequence[Tensor | None], attributes: Mapping[str, Any], outputs: int) -> tuple[Tensor, ...]:
        """Dtypes and shapes of the outputs. Raises GraphError (without the node's name) where the inputs do not fit."""
        self.check_attributes(attributes)
        self.check_inputs(inputs)
        assert self.shape_rule is not None, f"{self.name} has no shape rule"
        extra = {"outputs": outputs} if "outputs" in self.special else {}
        try:
            result = self.shape_rule(*inputs, **attributes, **extra)
        except MISFITS as error:
            raise GraphError(f"its inputs or attributes do not fit the operator ({error})") from error
        return result if isinstance(result, tuple) else (result,)

    def run(
        self, inputs: Sequence[Array | None], attributes: Mapping[str, Any], outputs: int = 1, step: Step | None = None
    ) -> tuple[Array, ...]:
        """The outputs by the numpy oracle."""
        extra: dict[str, Any] = {"outputs": outputs} if "outputs" in self.special else {}
        if "step" in self.special:
            extra["step"] = step or Step()
        result = self.oracle(*inputs, **attributes, **extra)
        return tuple(np.asarray(r) for r in result) if isinstance(result, tuple | list) else (np.asarray(result),)


_TABLE: dict[tuple[str, str], list[Operator]] = {}


def operator(
    name: str,
    *,
    domain: str = "",
    since: int = 1,
    rule: Rule | None = None,
    symbolic: bool = False,
    foldable: bool = True,
) -> Callable[[Oracle], Operator]:
    """Register the decorated oracle. `symbolic`: it works on arrays of expressions as it is.

    `foldable` is False where folding constants would lose something (dequantizing a weight).
    """

    def register(oracle: Oracle) -> Operator:
        entry = Operator(name, domain, since, oracle, rule, oracle if symbolic else None, foldable)
        _TABLE.setdefault((domain, name), []).append(entry)
        return entry

    return register


def find_operator(name: str, domain: str = "", version: int | None = None) -> Operator | None:
    """The newest definition not newer than `version`, or None."""
    entries = [e for e in _TABLE.get((domain, name), []) if version is None or e.since <= version]
    return max(entries, key=lambda e: e.since, default=None)


def registered() -> list[Operator]:
    return [entry for entries in _TABLE.values() for entry in entries]
