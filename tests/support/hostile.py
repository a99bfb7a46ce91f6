"""ONNX models that are to be refused, by name: what is wrong, the node or tensor that is to be named."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HUGE = 2**38
Nodes = Sequence[onnx.NodeProto]


def model(nodes: Nodes, tensors: Sequence[onnx.TensorProto] = (), shape: Sequence[Any] = (2, 3)) -> onnx.ModelProto:
    """A model of one float input "x" and one output "y"."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(list(nodes), "hostile", inputs, outputs, list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def bad(op: str, *inputs: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), [output], name="bad", **attributes)


def ints(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def floats(name: str, *values: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.float32), name)


def scalars(start: float, stop: float, step: float, dtype: type = np.int64) -> list[onnx.TensorProto]:
    """The three inputs of a Range."""
    values = zip(("start", "stop", "step"), (start, stop, step), strict=True)
    return [numpy_helper.from_array(np.array(v, dtype), n) for n, v in values]


def tensor(dims: Sequence[int], kind: int = TensorProto.FLOAT, data: bytes = b"") -> onnx.TensorProto:
    """An initializer "w" that claims these dimensions."""
    proto = TensorProto(name="w", data_type=kind, raw_data=data)
    proto.dims.extend(dims)
    return proto


def summed(node: onnx.NodeProto, *tensors: onnx.TensorProto) -> onnx.ModelProto:
    """y = x + the sum of what the node makes: something large that is not an output."""
    rest = [
        helper.make_node("ReduceSum", [node.output[0]], ["r"], name="sum"),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    return model([node, *rest], tensors)


def squared(times: int) -> onnx.ModelProto:
    """A shape that is squared again and again: 2^times factors."""
    nodes = [helper.make_node("Shape", ["x"], ["s0"])]
    nodes += [helper.make_node("Mul", [f"s{i}"] * 2, [f"s{i + 1}"], name=f"square.{i}") for i in range(times)]
    return model([*nodes, bad("ConstantOfShape", f"s{times}")], shape=("a", "b"))


def sum_to_a_power(symbols: int, times: int) -> onnx.ModelProto:
    """The sum of many lengths, squared again and again."""
    nodes = [helper.make_node("Shape", ["x"], ["all"]), helper.make_node("ReduceSum", ["all"], ["s0"], keepdims=1)]
    nodes += [helper.make_node("Mul", [f"s{i}"] * 2, [f"s{i + 1}"], name=f"square.{i}") for i in range(times)]
    return model([*nodes, bad("ConstantOfShape", f"s{times}")], shape=[f"d{i}" for i in range(symbols)])


def cycle() -> onnx.ModelProto:
    return model([bad("Add", "x", "z"), helper.make_node("Relu", ["y"], ["z"], name="back")])


RANGE = ("start", "stop", "step")
HOSTILE: dict[str, tuple[onnx.ModelProto, str]] = {
    "an unknown operator": (model([bad("Frobnicate", "x")]), "Frobnicate"),
    "a subgraph": (model([bad("If", "x", then_branch=cycle().graph, else_branch=cycle().graph)]), "bad"),
    "a cycle": (cycle(), "cycle"),
    "a missing initializer": (model([bad("Add", "x", "w")]), "'w' is neither"),
    "too few inputs": (model([bad("Add", "x")]), "bad"),
    "too many inputs": (model([bad("Concat", *["x"] * 9999, axis=0)]), "bad"),
    "types that differ": (model([bad("Add", "x", "w")], [ints("w", 1, 2, 3)]), "bad"),
    "shapes that differ": (model([bad("Add", "x", "w")], [floats("w", 1, 2)]), "bad"),
    "an attribute of another type": (model([bad("Gemm", "x", "x", alpha=[1, 2])]), "'alpha' must be of type float"),
    "an axis that is not there": (model([bad("Softmax", "x", axis=2**31)]), "bad"),
    "a shape that depends on data": (
        model([helper.make_node("Cast", ["x"], ["s"], to=TensorProto.INT64), bad("ConstantOfShape", "s")], shape=[3]),
        "bad",
    ),
    "dimensions that overflow": (model([bad("Add", "x", "w")], [tensor([2**33, 2**33])]), "'w' claims the shape"),
    "dimensions that wrap": (model([bad("Add", "x", "w")], [tensor([2**32, 2**32, 0])]), "'w' claims the shape"),
    "a negative dimension": (model([bad("Add", "x", "w")], [tensor([-4])]), "'w' claims the shape"),
    "more data than its shape": (model([bad("Add", "x", "w")], [tensor([1], data=b"12345678")]), "'w' has 8 bytes"),
    "100,000 axes": (model([bad("Add", "x", "w")], [tensor([1] * 100_000, data=b"1234")]), "'w' has 100000 axes"),
    "an input of 2,000 axes": (model([bad("Relu", "x")], shape=[1] * 2000), "'x' has 2000 axes"),
    "an unknown type": (model([bad("Add", "x", "w")], [tensor([1], kind=77)]), "'w'"),
    "a huge input": (model([bad("Relu", "x")], shape=[2**39, 2**39]), "bad"),
    "a huge Reshape": (model([bad("Reshape", "x", "s")], [ints("s", HUGE, -1)]), "bad"),
    "a huge Expand": (model([bad("Expand", "x", "s")], [ints("s", HUGE, 2, 3)]), "bad"),
    "a huge Expand within": (summed(bad("Expand", "x", "s", output="e"), ints("s", HUGE, 2, 3)), "sum"),
    "a huge Tile": (model([bad("Tile", "x", "s")], [ints("s", HUGE, HUGE)]), "bad"),
    "a negative Tile": (model([bad("Tile", "x", "s")], [ints("s", -1, 2)]), "bad"),
    "a huge constant": (summed(bad("ConstantOfShape", "s", output="k"), ints("s", 2**35)), "sum"),
    "a huge constant, folded": (summed(bad("Tile", "w", "s", output="k"), floats("w", 1, 2), ints("s", 10**10)), "sum"),
    "a huge Pad": (model([bad("Pad", "x", "s")], [ints("s", HUGE, 0, 0, HUGE)]), "bad"),
    "a Pad below nothing": (model([bad("Pad", "x", "s")], [ints("s", -9, 0, 0, 0)]), "bad"),
    "a huge Resize": (model([bad("Resize", "x", "", "", "s")], [ints("s", HUGE, 3)]), "bad"),
    "a Resize by infinity": (model([bad("Resize", "x", "", "s")], [floats("s", np.inf, 1)]), "bad"),
    "a Resize by no number": (model([bad("Resize", "x", "", "s")], [floats("s", np.nan, 1)]), "bad"),
    "a huge Range": (model([bad("Range", *RANGE)], scalars(0, 1, 1e-30, np.float32)), "bad"),
    "an endless Range": (model([bad("Range", *RANGE)], scalars(0, np.inf, 1, np.float32)), "bad"),
    "a Range without a step": (model([bad("Range", *RANGE)], scalars(0, 5, 0)), "bad"),
    "a huge TopK": (model([bad("TopK", "x", "k", output="v")], [ints("k", HUGE)]), "y"),
    "a huge convolution": (
        model([bad("Conv", "x", "w", pads=[HUGE] * 4)], [tensor([1, 1, 1, 1], data=b"1234")], shape=[1, 1, 8, 8]),
        "bad",
    ),
    "a shape of astronomic powers": (squared(40), "bad"),
    "a sum of lengths to a power": (sum_to_a_power(12, 8), "bad"),
}
