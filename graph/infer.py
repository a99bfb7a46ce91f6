"""One forward walk over a graph: dtypes, symbolic shapes, and the elements of shape arithmetic.

Integer tensors whose elements are expressions over the graph's symbols are carried along (`Value.content`), so that
Reshape, Expand, Slice and Range resolve at compile time; what comes out as plain numbers becomes a constant.
Weights are never touched: only small integer, boolean and scalar results are folded here. Operators of com.microsoft
are replaced by standard ones on the way, where the shapes of their inputs are known (`contrib`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .contrib import expand, implied_lengths, is_contrib
from .errors import GraphError
from .ir import Graph, Node, Value
from .ops.dtypes import FLOATS, numpy_dtype
from .ops.registry import MISFITS, Array, Operator, Tensor, find_operator
from .shape import (
    MAX_DIM,
    MAX_RANK,
    Dim,
    Symbol,
    equal_shapes,
    format_shape,
    ints,
    is_expression,
    product,
    simplify,
    substitute,
)

MAX_CARRIED = 4096  # elements of an integer tensor carried as expressions
CONTRIB_OPSET = 24  # the standard's version that contrib operators are rewritten to
MAX_FLOATS = 64  # elements of a float vector folded here (scales, bounds); matrices are left to the passes


def infer(graph: Graph, bindings: Mapping[Symbol, Dim] | None = None) -> Graph:
    """The graph with every value's dtype and shape, as new values. `bindings` replaces symbols of the inputs' shapes.

    Raises GraphError naming the node: an operator that is not supported, inputs that do not fit, a dimension
    that cannot be resolved.
    """
    walk = _Walk(bindings or {})
    inputs = [walk.input(v) for v in graph.inputs]
    contrib = any(is_contrib(n) for n in graph.nodes)
    read = {v for n in graph.nodes for v in n.inputs} | set(graph.outputs) if contrib else set()
    nodes: list[Node | None] = []
    for node in graph.nodes:
        if not is_contrib(node):
            nodes.append(walk.node(node, graph.opset))
            continue
        mapped = replace(node, inputs=[None if v is None else walk.new(v) for v in node.inputs])
        implied = implied_lengths(mapped)
        if implied:
            return infer(graph, {**(bindings or {}), **implied})  # from the start
        nodes += [walk.node(n, {}) for n in expand(mapped, [v in read for v in node.outputs])]
    outputs = [walk.new(v) for v in graph.outputs]
    opset = {**graph.opset, "": max(graph.opset.get("", 1), CONTRIB_OPSET)} if contrib else graph.opset
    return replace(graph, inputs=inputs, nodes=[n for n in nodes if n is not None], outputs=outputs, opset=opset)


def check_shapes(graph: Graph) -> None:
    """Raise GraphError where a value's dtype or shape is not what its node makes: a pass forgot to update it."""
    for node in graph.nodes:
        for value, tensor in zip(node.outputs, infer_node(node, graph.opset), strict=False):
            if value.dtype != tensor.dtype or not equal_shapes(value.dims, tensor.shape):
                raise GraphError(f"{node}: makes {tensor.dtype}{format_shape(tensor.shape)}, not {value}")


def describe(value: Value) -> Tensor:
    """What is known of a value at compile time."""
    data = value.content
    if (
        data is None
        and isinstance(value.constant, np.ndarray)
        and product(value.dims) == value.constant.size <= MAX_CARRIED
    ):
        data = value.constant.reshape(ints(value.dims))
        if value.dtype in FLOATS and data.dtype.name != value.dtype:  # stored narrower than it is used
            data = data.astype(numpy_dtype(value.dtype))
    return Tensor(value.dtype, value.dims, data)


def lookup(node: Node, opset: Mapping[str, int] | None = None) -> Operator:
    """The operator's definition. Raises GraphError naming the operator and the node."""
    found = find_operator(node.op, node.domain, None if opset is None else opset.get(node.domain))
    if found is None:
        newer = find_operator(node.op, node.domain)
        kind = f"{node.domain}.{node.op}" if node.domain else node.op
        why = f" before opset {newer.since}" if newer is not None else ""
        raise GraphError(f"operator {kind} is not supported{why} (node {node.name!r})")
    return found


def infer_node(node: Node, opset: Mapping[str, int] | None = None) -> tuple[Tensor, ...]:
    """Dtypes, shapes and, where they are known, elements of a node's outputs. Raises GraphError naming the node."""
    operator = lookup(node, opset)
    inputs = [None if v is None else describe(v) for v in node.inputs]
    try:
        results = operator.infer(inputs, node.attributes, len(node.outputs))
    except GraphError as error:
        raise GraphError(f"{node}: {error}") from error
    if len(node.outputs) > len(results):
        raise GraphError(f"{node}: it has {len(results)} outputs, not {len(node.outputs)}")
    for result in results:
        _check_extent(node, result)
    return _carried(operator, node, inputs, results)


def make_node(
    op: str,
    inputs: list[Value | None],
    name: str,
    attributes: Mapping[str, Any] | None = None,
    *,
    domain: str = "tlite",
    output_names: list[str] | None = None,
    outputs: list[Value] | None = None,
) -> Node:
    """A node whose outputs have their inferred dtypes and shapes; `outputs` reuses values, which must agree."""
    values = outputs if outputs is not None else [Value(n) for n in output_names or [name]]
    while inputs and inputs[-1] is None:
        inputs = inputs[:-1]
    node = Node(op, inputs, values, dict(attributes or {}), name, domain)
    for value, tensor in zip(values, infer_node(node), strict=False):
        if outputs is None:
            value.dtype, value.shape = tensor.dtype, tensor.shape
        elif value.shape is not None and (value.dtype != tensor.dtype or len(value.shape) != len(tensor.shape)):
            raise GraphError(f"{node}: makes {tensor.dtype} of rank {len(tensor.shape)} for {value}")
    return node


