"""What every pass shares: the Pass class, the report of matches and rejections, and a rewriter over a graph.

A pass is pure: it gets a graph and returns another one; nodes and values that change are new objects. Graph inputs and
outputs keep their names. `run_pass` checks the graph before and after.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.infer import make_node
from tlite_vk.graph.ir import Graph, Node, Value, rewire
from tlite_vk.graph.ops.registry import MISFITS


@dataclass(frozen=True, slots=True)
class Finding:
    """One place a pass looked at: what it made of it, or why it left it alone."""

    rule: str
    node: str
    matched: bool
    detail: str


@dataclass
class Report:
    """What the passes matched and rejected, in order."""

    findings: list[Finding] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Per pass: (matched, rejected)."""
        yes = Counter(f.rule for f in self.findings if f.matched)
        no = Counter(f.rule for f in self.findings if not f.matched)
        return {rule: (yes[rule], no[rule]) for rule in dict.fromkeys(f.rule for f in self.findings)}

    def all_counts(self) -> dict[str, tuple[int, int]]:
        """Per pass that ran, in order: (matched, rejected)."""
        counts = self.counts()
        return {rule: counts.get(rule, (0, 0)) for rule in self.seconds}

    def rejections(self) -> list[Finding]:
        return [f for f in self.findings if not f.matched]

    def __str__(self) -> str:
        lines = [f"{rule}: {yes} matched, {no} rejected" for rule, (yes, no) in self.counts().items()]
        return "\n".join(lines + [f"  {f.rule}: {f.node}: {f.detail}" for f in self.rejections()])


class RejectedError(Exception):
    """Raised within a pass: this place does not match, and why; the pass turns it into a finding."""


def require(condition: bool, why: str) -> None:
    """Raise RejectedError unless the condition holds."""
    if not condition:
        raise RejectedError(why)


class Pass(ABC):
    """One rewrite. `name` appears in reports and dumps; `rewrite` edits through the Rewriter it is handed."""

    name: ClassVar[str]

    @abstractmethod
    def rewrite(self, rewriter: Rewriter) -> None: ...


def run_pass(rule: Pass, graph: Graph, report: Report) -> Graph:
    """The graph after the pass. Raises GraphError where the pass broke an invariant."""
    rewriter = Rewriter(graph, rule.name, report)
    try:
        rule.rewrite(rewriter)
    except MISFITS as error:  # what shapes alone do not show to be wrong
        raise GraphError(f"pass {rule.name}: a node's inputs or attributes do not fit it ({error})") from error
    result = rewriter.finish()
    try:
        result.verify()
    except GraphError as error:
        raise GraphError(f"pass {rule.name} made a bad graph: {error}") from error
    return result


