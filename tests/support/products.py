"""Small ONNX models of products, tables and heads, as exporters write them, for the tests of the quantizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}

Info = tuple[int, Sequence[int | str]]
"""Element type and dimensions of an input or output."""


def weight(rng: np.random.Generator, *shape: int, dtype: str = "float32") -> Array:
    """Random weights of about the size that trained ones have; heavier tails than a normal distribution."""
    drawn = rng.standard_t(5, shape) / np.sqrt(shape[-1])
    return np.asarray(drawn, helper.tensor_dtype_to_np_dtype(TYPES[dtype]))


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Info],
    outputs: Mapping[str, Info],
    weights: Mapping[str, Array],
    *,
    opset: int = 24,
    external: bool = False,
) -> Path:
    """Write a model; `inputs` and `outputs` are name -> (element type, dimensions)."""
    ins, outs = (
        [helper.make_tensor_value_info(name, kind, list(dims)) for name, (kind, dims) in values.items()]
        for values in (inputs, outputs)
    )
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(list(nodes), "products", ins, outs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    helper.set_model_props(model, {"author": "nobody"})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path), save_as_external_data=external, location=path.name + ".data", size_threshold=64)
    return path


def write_tiny(path: Path, *, hidden: int = 64, inner: int = 96, vocabulary: int = 50, opset: int = 20,
               tied: bool = True, external: bool = False, dtype: str = "float32", seed: int = 0) -> Path:  # fmt: skip
    """logits [B, T, V] of ids [B, T]: a table, a product by [K, N], one by a Transpose of [N, K], a Gemm, and a head.

    Weights: table [V, H], up.weight [H, I] (odd name: as MatMul takes it), down.weight [H, I] (through a Transpose),
    gemm.weight [H, H] with transB, and head.weight [H, V] unless `tied`.
    """
    rng = np.random.default_rng(seed)
    weights = {
        "table": weight(rng, vocabulary, hidden, dtype=dtype),
        "up.weight": weight(rng, hidden, inner, dtype=dtype),
        "down.weight": weight(rng, hidden, inner, dtype=dtype),
        "gemm.weight": weight(rng, hidden, hidden, dtype=dtype),
        "gemm.bias": weight(rng, hidden, dtype=dtype),
        "flat": np.array([-1, hidden]),
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "ids"], ["x"], "embed"),
        node("MatMul", ["x", "up.weight"], ["u"], "layer/up"),
        node("Tanh", ["u"], ["a"], "layer/act"),
        node("Transpose", ["down.weight"], ["down.T"], "layer/down.T", perm=[1, 0]),
        node("MatMul", ["a", "down.T"], ["d"], "layer/down"),
        node("Add", ["x", "d"], ["r"], "layer/residual"),
        node("Reshape", ["r", "flat"], ["f"], "flatten"),
        node("Gemm", ["f", "gemm.weight", "gemm.bias"], ["g"], "layer/gemm", transB=1),
        node("Shape", ["x"], ["xs"], "shape"),
        node("Reshape", ["g", "xs"], ["h"], "unflatten"),
        node("Add", ["r", "h"], ["last"], "layer/residual2"),
    ]
    if tied:
        nodes += [node("Transpose", ["table"], ["head.T"], "head.T", perm=[1, 0])]
    else:
        weights["head.T"] = weight(rng, hidden, vocabulary, dtype=dtype)
    kind = TYPES[dtype]
    nodes += [node("MatMul", ["last", "head.T"], ["logits"], "head")]
    inputs: dict[str, Info] = {"ids": (TensorProto.INT64, ("B", "T"))}
    outputs: dict[str, Info] = {"logits": (kind, ("B", "T", vocabulary))}
    return save(path, nodes, inputs, outputs, weights, opset=opset, external=external)