def _check_extent(node: Node, result: Tensor) -> None:
    if len(result.shape) > MAX_RANK:
        raise GraphError(f"{node}: an output would have {len(result.shape)} axes; up to {MAX_RANK} are supported")
    for d in result.shape:
        if isinstance(d, int) and not 0 <= d <= MAX_DIM:
            raise GraphError(f"{node}: an output would have the extent {d}")


def _carried(
    operator: Operator, node: Node, inputs: list[Tensor | None], results: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """The results with their elements, where these follow from elements that are known and few."""
    if results[0].data is not None:
        return tuple(replace(r, data=_normal(r.data, r.dtype)) for r in results)
    if not operator.foldable or not inputs or any(t is not None and t.data is None for t in inputs):
        return results
    if not all(_small(r) for r in results[: len(node.outputs)]):
        return results
    arrays = [None if t is None else t.data for t in inputs]
    symbolic = any(a is not None and a.dtype == object for a in arrays)
    if symbolic and (operator.symbolic is None or any(r.dtype in FLOATS for r in results)):
        return results
    try:
        if symbolic:
            raw = _run_symbolic(operator, node, arrays)
        else:
            with np.errstate(all="ignore"):
                raw = operator.run(arrays, node.attributes, len(node.outputs))
    except GraphError:
        return results  # undecided for some length: the value stays unknown
    except MISFITS as error:
        raise GraphError(f"{node}: its inputs do not fit the operator ({error})") from error
    return tuple(replace(r, data=_normal(a, r.dtype)) for r, a in zip(results, raw, strict=False))


def _run_symbolic(operator: Operator, node: Node, arrays: list[Array | None]) -> tuple[Array, ...]:
    assert operator.symbolic is not None
    extra = {"outputs": len(node.outputs)} if "outputs" in operator.special else {}
    raw = operator.symbolic(*arrays, **node.attributes, **extra)
    return tuple(np.asarray(a, object) for a in (raw if isinstance(raw, list | tuple) else (raw,)))


def _small(tensor: Tensor) -> bool:
    count = product(tensor.shape)
    if not isinstance(count, int):
        return False
    return count <= (MAX_CARRIED if tensor.dtype not in FLOATS else MAX_FLOATS if tensor.rank <= 1 else 0)


def _normal(data: Array | None, dtype: str) -> Array | None:
    """Elements as numbers of the dtype where all are numbers, otherwise as canonical expressions."""
    if data is None or data.dtype != object:
        return data if data is None else np.asarray(data).astype(numpy_dtype(dtype), copy=False)
    flat = [simplify(d) if is_expression(d) else d for d in data.reshape(-1).tolist()]
    if not any(is_expression(d) for d in flat):
        return np.asarray(flat).astype(numpy_dtype(dtype)).reshape(data.shape)
    result = np.empty(len(flat), object)
    result[:] = flat
    return result.reshape(data.shape)


def _reshaped_codes(node: Node) -> Array | None:
    """The codes of a quantized weight in another shape, still where they were: a table that shares them with a head."""
    x, shape = node.input(0), node.output.dims
    if x.dtype != "uint8" or not isinstance(x.constant, np.ndarray) or not x.constant.flags.c_contiguous:
        return None
    return x.constant.reshape(ints(shape)) if all(isinstance(d, int) for d in shape) else None


class _Walk:
    """Old values to new ones."""

    def __init__(self, bindings: Mapping[Symbol, Dim]):
        self.bindings = bindings
        self.map: dict[Value, Value] = {}

    def input(self, value: Value) -> Value:
        if value.shape is None:
            raise GraphError(f"graph input {value.name!r} has no shape")
        shape = tuple(substitute(d, self.bindings) for d in value.shape)
        self.map[value] = Value(value.name, value.dtype, shape, value.constant)
        return self.map[value]

    def new(self, value: Value) -> Value:
        if value not in self.map:
            if value.constant is not None or not self.bindings or value.content is None:
                self.map[value] = value
            else:
                content = np.empty(value.content.shape, object)
                for i, d in np.ndenumerate(value.content):
                    content[i] = substitute(d, self.bindings)
                self.map[value] = Value(value.name, value.dtype, value.shape, content=content)
        return self.map[value]

    def node(self, node: Node, opset: Mapping[str, int]) -> Node | None:
        """The node over new values; None where all that it computes is known."""
        new = replace(
            node,
            inputs=[None if v is None else self.new(v) for v in node.inputs],
            outputs=[Value(v.name) for v in node.outputs],
        )
        for old, value, tensor in zip(node.outputs, new.outputs, infer_node(new, opset), strict=False):
            value.dtype, value.shape = tensor.dtype, tensor.shape
            self.map[old] = value
            if tensor.data is not None and tensor.data.dtype == object:
                value.content = tensor.data
            elif tensor.data is not None:
                value.constant = tensor.data
        if new.op == "Reshape" and new.domain == "" and new.output.constant is None:
            new.output.constant = _reshaped_codes(new)
        return None if all(v.known for v in new.outputs) else new
