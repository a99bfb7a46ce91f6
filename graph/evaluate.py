"""Run a graph with the numpy oracles: the reference that passes and kernels are tested against. Slow on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import GraphError
from .infer import lookup
from .ir import Graph, Value
from .ops.dtypes import numpy_dtype, unpack4
from .ops.registry import Step
from .shape import evaluate as evaluate_dim
from .shape import ints, product, symbols
from .weights import AffineWeight, DenseWeight

Array = npt.NDArray[Any]


def constant_array(value: Value, lengths: Mapping[str, int] | None = None) -> Array:
    """A known value as an array of its logical dtype and shape: unpacked, dequantized, its expressions evaluated."""
    constant, dtype = value.constant, np.dtype(numpy_dtype(value.dtype))
    if constant is None:
        if value.content is None:
            raise GraphError(f"value {value.name!r} is not known")
        flat = [
            evaluate_dim(d, lengths or {}) if not isinstance(d, bool) else d for d in value.content.reshape(-1).tolist()
        ]
        return np.asarray(flat).astype(dtype).reshape(value.content.shape)
    if isinstance(constant, AffineWeight | DenseWeight):
        return constant.dequantize()
    shape = ints(value.dims)
    if value.dtype in ("uint4", "int4") and constant.size != product(value.dims):
        return unpack4(constant, int(np.prod(shape)), value.dtype == "int4").reshape(shape)
    return np.asarray(constant).astype(dtype, copy=False).reshape(shape)


def bind_lengths(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, int]:
    """The value of every symbol, from the inputs' shapes. Raises GraphError where they contradict the graph."""
    lengths: dict[str, int] = {}
    for value in graph.inputs:
        array = inputs.get(value.name)
        if array is None:
            continue
        if len(array.shape) != len(value.dims):
            raise GraphError(f"input {value.name!r} has rank {len(array.shape)}, not {len(value.dims)}")
        for d, n in zip(value.dims, array.shape, strict=True):
            if not isinstance(d, int) and d.is_Symbol:
                lengths.setdefault(str(d), n)
    for value in graph.inputs:
        array = inputs.get(value.name)
        for d, n in zip(value.dims, array.shape if array is not None else (), strict=False):
            if all(s.name in lengths for s in symbols(d)) and evaluate_dim(d, lengths) != n:
                raise GraphError(
                    f"input {value.name!r} has the extent {n} where {d} = {evaluate_dim(d, lengths)} is needed"
                )
    return lengths


def evaluate(graph: Graph, inputs: Mapping[str, Array], step: Step | None = None) -> dict[str, Array]:
    """The graph's outputs by name. `inputs`: an array per graph input; `step`: for fused generation graphs."""
    lengths = bind_lengths(graph, inputs)
    values: dict[Value, Array] = {}
    for value in graph.inputs:
        if value.name not in inputs and value.constant is None:
            raise GraphError(f"no array for the input {value.name!r}")
        if value.name in inputs:
            values[value] = np.asarray(inputs[value.name]).astype(numpy_dtype(value.dtype), copy=False)

    def get(value: Value | None) -> Array | None:
        if value is None or value in values:
            return None if value is None else values[value]
        return constant_array(value, lengths)

    for node in graph.nodes:
        operator = lookup(node, graph.opset)
        with np.errstate(all="ignore"):
            results = operator.run([get(v) for v in node.inputs], node.attributes, len(node.outputs), step)
        values.update(zip(node.outputs, results, strict=False))
    outputs = {v.name: get(v) for v in graph.outputs}
    return {name: array for name, array in outputs.items() if array is not None}
