"""ONNX models in memory, for comparisons with onnxruntime.

m = OnnxModel()
x = m.input("x", np.float32, "B", "T", 32)
y = m.node("QuickGelu", x, domain=CONTRIB)
proto = m.proto(y)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper

Array = npt.NDArray[Any]
CONTRIB = "com.microsoft"


# Rows of the result that mean something; a padded row does not. By default all.
Valid = Callable[[str, Array], Array]


@dataclass(frozen=True)
class Case:
    """A model and its inputs. valid(output name, array): the part of an output that is compared."""

    name: str
    model: onnx.ModelProto
    inputs: Mapping[str, Array]
    valid: Valid = lambda name, array: array


def floats(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


class OnnxModel:
    """Nodes are added in order; tensors are known by their names, an absent input is ""."""

    def __init__(self, opset: int = 21) -> None:
        self.opset = opset
        self.inputs: list[onnx.ValueInfoProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.fed: dict[str, Array] = {}
        self.count = 0

    def fresh(self, base: str) -> str:
        self.count += 1
        return f"{base}_{self.count}"

    def input(self, name: str, dtype: Any, *dims: int | str) -> str:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(dims)))
        return name

    def feed(self, name: str, array: Array, *dims: int | str) -> str:
        """An input with its elements, for `case`."""
        self.fed[name] = array
        return self.input(name, array.dtype, *dims)

    def constant(self, array: Any, name: str = "") -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), name or self.fresh("c")))
        return self.constants[-1].name

    def node(self, op: str, *inputs: str, domain: str = "", name: str = "", **attributes: Any) -> str:
        return self.several(op, *inputs, outputs=1, domain=domain, name=name, **attributes)[0]

    def several(
        self, op: str, *inputs: str, outputs: int | list[str], domain: str = "", name: str = "", **attributes: Any
    ) -> list[str]:
        """The outputs of a node; a list names them, "" for one that is not asked for."""
        base = name or self.fresh(op)
        names = [f"{base}.{i}" for i in range(outputs)] if isinstance(outputs, int) else outputs
        last = max(i for i, name in enumerate(inputs) if name)
        self.nodes.append(helper.make_node(op, list(inputs[: last + 1]), names, name=base, domain=domain, **attributes))
        return names

    def proto(self, *outputs: str) -> onnx.ModelProto:
        """Outputs have no declared shape: onnxruntime infers them."""
        values = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(self.nodes, "test", self.inputs, values, self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def case(self, name: str, *outputs: str, valid: Valid = lambda name, array: array) -> Case:
        return Case(name, self.proto(*outputs), self.fed, valid)


def onnxruntime_session(model: onnx.ModelProto | Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_onnxruntime(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    session = onnxruntime_session(model)
    names = [v.name for v in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(inputs)), strict=True))
