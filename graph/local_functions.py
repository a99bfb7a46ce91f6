"""Model-local functions written out. They may call each other, so a few can stand for more nodes than fit anywhere:
what they come to is counted before anything is copied."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx
import onnx.checker
import onnx.inliner
import onnx.shape_inference

from .budget import take
from .errors import GraphError

MAX_NODES = 1 << 20  # of a model with its functions written out
MAX_DEPTH = 64  # functions that call functions, graphs within graphs
INLINER_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    onnx.shape_inference.InferenceError,
    onnx.checker.ValidationError,
)
NODE_BYTES = 256  # of a node beside what it holds


def inline_functions(proto: onnx.ModelProto, path: Any) -> onnx.ModelProto:
    """The model without functions of its own. Raises GraphError where they call themselves, or come to too much."""
    if not proto.functions:
        return proto
    nodes, size = _Counter(proto.functions, path).total(proto.graph.node, 0)
    if nodes > MAX_NODES:
        raise GraphError(f"{path}: its functions, written out, have {nodes} nodes; up to {MAX_NODES} are supported")
    take(size, f"{path} with its functions written out")
    try:
        return onnx.inliner.inline_local_functions(proto)
    except INLINER_ERRORS as error:
        said = " ".join(str(error).split())[:200]
        raise GraphError(f"{path}: its model-local functions cannot be inlined ({said})") from error


class _Counter:
    def __init__(self, functions: Iterable[onnx.FunctionProto], path: Any) -> None:
        self._functions = {(f.domain, f.name, f.overload): f for f in functions}
        self._known: dict[tuple[str, str, str], tuple[int, int]] = {}
        self._open: set[tuple[str, str, str]] = set()
        self._path = path

    def total(self, nodes: Iterable[onnx.NodeProto], depth: int) -> tuple[int, int]:
        """(nodes, bytes) of these nodes once every function that they call is written out."""
        if depth > MAX_DEPTH:
            raise GraphError(f"{self._path}: functions and graphs are nested more than {MAX_DEPTH} deep")
        count = size = 0
        for node in nodes:
            found = [(1, node.ByteSize() + NODE_BYTES)]
            key = (node.domain, node.op_type, node.overload)
            if key in self._functions:
                found.append(self._function(key, depth))
            for attribute in node.attribute:
                for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                    found.append(self.total(inner.node, depth + 1))
            count, size = count + sum(n for n, _ in found), size + sum(s for _, s in found)
        return count, size

    def _function(self, key: tuple[str, str, str], depth: int) -> tuple[int, int]:
        if key in self._open:
            raise GraphError(f"{self._path}: its function {key[1]!r} calls itself")
        if key not in self._known:
            self._open.add(key)
            self._known[key] = self.total(self._functions[key].node, depth + 1)
            self._open.discard(key)
        return self._known[key]