class Rewriter:
    """A graph under change: who makes and who reads a value, replacement of nodes, aliases of values."""

    def __init__(self, graph: Graph, rule: str = "", report: Report | None = None):
        self.graph = graph
        self.rule = rule
        self.report = report if report is not None else Report()
        self.inputs = list(graph.inputs)
        self.nodes = list(graph.nodes)
        self.producer = graph.producers()
        self.readers: dict[Value, list[Node]] = graph.consumers()
        self.outputs = set(graph.outputs)
        self.changed: dict[int, list[Node]] = {}  # id of a node of the old graph -> what takes its place
        self.before: dict[int, list[Node]] = {}  # id of a node -> what comes in front of it
        self.appended: list[Node] = []
        self.renewed: dict[Value, Value] = {}  # graph outputs that are another value now
        self.added_outputs: list[Value] = []
        self.dropped_outputs: set[Value] = set()
        self.aliases: dict[Value, Value] = {}
        self.names: set[str] | None = None

    # --- questions ---------------------------------------------------------------------------------------------------

    def maker(self, value: Value | None, *ops: str, domain: str = "") -> Node | None:
        """The node that computes the value, where it is one of these operators."""
        node = None if value is None else self.producer.get(self.resolve(value))
        return node if node is not None and node.op in ops and node.domain == domain else None

    def resolve(self, value: Value) -> Value:
        while value in self.aliases:
            value = self.aliases[value]
        return value

    def users(self, value: Value) -> list[Node]:
        return self.readers.get(value, [])

    def used_once(self, value: Value) -> bool:
        """True where one node alone reads the value, once, and it is no graph output."""
        return len(self.users(value)) == 1 and value not in self.outputs

    def matched(self, node: Node, detail: str = "") -> None:
        self.report.findings.append(Finding(self.rule, node.name, True, detail))

    def reject(self, node: Node, why: str) -> None:
        self.report.findings.append(Finding(self.rule, node.name, False, why))

    # --- changes -----------------------------------------------------------------------------------------------------

    def fresh(self, base: str) -> str:
        """A name like `base` that no value has."""
        if self.names is None:
            self.names = {v.name for v in self.graph.values()}
        name, i = base, 1
        while name in self.names:
            name, i = f"{base}.{i}", i + 1
        self.names.add(name)
        return name

    def make(
        self,
        op: str,
        inputs: list[Value | None],
        like: Node,
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "tlite",
        outputs: list[Value] | None = None,
        name: str = "",
    ) -> Node:
        """A new node, named as `like` and, with `outputs`, computing values that exist; otherwise fresh values."""
        resolved = [None if v is None else self.resolve(v) for v in inputs]
        names = None if outputs is not None else [self.fresh(name or f"{like.output.name}.{op.lower()}")]
        return make_node(
            op, resolved, name or like.name, attributes, domain=domain, outputs=outputs, output_names=names
        )

    def remake(self, node: Node, inputs: list[Value | None]) -> Node:
        """The node over other inputs, with outputs of the same names and the shapes that follow, for all readers."""
        new = make_node(
            node.op,
            [None if v is None else self.resolve(v) for v in inputs],
            node.name,
            node.attributes,
            domain=node.domain,
            output_names=[v.name for v in node.outputs],
        )
        for old, value in zip(node.outputs, new.outputs, strict=True):
            self.alias(old, value)
        return new

    def replace(self, node: Node, *new: Node) -> None:
        """Put nodes in the place of one; later questions see them. Their outputs may be the old node's."""
        self.changed[id(node)] = list(new)
        for value in node.inputs:
            if value is not None and node in self.readers.get(value, []):
                self.readers[value] = [n for n in self.readers[value] if n is not node]
        for n in new:
            self._enter(n)

    def _enter(self, node: Node) -> None:
        for out in node.outputs:
            self.producer[out] = node
        for value in node.inputs:
            if value is not None:
                self.readers.setdefault(value, []).append(node)

    def insert_before(self, node: Node, new: Iterable[Node]) -> None:
        """Put nodes in front of one; later questions see them."""
        for n in new:
            self.before.setdefault(id(node), []).append(n)
            self._enter(n)

    def append(self, nodes: Iterable[Node]) -> None:
        """Put nodes at the end of the graph."""
        self.appended += nodes

    def alias(self, old: Value, new: Value) -> None:
        """Use `new` wherever `old` was used. A graph output keeps its name."""
        assert old not in self.outputs or old.name == new.name, f"graph output {old.name} would become {new.name}"
        self.aliases[old] = new

    def constant(self, name: str, array: Any, like: Value | None = None) -> Value:
        """A new constant; with `like`, of that value's logical dtype and shape."""
        dtype = like.dtype if like is not None else str(array.dtype)
        shape = like.shape if like is not None else tuple(int(d) for d in array.shape)
        return Value(self.fresh(name), dtype, shape, array)

    def finish(self) -> Graph:
        """The new graph, without nodes that nothing needs."""
        nodes = [m for n in self.nodes for m in self._final(n)] + self.appended
        kept = [v for v in self.graph.outputs if v not in self.dropped_outputs]
        outputs = [self.renewed.get(v, v) for v in kept] + self.added_outputs
        graph = rewire(replace(self.graph, nodes=nodes, inputs=self.inputs, outputs=outputs), self.aliases)
        return sweep(graph)

    def _final(self, node: Node) -> list[Node]:
        first = [m for n in self.before.get(id(node), []) for m in self._final(n)]
        if id(node) not in self.changed:
            return [*first, node]
        return first + [m for n in self.changed[id(node)] for m in ([n] if n is node else self._final(n))]


def sweep(graph: Graph) -> Graph:
    """The graph without nodes whose outputs nothing reads."""
    needed: set[Value] = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(v in needed for v in node.outputs):
            kept.append(node)
            needed.update(v for v in node.inputs if v is not None)
    if len(kept) == len(graph.nodes):
        return graph
    return replace(graph, nodes=kept[::-1])


def scalar(value: Value | None) -> float | None:
    """The number a one-element constant holds, else None."""
    if value is None or not isinstance(value.constant, np.ndarray) or value.constant.size != 1:
        return None
    return float(value.constant.reshape(-1)[0])
