"""Operators as functions of an output position, and when to compute them where they are used.

An operator registered with `pulls` says what one element of its output is, given its position: it pulls the elements
of its inputs that it needs. Its result is *deferred*: not written anywhere yet. A generated kernel that reads it
computes it on the spot, so chains of elementwise operators and views become one kernel; any other kernel that reads
it makes it be written first. It is written too where computing it twice would cost more than a pass over memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from tlite_vk.graph import shape as dims
from tlite_vk.graph.ir import Node, Value
from tlite_vk.lower import Lowering, lowers

from .index import Index
from .source import MAX_BUFFERS, Source, kind_of, number

PullRule = Callable[[Source, Node, int, Index], str]
"""(kernel, node, number of the output, position) -> the element, as GLSL text."""

MAX_WORK = 24
"""Computing more than this again, in every reader or for every broadcast element, costs more than memory does."""

MAX_NODES = 40
MAX_LEAVES = MAX_BUFFERS - 1


@dataclass(frozen=True)
class Pull:
    """A pull rule with the arithmetic it does per element: 0 for a view, 1 for a sum, 4 for a function."""

    rule: PullRule
    work: int


_PULLS: dict[tuple[str, str], Pull] = {}


def pulls(*ops: str, work: int = 1, domain: str = "") -> Callable[[PullRule], PullRule]:
    """Register what an element of these operators is."""

    def register(rule: PullRule) -> PullRule:
        for op in ops:
            _PULLS[domain, op] = Pull(rule, work)
            lowers(op, domain)(lower_pulled)
        return rule

    return register


@dataclass(frozen=True)
class Later:
    """A value that nothing has written yet: output `number` of a node."""

    low: Lowering
    node: Node
    number: int

    @property
    def value(self) -> Value:
        return self.node.outputs[self.number]

    def materialize(self) -> None:
        settle(self.low, self.node.inputs)
        write_each(self.low, self.node, self.value, self.element)

    def element(self, source: Source, at: Index) -> str:
        """The element at a position, as the name of a computed value."""
        return source.let(kind_of(self.value.dtype), pull_of(self.node).rule(source, self.node, self.number, at))

    def parts(self) -> Parts:
        """What a kernel that pulls this value needs, as things stand now."""
        return Parts.of(self.low, self.node.inputs).plus(1, pull_of(self.node).work)


@dataclass(frozen=True)
class Parts:
    """Of some values: the buffers that pulling them takes, the nodes computed on the way, the work per element."""

    leaves: frozenset[Value]
    nodes: int = 0
    work: int = 0

    @staticmethod
    def of(low: Lowering, values: Iterable[Value | None]) -> Parts:
        leaves: frozenset[Value] = frozenset()
        nodes = work = 0
        for value in dict.fromkeys(values):
            waiting = None if value is None else later(low, value)
            if waiting is not None:
                inner = waiting.parts()
                leaves, nodes, work = leaves | inner.leaves, nodes + inner.nodes, work + inner.work
            elif value is not None and not is_literal(value):
                leaves |= {value}
        return Parts(leaves, nodes, work)

    def plus(self, nodes: int, work: int) -> Parts:
        return Parts(self.leaves, self.nodes + nodes, self.work + work)


def pull_of(node: Node) -> Pull:
    return _PULLS[node.domain, node.op]


def later(low: Lowering, value: Value) -> Later | None:
    """How to compute the value, where it is deferred."""
    found = low.deferred(value)
    return found if isinstance(found, Later) else None


# --- lowering --------------------------------------------------------------------------------------------------------


def lower_pulled(low: Lowering, node: Node) -> None:
    """Defer the node's outputs, and write those at once that have to be."""
    settle(low, node.inputs)
    for i, value in enumerate(node.outputs):
        if value.known or (value not in low.users and value not in low.graph.outputs):
            continue
        found = Later(low, node, i)
        low.defer(value, found)
        if not _may_wait(low, value, found.parts()):
            low.write_now(value)


def settle(low: Lowering, values: Iterable[Value | None], *, room: int = MAX_LEAVES, work: int | None = None) -> None:
    """Write deferred values until one kernel can pull all of `values`.

    room: buffers that the kernel has for them. work: the most arithmetic to be done per element, because the kernel
    pulls each more than once.
    """
    given = [v for v in dict.fromkeys(values) if v is not None]
    room = max(1, min(room, low.target.max_storage_buffers - 1))
    while True:
        waiting = {v: d.parts() for v in given if (d := later(low, v)) is not None}
        heavy = {v: parts for v, parts in waiting.items() if work is not None and parts.work > work}
        total = Parts.of(low, given)
        if not heavy and (not waiting or (len(total.leaves) <= room and total.nodes < MAX_NODES)):
            return
        sizes = heavy or waiting
        low.write_now(max(sizes, key=lambda v: (len(sizes[v].leaves), sizes[v].nodes)))


