"""ONNX's backend interface (onnx.backend.base): `prepare(model)`, `run_model`, `run_node`, on a Vulkan device.

    rep = tlite_vk.backend.prepare(onnx.load("model.onnx"))
    outputs = rep.run([x, y])

What is not supported raises NotSupportedError, which test runners of unittest and pytest count as skipped. Where a
model takes axes, shapes or bounds as inputs, it is compiled for their values, once for each set of values.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any
from unittest import SkipTest

import numpy as np
import numpy.typing as npt
import onnx
from onnx.backend.base import Backend, BackendRep

from tlite_vk.device import Device, open_device
from tlite_vk.errors import DeviceError, InputError, ModelError
from tlite_vk.graph.contrib import is_contrib
from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.infer import infer, lookup
from tlite_vk.graph.ir import Graph, Value, rewire
from tlite_vk.graph.onnx_load import from_proto
from tlite_vk.graph.ops.dtypes import numpy_dtype
from tlite_vk.session import Session

__all__ = [
    "NotSupportedError",
    "TliteBackend",
    "TliteBackendRep",
    "is_compatible",
    "prepare",
    "run_model",
    "run_node",
    "supports_device",
]

Array = npt.NDArray[Any]
MAX_PARAMETER = 64  # elements of an input that may be an axis, a shape or a bound
MAX_SESSIONS = 8


class NotSupportedError(ModelError, SkipTest):
    """The model holds something that this runtime refuses; the message names it."""


@cache
def _device(selector: int | str | None) -> Device:
    return open_device(selector)


def _selector(device: str) -> int | None:
    """The index in a device of ONNX's: "CPU" and "VULKAN" are the default one, "VULKAN:1" the one of that index."""
    kind, _, index = device.upper().partition(":")
    if kind not in ("CPU", "VULKAN") or (index and not index.isdecimal()):
        raise DeviceError(f"there is no device {device!r}; use CPU, VULKAN or VULKAN:index")
    return int(index) if index and kind == "VULKAN" else None


class TliteBackendRep(BackendRep):
    """A model that was prepared. `run` takes the inputs in order, or by name, and returns the outputs in order."""

    def __init__(self, model: onnx.ModelProto, device: Device) -> None:
        self._device = device
        self._outputs = [(v.name, v.type.tensor_type.elem_type) for v in model.graph.output]
        try:
            self._graph = from_proto(model)
            for node in self._graph.nodes:
                if not is_contrib(node):
                    lookup(node, self._graph.opset)
        except GraphError as error:
            raise NotSupportedError(str(error)) from error
        self._folded: tuple[str, ...] | None = None
        self._sessions: OrderedDict[tuple[bytes, ...], Session] = OrderedDict()
        if not any(_may_be_parameter(v) for v in self._graph.inputs):
            self._folded = ()
            self._session({})

    @property
    def dispatches(self) -> int:
        """How many kernels the last run started."""
        return next(reversed(self._sessions.values())).dispatches if self._sessions else 0

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Array, ...]:
        """Raises NotSupportedError, or InputError for inputs that do not fit."""
        arrays = self._named(inputs)
        try:
            results = self._session(arrays).run({k: v for k, v in arrays.items() if k not in (self._folded or ())})
        except (GraphError, ModelError) as error:
            raise NotSupportedError(str(error)) from error
        return tuple(self._typed(results[name], kind) for name, kind in self._outputs)

    def _typed(self, array: Array, kind: int) -> Array:
        return array.astype(onnx.helper.tensor_dtype_to_np_dtype(kind), copy=False) if kind else array

    def _named(self, inputs: Any) -> dict[str, Array]:
        if not isinstance(inputs, Mapping):
            listed = inputs if isinstance(inputs, list | tuple) else [inputs]
            if len(listed) > len(self._graph.inputs):
                raise InputError(f"{len(listed)} inputs for a model that takes {len(self._graph.inputs)}")
            inputs = dict(zip((v.name for v in self._graph.inputs), listed, strict=False))
        types = {v.name: v.dtype for v in self._graph.inputs}
        return {name: _plain(np.asarray(array), types.get(name, "")) for name, array in inputs.items()}

    def _session(self, arrays: Mapping[str, Array]) -> Session:
        """The model compiled for the values of its parameters, if any of its inputs are such."""
        if self._folded is None:
            self._folded = self._find_parameters(arrays)
        key = tuple(arrays[name].tobytes() + str(arrays[name].shape).encode() for name in self._folded)
        if key not in self._sessions:
            try:
                graph = _with_constants(self._graph, {name: arrays[name] for name in self._folded})
                self._sessions[key] = Session(graph, self._device)
            except (GraphError, ModelError) as error:
                raise NotSupportedError(str(error)) from error
            if len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        self._sessions.move_to_end(key)
        return self._sessions[key]

    def _find_parameters(self, arrays: Mapping[str, Array]) -> tuple[str, ...]:
        """The fewest inputs whose values make all shapes known: none, those nowhere a first operand, or all."""
        data = {node.inputs[0] for node in self._graph.nodes if node.inputs}
        small = [
            v
            for v in self._graph.inputs
            if _may_be_parameter(v) and v.name in arrays and arrays[v.name].size <= MAX_PARAMETER
        ]
        choices: tuple[list[Value], ...] = ([], [v for v in small if v not in data], small)
        problem: GraphError | None = None
        for choice in choices:
            names = tuple(v.name for v in choice)
            try:
                infer(_with_constants(self._graph, {name: arrays[name] for name in names}))
            except GraphError as error:
                problem = error
            else:
                return names
        raise NotSupportedError(str(problem))


