"""The GLSL text of one generated kernel: its buffers, its push constants, its lines.

Every line defines a name once, and the same expression gets the same name (value numbering), so whoever generates
code need not care what was computed before. Numbers that are known become literals; dimensions that depend on the
lengths of a run become push constants, so one kernel serves all lengths.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf, isnan

import numpy as np

from tlite_vk.errors import ModelError
from tlite_vk.graph import shape as dims
from tlite_vk.graph.ops.dtypes import FLOATS
from tlite_vk.graph.shape import Dim
from tlite_vk.lower import Lowering
from tlite_vk.program import Window

from .functions import with_dependencies

MAX_BUFFERS = 8
"""Storage buffers per dispatch that every device has."""

MAX_PUSH = 32
"""Words of push constants that every device has."""

MAX_GROUPS = 32768
"""Workgroups along one axis, below what every device allows (65,535)."""


def kind_of(dtype: str) -> str:
    """The GLSL type that computes with elements of a graph type: "float", "int", "uint" or "bool"."""
    if dtype in FLOATS:
        return "float"
    return {"bool": "bool", "uint32": "uint", "uint64": "uint"}.get(dtype, "int")


def stored(kind: str) -> str:
    """The GLSL type of an element in memory."""
    return "int" if kind == "bool" else kind


def number(value: float, kind: str = "float") -> str:
    """A literal."""
    if kind == "bool":
        return "true" if value else "false"
    if kind == "uint":
        return f"{int(value) & 0xFFFFFFFF}u"
    if kind == "int":
        whole = int(value)
        return "(-2147483647 - 1)" if whole == -(2**31) else f"({whole})" if whole < 0 else str(whole)
    if isnan(value):
        return "uintBitsToFloat(0x7fc00000u)"
    with np.errstate(over="ignore"):
        single = float(np.float32(value))
    if single in (inf, -inf):
        return "uintBitsToFloat(0x7f800000u)" if single > 0 else "uintBitsToFloat(0xff800000u)"
    text = repr(np.float32(value).item())
    text = text if any(c in text for c in ".e") else f"{text}.0"
    return f"({text})" if text.startswith("-") else text


@dataclass
class _Block:
    """Lines between braces, and the names that expressions have there."""

    lines: list[str] = field(default_factory=list)
    names: dict[object, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Buffer:
    window: Window
    name: str
    kind: str
    access: str


class Source:
    """One kernel. Ask for buffers, dimensions and names; write lines; then `emit`."""

    def __init__(self, low: Lowering, label: str, lanes: int = 64) -> None:
        """lanes: invocations of a workgroup, at most what the device has."""
        self.low, self.label = low, label
        self.lanes = min(lanes, low.target.max_invocations)
        self._buffers: list[_Buffer] = []
        self._push: list[Dim] = []
        self._functions: dict[str, None] = {}
        self._globals: dict[str, None] = {}
        self._blocks = [_Block()]
        self._made = 0

    # --- names and lines -----------------------------------------------------------------------------------------

    def let(self, kind: str, text: str, key: object = None) -> str:
        """The name of the value of an expression; `key` stands for the expression where it is known by another mark."""
        if re.fullmatch(r"\w+|p\.\w+", text):
            return text
        key = (kind, text) if key is None else key
        for block in self._blocks:
            if key in block.names:
                return block.names[key]
        name = self.fresh(kind[0])
        self.line(f"{kind} {name} = {text};")
        self._blocks[-1].names[key] = name
        return name

    def known(self, key: object) -> str | None:
        """The text that `remember` was given for a key, where it can still be used."""
        return next((b.names[key] for b in self._blocks if key in b.names), None)

    def remember(self, key: object, text: str) -> str:
        self._blocks[-1].names[key] = text
        return text

    def variable(self, kind: str, start: str) -> str:
        """A name that lines may assign to."""
        name = self.fresh("v")
        self.line(f"{kind} {name} = {start};")
        return name

    def fresh(self, prefix: str) -> str:
        self._made += 1
        return f"{prefix}{self._made}"

    def line(self, text: str) -> None:
        self._blocks[-1].lines.append("    " * len(self._blocks) + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Lines within `head { ... }`: an if, an else, a loop."""
        self.line(f"{head} {{")
        self._blocks.append(_Block())
        yield
        inner = self._blocks.pop()
        self._blocks[-1].lines += inner.lines
        self.line("}")

    @contextmanager
    def loop(self, count: str, start: str = "0", step: str = "1") -> Iterator[str]:
        """A loop over an int from `start` below `count`; yields its name."""
        name = self.fresh("r")
        with self.block(f"for (int {name} = {start}; {name} < {count}; {name} += {step})"):
            yield name

    # --- what lines refer to -------------------------------------------------------------------------------------

    def dim(self, dim: Dim) -> str:
        """A dimension: a literal, or a push constant."""
        dim = self.low.dim(dim)
        if isinstance(dim, int):
            if not -(2**31) <= dim < 2**31:
                raise ModelError(f"node {self.label!r}: {dim} elements are more than a kernel can count")
            return number(dim, "int")
        if dim not in self._push:
            if len(self._push) == MAX_PUSH:
                raise ModelError(f"node {self.label!r}: the kernel depends on more than {MAX_PUSH} symbolic dimensions")
            self._push.append(dim)
        return f"p.d{self._push.index(dim)}"

    def call(self, function: str, *arguments: str) -> str:
        """A call of one of our GLSL functions (functions.py)."""
        self._functions[function] = None
        return f"{function}({', '.join(arguments)})"

    def declare(self, text: str) -> None:
        """A declaration outside of main, once."""
        self._globals[text] = None

    def reads(self, window: Window, kind: str) -> str:
        """The name of a buffer that is read as an array of `kind`."""
        return self._buffer(window, stored(kind), "readonly ")

    def writes(self, window: Window, kind: str) -> str:
        """The name of a buffer that is written as an array of `kind`."""
        return self._buffer(window, stored(kind), "writeonly ")

    def updates(self, window: Window, kind: str) -> str:
        """The name of a buffer that is read and written, also by atomic operations."""
        return self._buffer(window, stored(kind), "")

    def _buffer(self, window: Window, kind: str, access: str) -> str:
        for buffer in self._buffers:
            if (buffer.window, buffer.kind, buffer.access) == (window, kind, access):
                return buffer.name
        limit = self.low.target.max_storage_range
        if isinstance(window.size, int) and window.size > limit:
            raise ModelError(
                f"node {self.label!r}: a tensor of {window.size} bytes exceeds the device's {limit} per buffer"
            )
        if len(self._buffers) == MAX_BUFFERS:
            raise ModelError(f"node {self.label!r}: the kernel needs more than {MAX_BUFFERS} buffers")
        name = f"m{len(self._buffers)}"
        self._buffers.append(_Buffer(window, name, kind, access))
        return name

    def read_only_at(self, offsets: Collection[str]) -> list[Window]:
        """Windows of the buffers that all lines read at one of these offsets and nowhere else."""
        text = "\n".join(line for block in self._blocks for line in block.lines)
        return [
            b.window
            for b in self._buffers
            if b.access == "readonly " and set(re.findall(rf"\b{b.name}\b(?:\[(\w+)\])?", text)) <= set(offsets)
        ]

    # --- the grid ------------------------------------------------------------------------------------------------

    def group(self) -> str:
        """The number of the workgroup."""
        return self.let("int", "int(gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x)")

    def lane(self) -> str:
        """The number of the invocation in its workgroup."""
        return self.let("int", "int(gl_LocalInvocationIndex)")

    def each(self, count: Dim) -> tuple[str, tuple[Dim, Dim]]:
        """(number of the invocation among `count`, workgroups): one invocation per item, the others return."""
        item = self.let("int", f"{self.group()} * {self.lanes} + {self.lane()}")
        self.line(f"if ({item} >= {self.dim(count)}) return;")
        return item, spread(dims.ceil_div(self.low.dim(count), self.lanes))

    def each_group(self, count: Dim) -> tuple[str, tuple[Dim, Dim]]:
        """(number of the workgroup among `count`, workgroups): one workgroup per item, the others return."""
        item = self.group()
        self.line(f"if ({item} >= {self.dim(count)}) return;")
        return item, spread(self.low.dim(count))

    # --- the end -------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """The whole GLSL text."""
        assert len(self._blocks) == 1, "a block is open"
        lines = ["#version 450", f"layout(local_size_x = {self.lanes}) in;"]
        for i, buffer in enumerate(self._buffers):
            place = f"layout(std430, set = 0, binding = {i})"
            lines.append(f"{place} {buffer.access}buffer B{i} {{ {buffer.kind} {buffer.name}[]; }};")
        if self._push:
            lines.append(
                "layout(push_constant) uniform P { int " + ", ".join(f"d{i}" for i in range(len(self._push))) + "; } p;"
            )
        lines += [*with_dependencies(self._functions), *self._globals, "void main() {", *self._blocks[0].lines, "}"]
        return "\n".join(lines) + "\n"

    def emit(self, groups: Sequence[Dim], specialization: Mapping[int, int] | None = None) -> None:
        """Append the dispatch of this kernel to the program."""
        name = self.low.book.generated(self.text())
        bindings = [(buffer.window, "storage") for buffer in self._buffers]
        self.low.emit(name, bindings, groups, list(self._push), specialization or {}, self.label)


def spread(groups: Dim) -> tuple[Dim, Dim]:
    """A number of workgroups over two axes; it may be rounded up."""
    if isinstance(groups, int):
        x = min(groups, MAX_GROUPS)
        return x, -(-groups // MAX_GROUPS) if x else 1
    return dims.minimum(groups, MAX_GROUPS), dims.ceil_div(groups, MAX_GROUPS)