def _may_wait(low: Lowering, value: Value, found: Parts) -> bool:
    if value in low.graph.outputs or any(low.is_state(v) for v in found.leaves):
        return False
    if found.work == 0:
        return True
    if not low.target.fuse:
        return False
    readers = list(dict.fromkeys(low.users[value]))
    if len(readers) == 1:
        return found.work <= MAX_WORK or not _repeats(low, value, readers[0])
    return _meet(low, readers, value)


def _repeats(low: Lowering, value: Value, reader: Node) -> bool:
    """Whether the reader may need each element more than once."""
    if (reader.domain, reader.op) not in _PULLS:
        return False  # it says so itself, with `settle`
    return not all(dims.equal(low.count(out), low.count(value)) for out in reader.outputs)


def _meet(low: Lowering, readers: Iterable[Node], value: Value) -> bool:
    """Whether all readers end up in one kernel: their results flow, unread by others, into one elementwise node."""
    paths = [_path(low, reader, value) for reader in readers]
    return bool(paths) and any(all(node in path for path in paths) for node in paths[0])


def _path(low: Lowering, node: Node, value: Value) -> list[Node]:
    path: list[Node] = []
    while (node.domain, node.op) in _PULLS and len(node.outputs) == 1 and len(path) < 8:
        if node.output.shape is None or not dims.equal(low.count(node.output), low.count(value)):
            break
        path.append(node)
        readers = list(dict.fromkeys(low.users.get(node.output, [])))
        if len(readers) != 1 or node.output in low.graph.outputs:
            break
        node = readers[0]
    return path


# --- elements --------------------------------------------------------------------------------------------------------


def pull(source: Source, value: Value, at: Index) -> str:
    """The element of a value at a position: a literal, computed on the spot, or loaded."""
    key = ("pull", id(value), at.key)
    found = source.known(key)
    if found is None:
        found = source.remember(key, _pull(source, value, at))
    return found


def _pull(source: Source, value: Value, at: Index) -> str:
    kind = kind_of(value.dtype)
    if value.constant is None and value.content is not None:
        return _content(source, value, at)
    if is_literal(value):
        return number(np.asarray(value.array()).reshape(-1)[0].item(), kind)
    waiting = later(source.low, value)
    if waiting is not None:
        return waiting.element(source, at)
    return load(source, source.reads(source.low.read(value), kind), kind, at.flat())


def load(source: Source, buffer: str, kind: str, offset: str) -> str:
    """The element of a buffer at an offset."""
    return source.let(kind, f"{buffer}[{offset}]" + (" != 0" if kind == "bool" else ""))


def store(source: Source, buffer: str, kind: str, offset: str, element: str) -> None:
    source.line(f"{buffer}[{offset}] = " + (f"int({element});" if kind == "bool" else f"{element};"))


def is_literal(value: Value) -> bool:
    """Whether the value needs no buffer: one number, or shape arithmetic."""
    if value.constant is None:
        return value.content is not None
    return isinstance(value.constant, np.ndarray) and value.constant.size == 1 and value.dtype not in ("int4", "uint4")


def _content(source: Source, value: Value, at: Index) -> str:
    """An element of shape arithmetic that depends on the lengths of a run."""
    assert value.content is not None
    texts = [
        source.dim(d) if not isinstance(d, bool) else number(d, "bool") for d in value.content.reshape(-1).tolist()
    ]
    kind = kind_of(value.dtype)
    if len(texts) == 1:
        return texts[0] if kind != "uint" else f"uint({texts[0]})"
    name, flat = source.variable("int", texts[0]), at.flat()
    for i, text in enumerate(texts[1:], 1):
        source.line(f"if ({flat} == {i}) {name} = int({text});")
    return name if kind == "int" else f"{kind}({name})"


def write_each(low: Lowering, node: Node, value: Value, element: Callable[[Source, Index], str]) -> None:
    """A kernel that writes every element of `value`, one invocation each."""
    source = Source(low, node.name)
    count = low.count(value)
    item, groups = source.each(count)
    kind = kind_of(value.dtype)
    text = element(source, Index(source, value.dims, flat=item))
    store(source, source.writes(low.write(value), kind), kind, item, text)
    low.may_replace(value, *source.read_only_at([item]))  # an invocation's own element, read before it is written
    source.emit(groups)
