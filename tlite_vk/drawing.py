"""A compiled entry as a picture: nodes with the kernels that run them, shapes on the edges, weights and caches marked.

Layers that are alike are drawn once. Graphviz does the layout (https://graphviz.org).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Any

import graphviz

from .compile import Compiled
from .errors import InputError
from .graph.ir import Node, Value
from .graph.repeats import Repetition, longest_repetition
from .graph.shape import format_shape
from .program import Program

ALIKE = 3  # so many layers in a row, and more, are drawn once
COLOURS = {"input": "#e8f0fe", "kernel": "#1a4f8b", "weight": "#8a5a00", "cache": "#1e6b3a", "cluster": "#b0b0b0"}
MAX_TEXT = 44  # characters of a name; longer ones lose their middle


def draw(compiled: Compiled, program: Program, *, all_layers: bool = False) -> bytes:
    """The entry as SVG. Raises InputError where Graphviz's `dot` is not installed."""
    dot = _Drawing(compiled, program, all_layers).dot()
    try:
        return bytes(dot.pipe(format="svg"))
    except graphviz.ExecutableNotFound as error:
        raise InputError("drawing needs the command dot of Graphviz: apt-get install graphviz") from error


@dataclass(frozen=True)
class _Layers:
    """Which layer a node belongs to, and which layers are drawn."""

    repetition: Repetition | None
    all: bool

    def of(self, i: int) -> int | None:
        """The layer of node i, from 0; None before and after the layers."""
        r = self.repetition
        if r is None or not r.start <= i < r.start + r.count * r.period:
            return None
        return (i - r.start) // r.period

    def shown(self, i: int) -> bool:
        return self.all or self.of(i) in (None, 0)


