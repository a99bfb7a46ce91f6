"""Which float matrices of a graph can be quantized, along which axis, and what for: found by what reads them.

A weight is an initializer [A, B] that, through Transpose, Cast and Identity, nothing reads but MatMul and Gemm on
their right, and Gather as its table. The *reduction axis* is the one that the product sums over; of a table it is the
one along a row, so that a tied table and head agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

import onnx

from tlite_vk.graph.ops.dtypes import ONNX_NUMBERS

from .opset import subgraphs
from .source import FLOAT_TYPES

_SHAPES = {"Identity", "Cast", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Expand", "Flatten", "Gather"}
MAX_CHAIN = 32  # Transposes, Casts and Identities between a weight and what reads it
_POINTWISE = {"Add", "Sub", "Mul", "Div", "Tanh", "Sigmoid", "Softmax", "LogSoftmax", "Clip", "Relu"}


class Role(Enum):
    """What a weight is for."""

    PRODUCT = "product"
    EMBEDDING = "embedding"
    HEAD = "head"
    TIED = "embedding and head"


@dataclass
class Weight:
    """One matrix that can be quantized.

    name: of its initializer. shape: as stored. axis: the reduction axis. readers: the products and Gathers.
    casts: where nothing but Casts to float32 read the initializer: those; their results are what the graph works with.
    """

    name: str
    shape: tuple[int, int]
    dtype: str
    axis: int
    role: Role
    readers: list[str]
    casts: list[onnx.NodeProto] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The name that people know: of the float32 value where the initializer is only its storage."""
        return self.casts[0].output[0] if self.casts else self.name

    @property
    def columns(self) -> int:
        """The length of the reduction."""
        return self.shape[self.axis]

    @property
    def rows(self) -> int:
        return self.shape[1 - self.axis]

    @property
    def names(self) -> list[str]:
        """Whatever a pattern may match."""
        return [self.name, self.label, *self.readers]


class _UnfitError(Exception):
    """Why a matrix is left alone."""


