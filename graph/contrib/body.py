"""What the rewriters share: their table, and the standard nodes that one node becomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.ir import Node, Value, constant
from tlite_vk.graph.ops.registry import MISFITS
from tlite_vk.graph.weights import AffineWeight

DOMAIN = "com.microsoft"
Rewriter = Callable[["Body", Node], None]


@dataclass(frozen=True)
class _Entry:
    rewriter: Rewriter
    least: int
    most: int
    others: tuple[str, ...]


_TABLE: dict[tuple[str, str], _Entry] = {}


def rewrites(
    op: str, inputs: tuple[int, int] = (1, 1), others: tuple[str, ...] = (), domains: tuple[str, ...] = (DOMAIN,)
) -> Callable[[Rewriter], Rewriter]:
    """Register the rewriter of an operator that takes inputs[0] to inputs[1] inputs; `others` name those that follow,
    which are refused by name."""

    def register(rewriter: Rewriter) -> Rewriter:
        for domain in domains:
            _TABLE[domain, op] = _Entry(rewriter, *inputs, others)
        return rewriter

    return register


def is_contrib(node: Node) -> bool:
    """Whether the node is one that `expand` knows."""
    return (node.domain, node.op) in _TABLE


def rewritten_operators() -> list[str]:
    """The names of all operators that are rewritten."""
    return sorted({op for _, op in _TABLE})


def expand(node: Node, wanted: Sequence[bool]) -> list[Node]:
    """Standard nodes that compute the wanted outputs of a contrib node; `wanted` has an entry per output.

    The inputs must be shaped; the nodes' own outputs are not. Raises GraphError naming the node for an input, an
    output or an attribute that is not supported.
    """
    entry = _TABLE[node.domain, node.op]
    body = Body(node, wanted)
    given = [i for i, v in enumerate(node.inputs) if v is not None]
    extra = next((i for i in given if i >= entry.most), None)
    if extra is not None:
        names = dict(enumerate(entry.others, entry.most))
        raise body.refusal(f"its input {names.get(extra, extra)!r} is not supported")
    if any(i not in given for i in range(entry.least)):
        raise body.refusal(f"it takes at least {entry.least} inputs")
    try:
        entry.rewriter(body, node)
    except MISFITS as error:
        raise body.refusal(f"its inputs or attributes do not fit the operator ({error})") from error
    if body.left:
        raise body.refusal(f"attribute {min(body.left)!r} is not supported")
    made = {v for n in body.nodes for v in n.outputs}
    for i, value in enumerate(node.outputs):
        if value not in made and body.wanted(i):
            raise body.refusal(f"its output {i} ({value.name!r}) is not supported")
    return body.nodes


class Body:
    """The nodes under construction. Call it to add one; `take` reads an attribute; `end` adds the last."""

    def __init__(self, node: Node, wanted: Sequence[bool]) -> None:
        self._node, self._wanted = node, wanted
        self.left = dict(node.attributes)
        self.nodes: list[Node] = []
        self._count = 0

    def wanted(self, i: int) -> bool:
        """Whether anything reads output i."""
        return i < len(self._wanted) and self._wanted[i]

    def refusal(self, why: str) -> GraphError:
        return GraphError(f"{self._node}: {why}")

    def require(self, condition: bool, why: str) -> None:
        """Raise GraphError naming the node unless the condition holds."""
        if not condition:
            raise self.refusal(why)

    def take(self, name: str, default: Any = None) -> Any:
        """An attribute, which counts as supported from now on. Without a default it must be there."""
        self.left.pop(name, None)
        value = self._node.attributes.get(name, default)
        if value is None:
            raise self.refusal(f"attribute {name!r} is missing")
        return value

    def only(self, name: str, *harmless: Any) -> None:
        """Refuse an attribute that has any but these values."""
        value = self.left.pop(name, harmless[0])
        self.require(value in harmless, f"{name}={value} is not supported")

    # --- nodes and constants -------------------------------------------------------------------------------------

    def __call__(self, op: str, *inputs: Value | None, **attributes: Any) -> Value:
        return self.several(op, *inputs, outputs=1, **attributes)[0]

    def several(self, op: str, *inputs: Value | None, outputs: int, **attributes: Any) -> list[Value]:
        """The outputs of a node of several."""
        names = [self._name(op) for _ in range(outputs)]
        values = [Value(name) for name in names]
        self._add(op, inputs, values, attributes)
        return values

    def end(self, op: str, *inputs: Value | None, output: int = 0, outputs: int = 1, **attributes: Any) -> Value:
        """A node that computes outputs [output, output + outputs) of the original, as far as it has them."""
        values = self._node.outputs[output : output + outputs]
        if not values:
            return self(op, *inputs, **attributes)
        self._add(op, inputs, values, attributes)
        return values[0]

    def constant(self, array: Any, like: Value | None = None) -> Value:
        """A constant; with `like`, of that value's type."""
        data = np.asarray(array) if like is None else np.asarray(array, np.float32)
        value = constant(self._name("constant"), data)
        if like is not None:
            value.dtype = like.dtype
        return value

    def ints(self, *values: int) -> Value:
        return self.constant(np.array(values, np.int64))

    def scalar(self, value: int) -> Value:
        return self.constant(np.array(value, np.int64))

    def weight(self, weight: AffineWeight, dtype: str) -> Value:
        """A quantized matrix as a constant of a float type."""
        return Value(self._name("weight"), dtype, weight.shape, weight)

    def array(self, value: Value, what: str) -> npt.NDArray[Any]:
        """The elements of an input that must be a constant."""
        if not isinstance(value.constant, np.ndarray):
            raise self.refusal(f"its {what} ({value.name!r}) must be a constant")
        return value.constant

    def rank(self, value: Value) -> int:
        return len(value.dims)

    def _add(self, op: str, inputs: Sequence[Value | None], outputs: list[Value], attributes: dict[str, Any]) -> None:
        given = list(inputs)
        while given and given[-1] is None:
            given.pop()
        self.nodes.append(Node(op, given, outputs, attributes, self._node.name))

    def _name(self, what: str) -> str:
        self._count += 1
        return f"{self._node.output.name}/{what.lower()}.{self._count}"