@dataclass
class _Drawing:
    compiled: Compiled
    program: Program
    all_layers: bool
    edges: set[tuple[str, str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.nodes = self.compiled.graph.nodes
        self.kernels = self._kernels()
        self.layers = _Layers(longest_repetition([self._sign(n) for n in self.nodes], ALIKE), self.all_layers)
        self.made_by = {out: i for i, n in enumerate(self.nodes) for out in n.outputs}
        self.caches = self._caches()

    def dot(self) -> Any:
        entry = self.compiled.entry
        dot = graphviz.Digraph(self.compiled.graph.name or "model")
        title = f"{entry.name}: {len(self.nodes)} nodes, {len(entry.dispatches)} dispatches"
        dot.attr("graph", label=title, labelloc="t", fontname="Helvetica", fontsize="18", nodesep="0.25", ranksep="0.4")
        dot.attr(
            "node",
            fontname="Helvetica",
            fontsize="11",
            shape="box",
            style="rounded,filled",
            fillcolor="white",
            margin="0.3,0.08",
        )
        dot.attr("edge", fontname="Helvetica", fontsize="9", color="#606060", fontcolor="#404040", arrowsize="0.6")
        for value in self.compiled.graph.inputs:
            if value not in self.caches:
                self._value(dot, value)
        self._draw_nodes(dot)
        for i, node in enumerate(self.nodes):
            self._edges(dot, i, node)
        for value in self.compiled.graph.outputs:
            if value in self.made_by and value not in self.caches:
                self._value(dot, value)
                self._edge(dot, self._id(self.made_by[value]), f"value {value.name}", value)
        return dot

    def _draw_nodes(self, dot: Any) -> None:
        clusters: dict[int, list[int]] = {}
        for i, node in enumerate(self.nodes):
            layer = self.layers.of(i)
            if layer is None:
                dot.node(self._id(i), self._label(node))
            elif self.layers.shown(i):
                clusters.setdefault(layer, []).append(i)
        repetition = self.layers.repetition
        for layer, members in clusters.items():
            assert repetition is not None
            with dot.subgraph(name=f"cluster_{layer}") as cluster:
                text = f"layer {layer + 1} of {repetition.count}"
                cluster.attr(label=text, color=COLOURS["cluster"], style="rounded", fontsize="13", labeljust="l")
                for i in members:
                    cluster.node(self._id(i), self._label(self.nodes[i]))
        if repetition is not None and not self.all_layers:
            dot.node("folded", self._folded(repetition), shape="box3d", fillcolor="#f4f4f4")

    # --- what is said of a node ------------------------------------------------------------------------------------

    def _kernels(self) -> dict[str, list[str]]:
        """Node name: its dispatches' kernels."""
        found: dict[str, list[str]] = {}
        for dispatch in self.compiled.entry.dispatches:
            shader = self.program.kernels[dispatch.kernel].shader
            name = "generated" if shader in self.program.modules else shader
            found.setdefault(dispatch.label.partition("/")[0], []).append(name)
        return found

    def _sign(self, node: Node) -> tuple[Any, ...]:
        """Equal for nodes that do the same in different layers."""
        inputs = tuple((format_shape(v.shape), v.dtype, v.known) if v is not None else None for v in node.inputs)
        outputs = tuple((format_shape(v.shape), v.dtype) for v in node.outputs)
        return node.domain, node.op, inputs, outputs, tuple(self.kernels.get(node.name, ()))

    def _label(self, node: Node) -> str:
        """An HTML-like label: operator, name, kernels, weights, caches."""
        kernels = self.kernels.get(node.name, [])
        rows = [f"<B>{escape(node.op)}</B>", f'<FONT POINT-SIZE="9" COLOR="#707070">{_short(node.name)}</FONT>']
        rows += [_coloured("kernel", text) for text in _counted(kernels)]
        if not kernels:
            rows.append('<FONT POINT-SIZE="9" COLOR="#707070"><I>within the kernels that read it</I></FONT>')
        for value in node.inputs:
            if value is not None and value in self.caches:
                rows.append(_coloured("cache", f"cache {_short(value.name)} {format_shape(value.shape)}"))
            elif value is not None and value.constant is not None and value.shape:
                text = f"weight {_short(value.name)} {value.dtype}{format_shape(value.shape)}"
                rows.append(_coloured("weight", text))
        return f"<{'<BR/>'.join(rows)}>"

    def _folded(self, repetition: Repetition) -> str:
        rest = repetition.count - 1
        first = range(repetition.start, repetition.start + repetition.period)
        kernels = sum(len(self.kernels.get(self.nodes[i].name, ())) for i in first)
        text = f"{repetition.period} nodes, {kernels} dispatches each"
        return f'<<B>{rest} more layers like this</B><BR/><FONT POINT-SIZE="9">{text}</FONT>>'

    def _caches(self) -> set[Value]:
        """Graph inputs that a node changes in place, and the outputs that stand for them afterwards."""
        state = {w.buffer for d in self.compiled.entry.dispatches for w in d.windows if w.buffer.startswith("state:")}
        inputs = {v for v in self.compiled.graph.inputs if f"state:{v.name}" in state}
        readers = [n for n in self.nodes if any(v in inputs for v in n.inputs if v is not None)]
        updated = {v for n in readers for v in n.outputs[1:] if v in self.compiled.graph.outputs}
        return {*inputs, *updated}

    # --- edges -----------------------------------------------------------------------------------------------------

    def _id(self, i: int) -> str:
        return f"n{i}" if self.layers.shown(i) else "folded"

    def _value(self, dot: Any, value: Value) -> None:
        text = f"<<B>{_short(value.name)}</B><BR/>{escape(value.dtype)}{escape(format_shape(value.shape))}>"
        dot.node(f"value {value.name}", text, shape="ellipse", fillcolor=COLOURS["input"])

    def _edges(self, dot: Any, i: int, node: Node) -> None:
        for value in node.inputs:
            if value is None or value.known or value in self.caches:
                continue
            source = self._id(self.made_by[value]) if value in self.made_by else f"value {value.name}"
            self._edge(dot, source, self._id(i), value)

    def _edge(self, dot: Any, source: str, target: str, value: Value) -> None:
        text = format_shape(value.shape) + ("" if value.dtype == "float32" else f" {value.dtype}")
        if source != target and (source, target, text) not in self.edges:
            self.edges.add((source, target, text))
            dot.edge(source, target, label=f" {text}")


def _short(name: str) -> str:
    half = MAX_TEXT // 2
    return escape(name if len(name) <= MAX_TEXT else f"{name[: half - 1]}…{name[-half:]}")


def _coloured(kind: str, text: str) -> str:
    return f'<FONT POINT-SIZE="10" COLOR="{COLOURS[kind]}">{text}</FONT>'


def _counted(kernels: list[str]) -> list[str]:
    """Each kernel once, with how often it runs."""
    return [escape(k) + (f" x {kernels.count(k)}" if kernels.count(k) > 1 else "") for k in dict.fromkeys(kernels)]
