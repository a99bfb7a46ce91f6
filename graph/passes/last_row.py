"""Generation needs the logits of the last valid row only -> LastRow as early as rows are independent of each other.

From the logits [B, T, N] backwards, nodes that work row by row and feed nothing else form a cone: the head and what
follows it, its norm and all of the last layer behind its attention. They move to the end of the graph, over LastRow of
what enters the cone, and the output becomes [B, 1, N].
"""

from __future__ import annotations

from typing import ClassVar

from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.shape import equal

from .base import Pass, Rewriter

_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Relu", "Sigmoid", "Tanh", "Gelu", "Swish", "Erf", "Cast"})


class LastRow(Pass):
    name: ClassVar[str] = "last-row"

    def rewrite(self, rewriter: Rewriter) -> None:
        for node in rewriter.nodes:
            if _cuts_last_row(node):  # the graph says itself that it needs no more
                last = rewriter.make("LastRow", [node.input(0)], node, outputs=node.outputs)
                rewriter.replace(node, last)
                rewriter.matched(node, "cut by the graph")
        for output in rewriter.graph.outputs:
            head = rewriter.producer.get(output)
            if head is not None and _ends_in_projection(rewriter, head):
                self._shorten(rewriter, head)

    def _shorten(self, rewriter: Rewriter, head: Node) -> None:
        if len(head.output.dims) != 3 or rewriter.users(head.output):
            rewriter.reject(head, "it is not [B, T, N], or something reads it")
            return
        if head.output.dims[1] == 1:
            rewriter.reject(head, "it has one row already")
            return
        cone = _cone(rewriter, head)
        made: dict[Value, Value] = {}  # what enters the cone, and its last row
        new: list[Node] = []
        for node in cone:
            inputs = list(node.inputs)
            for i in _row_inputs(node) or []:
                value = node.input(i)
                if rewriter.producer.get(value) in cone:
                    continue
                if value not in made:
                    new.append(rewriter.make("LastRow", [value], node, name=f"{value.name}.last"))
                    made[value] = new[-1].output
                inputs[i] = made[value]
            new.append(rewriter.remake(node, inputs))
        for node in cone:
            rewriter.replace(node)
        rewriter.append(new)
        rewriter.matched(head, f"{len(cone)} nodes work on one row, from {', '.join(v.name for v in made)}")


def _cuts_last_row(node: Node) -> bool:
    """Whether the node is x[:, -1:] of rows [B, T, K]."""
    if node.op != "Slice" or node.domain or len(node.output.dims) != 3 or node.output.dims[1] != 1:
        return False
    bounds = [node.optional(i) for i in (1, 2, 3)]
    if any(v is None or v.constant is None or v.constant.size != 1 for v in bounds):  # type: ignore[union-attr]
        return False
    start, end, axis = (int(v.array().reshape(-1)[0]) for v in bounds if v is not None)
    return axis in (1, -2) and start == -1 and end >= 1 << 31 and node.input(0).dims[1] != 1


def _ends_in_projection(rewriter: Rewriter, node: Node | None) -> bool:
    """Whether the node is a Linear, or elementwise behind one that feeds nothing else (a soft cap, a factor)."""
    while node is not None and not (node.op == "Linear" and node.domain == "tlite"):
        rows = _row_inputs(node) or []
        alone = not node.domain and len(rows) == 1 and rewriter.used_once(node.input(rows[0]))
        node = rewriter.producer.get(node.input(rows[0])) if alone else None
    return node is not None


def _cone(rewriter: Rewriter, head: Node) -> list[Node]:
    """The nodes, in order, that work row by row and feed only the head, and the head itself."""
    inside = {id(head)}
    for node in reversed(rewriter.nodes):
        readers = [r for v in node.outputs for r in rewriter.users(v)]
        feeds_only_the_cone = readers and all(id(r) in inside for r in readers)
        if feeds_only_the_cone and not set(node.outputs) & rewriter.outputs and _row_inputs(node):
            inside.add(id(node))
    return [n for n in rewriter.nodes if id(n) in inside]


def _row_inputs(node: Node) -> list[int] | None:
    """Which inputs carry the rows [B, T, ...] of a node that works row by row; None where it does not."""
    if node.domain == "tlite" and node.op in ("Linear", "RMSNorm"):
        return [i for i in (0, 3) if node.optional(i) is not None] if node.op == "Linear" else [0]
    if node.domain or node.op not in _ELEMENTWISE or len(node.output.dims) != 3:
        return None
    rows = [i for i, v in enumerate(node.inputs) if v is not None and len(v.dims) > 1]
    shaped = all(len(node.input(i).dims) == 3 and equal(node.input(i).dims[1], node.output.dims[1]) for i in rows)
    return rows if rows and shaped else None