class Uses:
    """Who makes and who reads each value of a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.tensors = {t.name: t for t in graph.initializer}
        self.outputs = {v.name for v in graph.output}
        self.constants = set(self.tensors) | {n.output[0] for n in graph.node if n.op_type == "Constant"}
        self.readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        self.inner: dict[str, onnx.NodeProto] = {}  # values that are read inside a subgraph of a node
        for node in graph.node:
            for index, name in enumerate(node.input):
                self.readers.setdefault(name, []).append((node, index))
            for inner in subgraphs(node):
                for name in _reads(inner):
                    self.inner[name] = node

    def weights(self) -> tuple[list[Weight], list[tuple[str, str]]]:
        """(weights, (name, reason) of each other float tensor of rank 2 or more), in the order of the file."""
        found: list[Weight] = []
        others: list[tuple[str, str]] = []
        for tensor in self.graph.initializer:
            if tensor.data_type not in FLOAT_TYPES or len(tensor.dims) < 2:
                continue
            try:
                found.append(self._weight(tensor))
            except _UnfitError as why:
                others.append((tensor.name, str(why)))
        return found, others

    def _weight(self, tensor: onnx.TensorProto) -> Weight:
        if len(tensor.dims) != 2:
            raise _UnfitError(f"it has rank {len(tensor.dims)}: {self._first_reader(tensor.name)}")
        dtype = ONNX_NUMBERS[tensor.data_type]
        if dtype == "float64":
            raise _UnfitError("it is float64")
        uses = list(self._uses(tensor.name, False))
        if not uses:
            raise _UnfitError("nothing reads it")
        if len({axis for axis, _, _ in uses}) > 1:
            raise _UnfitError("its readers sum over different axes")
        roles = {role for _, role, _ in uses}
        role = Role.TIED if roles >= {Role.EMBEDDING, Role.HEAD} else roles.pop() if len(roles) == 1 else Role.PRODUCT
        readers = list(dict.fromkeys(_label(node) for _, _, node in uses))
        shape = (int(tensor.dims[0]), int(tensor.dims[1]))
        return Weight(tensor.name, shape, dtype, uses[0][0], role, readers, self._casts(tensor.name, dtype))

    def _casts(self, name: str, dtype: str) -> list[onnx.NodeProto]:
        nodes = [node for node, _ in self.readers.get(name, [])]
        wide = all(n.op_type == "Cast" and _attribute(n, "to", 0) == onnx.TensorProto.FLOAT for n in nodes)
        ends = {n.output[0] for n in nodes}
        if dtype == "float32" or not wide or ends & (self.outputs | set(self.inner)):
            return []
        return nodes

    def _uses(self, name: str, transposed: bool, depth: int = 0) -> Iterator[tuple[int, Role, onnx.NodeProto]]:
        """(reduction axis of the initializer, role, reader) of each use of a value that is it, or its transpose."""
        if depth > MAX_CHAIN:
            raise _UnfitError(f"more than {MAX_CHAIN} operators move it")
        if name in self.outputs:
            raise _UnfitError("it is a graph output")
        if name in self.inner:
            raise _UnfitError(f"it is read inside a subgraph of {_describe(self.inner[name])}")
        for node, index in self.readers.get(name, []):
            op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
            if op in ("Identity", "Transpose") or (op == "Cast" and _attribute(node, "to", 0) in FLOAT_TYPES):
                yield from self._uses(node.output[0], transposed ^ (op == "Transpose"), depth + 1)
            elif op in ("MatMul", "Gemm") and index == 1:
                flipped = transposed ^ bool(op == "Gemm" and _attribute(node, "transB", 0))
                yield (1 if flipped else 0), (Role.HEAD if self._is_head(node) else Role.PRODUCT), node
            elif op == "Gather" and index == 0 and _attribute(node, "axis", 0) in (0, -2):
                self._check_table(node)
                yield (0 if transposed else 1), Role.EMBEDDING, node
            else:
                side = ", on the left" if op in ("MatMul", "Gemm") and index == 0 else ""
                raise _UnfitError(f"it is read by {_describe(node)}{side}")

    def _first_reader(self, name: str) -> str:
        nodes = [node for node, _ in self.readers.get(name, [])]
        return f"read by {_describe(nodes[0])}" if nodes else "nothing reads it"

    def _check_table(self, gather: onnx.NodeProto) -> None:
        if gather.input[1] in self.constants:
            raise _UnfitError(f"{_describe(gather)} picks constant rows of it")
        ends = list(self._ends(gather.output[0]))
        if ends and all(n.op_type == "Mul" and self._computed(n) > 1 for n in ends):
            raise _UnfitError(f"what {_describe(gather)} picks scales other values, as a rotary table does")

    def _ends(self, name: str) -> Iterator[onnx.NodeProto]:
        """What reads a value in the end, past operators that only move it."""
        waiting, seen = [name], set[str]()
        while waiting:
            name = waiting.pop()
            for node, _ in self.readers.get(name, []) if name not in seen else []:
                if node.op_type in _SHAPES:
                    waiting += node.output
                else:
                    yield node
            seen.add(name)

    def _computed(self, node: onnx.NodeProto) -> int:
        return sum(1 for name in node.input if name and name not in self.constants)

    def _is_head(self, product: onnx.NodeProto) -> bool:
        """Whether its result only becomes a graph output: nothing is multiplied, added or normalized after it."""
        waiting, seen, ends = [product.output[0]], set[str](), False
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            ends |= name in self.outputs
            for node, _ in self.readers.get(name, []):
                if node.op_type not in _SHAPES | _POINTWISE or (
                    node.op_type in _POINTWISE and self._computed(node) > 1
                ):
                    return False
                waiting += node.output
        return ends


def _reads(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that the nodes of a subgraph read; those that it defines itself are harmless here."""
    for node in graph.node:
        yield from node.input
        for inner in subgraphs(node):
            yield from _reads(inner)
    yield from (v.name for v in graph.output)


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def _label(node: onnx.NodeProto) -> str:
    return node.name or next((o for o in node.output if o), node.op_type)


def _describe(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {_label(node)!r}"
