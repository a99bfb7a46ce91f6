"""Small graphs for the tests of the graph compiler: a builder, random inputs, comparison of two graphs.

b = Builder()
x = b.input("x", "B", "T", 8)
y = b.node("MatMul", x, b.constant(weight))
graph = b.graph(y)                      # shaped and verified
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tlite_vk.graph.evaluate import evaluate
from tlite_vk.graph.infer import check_shapes, infer
from tlite_vk.graph.ir import Graph, Node, Value
from tlite_vk.graph.ops.dtypes import FLOATS, numpy_dtype
from tlite_vk.graph.ops.registry import Step
from tlite_vk.graph.passes.base import Pass, Report, run_pass
from tlite_vk.graph.shape import Dim, parse_dim
from tlite_vk.graph.shape import evaluate as evaluate_dim

Array = npt.NDArray[Any]


class Builder:
    """Nodes are added in order; names are made up unless given."""

    def __init__(self, opset: int = 24) -> None:
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self.opset = opset
        self.count = 0

    def fresh(self, base: str) -> str:
        self.count += 1
        return f"{base}_{self.count}"

    def input(self, name: str, *dims: Dim | str, dtype: str = "float32") -> Value:
        value = Value(name, dtype, tuple(parse_dim(d) if isinstance(d, str) else d for d in dims))
        self.inputs.append(value)
        return value

    def constant(self, array: Array | np.generic | Sequence[Any] | float, name: str = "", dtype: str = "") -> Value:
        data = np.asarray(array)
        return Value(name or self.fresh("c"), dtype or str(data.dtype), tuple(data.shape), data)

    def packed(self, codes: Array, dtype: str) -> Value:
        """A 4-bit constant as a file holds it: two codes a byte, the first in the low nibble."""
        nibbles = codes.reshape(-1).astype(np.int8).view(np.uint8) & 15
        return Value(self.fresh("codes"), dtype, tuple(codes.shape), nibbles[0::2] | nibbles[1::2] << 4)

    def node(self, op: str, *inputs: Value | None, name: str = "", domain: str = "", **attributes: Any) -> Value:
        return self.nodes_of(op, *inputs, outputs=1, name=name, domain=domain, **attributes)[0]

    def nodes_of(
        self, op: str, *inputs: Value | None, outputs: int, name: str = "", domain: str = "", **attributes: Any
    ) -> list[Value]:
        base = name or self.fresh(op.lower())
        values = [Value(base if i == 0 else f"{base}.{i}") for i in range(outputs)]
        self.nodes.append(Node(op, list(inputs), values, attributes, base, domain))
        return values

    def graph(self, *outputs: Value) -> Graph:
        raw = Graph("test", self.inputs, self.nodes, list(outputs), {"": self.opset})
        raw.verify()
        return infer(raw)


def ops(graph: Graph) -> list[str]:
    """The operators in order, those of our domain with a prefix."""
    return [f"{n.domain}.{n.op}" if n.domain else n.op for n in graph.nodes]


def apply(graph: Graph, *rules: Pass) -> tuple[Graph, Report]:
    report = Report()
    for rule in rules:
        graph = run_pass(rule, graph, report)
        check_shapes(graph)
    return graph, report


def random_inputs(graph: Graph, lengths: Mapping[str, int], seed: int = 0, highest_id: int = 4) -> dict[str, Array]:
    """An array for every input; integers lie below `highest_id`."""
    rng = np.random.default_rng(seed)
    result: dict[str, Array] = {}
    for value in graph.inputs:
        shape = [evaluate_dim(d, lengths) for d in value.dims]
        if value.dtype in FLOATS:
            result[value.name] = rng.normal(size=shape).astype(numpy_dtype(value.dtype))
        else:
            result[value.name] = rng.integers(0, highest_id, shape).astype(numpy_dtype(value.dtype))
    return result


def assert_same_results(
    before: Graph,
    after: Graph,
    lengths: Mapping[str, int],
    step: Step | None = None,
    seed: int = 0,
    tolerance: float = 2e-5,
) -> None:
    """Both graphs give the same outputs, by name and shape, for random inputs of these lengths."""
    inputs = random_inputs(before, lengths, seed)
    expected, got = evaluate(before, inputs), evaluate(after, inputs, step)
    assert list(expected) == list(got)
    for name, array in expected.items():
        assert got[name].shape == array.shape, name
        np.testing.assert_allclose(got[name], array, rtol=tolerance, atol=tolerance, err_msg=name)