def _may_be_parameter(value: Value) -> bool:
    return value.shape is not None and len(value.shape) <= 1 and value.dtype != "string"


def _plain(array: Array, dtype: str) -> Array:
    """4-bit elements one to a byte, as the graph has them."""
    return array.astype(numpy_dtype(dtype)) if dtype in ("int4", "uint4") else array


def _with_constants(graph: Graph, arrays: Mapping[str, Array]) -> Graph:
    """The graph with these inputs as constants."""
    if not arrays:
        return graph
    fixed = {
        v: Value(v.name, v.dtype, tuple(int(d) for d in arrays[v.name].shape), arrays[v.name])
        for v in graph.inputs
        if v.name in arrays
    }
    return rewire(replace(graph, inputs=[v for v in graph.inputs if v not in fixed]), fixed)


class TliteBackend(Backend):
    """The backend as ONNX's test runner takes it."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether the model can be prepared."""
        try:
            cls.prepare(model, device, **kwargs)
        except NotSupportedError:
            return False
        return True

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> TliteBackendRep:
        """Compile a model. Raises NotSupportedError naming what is refused, DeviceError where there is no device."""
        return TliteBackendRep(model, kwargs.get("vulkan") or _device(_selector(device)))

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Array, ...]:
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Array, ...]:
        """Run one operator on arrays, of the newest opset unless `opset` names another."""
        arrays = [np.asarray(x) for x in (inputs if isinstance(inputs, list | tuple) else [inputs])]
        names = [name for name in node.input if name]
        infos = [
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for name, a in zip(dict.fromkeys(names), arrays, strict=True)
        ]
        outputs = [onnx.helper.make_tensor_value_info(name, 0, None) for name in node.output if name]
        graph = onnx.helper.make_graph([node], "node", infos, outputs)
        opset = onnx.helper.make_opsetid(node.domain, kwargs.pop("opset", onnx.defs.onnx_opset_version()))
        model = onnx.helper.make_model(graph, opset_imports=[opset])
        return cls.run_model(model, arrays, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        try:
            _device(_selector(device))
        except DeviceError:
            return False
        return True


is_compatible = TliteBackend.is_compatible
prepare = TliteBackend.prepare
run_model = TliteBackend.run_model
run_node = TliteBackend.run_node
supports_device = TliteBackend.supports_device
