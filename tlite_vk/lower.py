"""Graph to Program: each node's kernel emits dispatches; then lifetimes, the memory plan and the barriers follow.

Kernels are registered per operator in tlite_vk/kernels; nothing here knows any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import sympy

from .book import Book
from .choices import Task
from .errors import DeviceError, ModelError
from .expression import Expression, evaluate
from .graph import shape as dims
from .graph.errors import GraphError
from .graph.ir import Graph, Node, Value
from .graph.memory import Lifetime, MemoryPlan, plan_memory
from .graph.ops.registry import MISFITS
from .graph.shape import Dim
from .program import Dispatch, Entry, Kernel, Window
from .target import Target

KernelRule = Callable[["Lowering", Node], None]
_RULES: dict[tuple[str, str], KernelRule] = {}

ITEM_BYTES = dict.fromkeys(
    (
        "float32",
        "float16",
        "bfloat16",
        "float64",
        "int64",
        "int32",
        "int16",
        "int8",
        "int4",
        "uint64",
        "uint32",
        "uint16",
        "uint8",
        "uint4",
        "bool",
    ),
    4,
)
"""Bytes of an element on the device: every plain value is a float32 or a 32-bit word there."""

WASTE = 1.05
"""How much larger than its lower bound an arena may be before it is planned anew for the lengths of a recording."""

TICKETS = 1024
_NO_TICKETS = np.zeros(TICKETS, np.uint32)

PICK, SAMPLE = "pick", "sample"
"""The label of the dispatch that chooses a token greedily, and how those begin that draw one instead."""


def lowers(op: str, domain: str = "") -> Callable[[KernelRule], KernelRule]:
    """Register the kernel of an operator."""

    def register(rule: KernelRule) -> KernelRule:
        _RULES[domain, op] = rule
        return rule

    return register


def supported() -> set[tuple[str, str]]:
    """(domain, operator) of everything with a kernel."""
    return set(_RULES)


class Deferred(Protocol):
    """A value that is computed where it is used, or written when something reads its bytes."""

    def materialize(self) -> None: ...


@dataclass(frozen=True)
class Placed:
    """Where a value lives: a buffer, and the element storage, which may be narrower than its graph type."""

    buffer: str
    size: Dim
    half: bool = False
    offset: Dim = 0


class Lowering:
    """Collects the dispatches of one entry. Kernels call `read`, `write`, `weight`, `scratch` and `emit`."""

    def __init__(
        self,
        graph: Graph,
        target: Target,
        book: Book,
        symbols: Mapping[sympy.Symbol, Dim],
        states: Mapping[Value, str],
        names: Mapping[Value, str],
        *,
        multiple: int = 1,
    ) -> None:
        """multiple: the number of tokens T is a multiple of this in every step of more than one token."""
        self.graph, self.target, self.book, self.multiple = graph, target, book, multiple
        self.users = graph.consumers()
        self._symbols = dict(symbols)
        self._dims: dict[Dim, Dim] = {}
        self._placed: dict[Value, Placed] = {}
        self._sizes: dict[str, Dim] = {}
        self._deferred: dict[Value, Deferred] = {}
        self._in_place: dict[str, set[str]] = {}  # buffer: those whose place it may take over
        self.dispatches: list[Dispatch] = []
        self.tasks: dict[tuple[Task, str], Node] = {}
        """What tuning may choose for: a task with its kernel, and the first node that asked for it."""
        self.plan: MemoryPlan | None = None
        """Made by `finish`."""
        for value, name in names.items():
            self._placed[value] = Placed(name, self.bytes_of(value))
        for value, name in states.items():
            self._placed[value] = Placed(f"state:{name}", self.bytes_of(value, book.half_states))

    def dim(self, dim: Dim) -> Dim:
        """A dimension of the graph over the Program's symbols."""
        if isinstance(dim, int):
            return dim
        if dim not in self._dims:
            self._dims[dim] = dims.substitute(dim, self._symbols)
        return self._dims[dim]

    def count(self, value: Value) -> Dim:
        if value.shape is None:
            raise ModelError(f"the shape of {value.name!r} is not known")
        return self.dim(dims.product(value.shape))

    def bytes_of(self, value: Value, half: bool = False) -> Dim:
        if value.dtype not in ITEM_BYTES:
            raise ModelError(f"tensor {value.name!r}: values of type {value.dtype} have no place on the device")
        # Halves and 16-byte loads may run past an odd end: round up to 16 bytes. No window may be empty.
        count = self.count(value)
        filled = (
            count
            if dims.at_least(count, 1)
            else dims.maximum(count, 1)
            if isinstance(count, int)
            else dims.add(count, 4)
        )
        return dims.multiply(dims.ceil_div(dims.multiply(filled, 2 if half else ITEM_BYTES[value.dtype]), 16), 16)

    def rows(self, value: Value) -> Dim:
        """The product of all dimensions but the last."""
        assert value.shape is not None
        return self.dim(dims.product(value.shape[:-1]))

    def columns(self, value: Value) -> int:
        assert value.shape is not None
        last = self.dim(value.shape[-1])
        if not isinstance(last, int):
            raise ModelError(f"the last dimension of {value.name!r} is not a constant: {last}")
        return last

    def is_half(self, value: Value) -> bool:
        return value in self._placed and self._placed[value].half

    def wants_half(self, value: Value) -> bool:
        """Whether every reader takes halves: the input of a matrix product may be stored so, nothing else is.

        Cooperative matrices round it to halves in any case.
        """
        readers = self.users.get(value, [])
        return (
            (self.target.half_activations or (self.target.matrix and self.rows(value) != 1))
            and bool(readers)
            and value not in self.graph.outputs
            and all(
                n.op == "Linear"
                and n.domain == "tlite"
                and n.inputs[0] is value
                and value not in n.inputs[1:]
                and n.optional(4) is None
                for n in readers
            )
        )

    def place(self, value: Value, half: bool = False) -> None:
        if value not in self._placed:
            buffer = f"arena:{value.name}"
            self._placed[value] = Placed(buffer, self.bytes_of(value, half), half)
            self._sizes[buffer] = self._placed[value].size

    def alias(self, value: Value, other: Value) -> None:
        """`value` is the same bytes as `other`."""
        self._placed[value] = self._placed[other]

    def may_replace(self, value: Value, *others: Window) -> None:
        """`value` may lie where others lie that its kernel is the last to read.

        The kernel must be a single dispatch in which no invocation reads an element of the others after any
        invocation may have written that element of `value`.
        """
        placed = self._placed[value]
        same = {w.buffer for w in others if w.buffer in self._sizes and (w.offset, placed.offset) == (0, 0)}
        self._in_place.setdefault(placed.buffer, set()).update(same - {placed.buffer})

    def is_placed(self, value: Value) -> bool:
        return value in self._placed

    def is_state(self, value: Value) -> bool:
        """Whether the value lies in a buffer that is kept between steps and changed in place."""
        return value in self._placed and self._placed[value].buffer.startswith("state:")

    def defer(self, value: Value, deferred: Deferred) -> None:
        """Compute `value` only when something reads its bytes."""
        self._deferred[value] = deferred

    def write_now(self, value: Value) -> None:
        """Write a deferred value."""
        self._deferred.pop(value).materialize()

    def deferred(self, value: Value) -> Deferred | None:
        """How to compute a value that nothing has written yet."""
        return self._deferred.get(value)

    def read(self, value: Value) -> Window:
        if value.constant is not None:
            if value.dtype not in ITEM_BYTES:
                raise ModelError(f"tensor {value.name!r}: values of type {value.dtype} have no place on the device")
            if isinstance(value.constant, np.ndarray) and value.dtype not in ("int4", "uint4"):
                return self.weight("array", value.constant, value.name)
            return self.weight("value", value, value.name, max(1, int(self.count(value))) * 4)
        if value in self._deferred:
            self.write_now(value)
        if value not in self._placed:
            raise ModelError(f"{value.name!r} is read before anything writes it")
        return self._window(self._placed[value], "read")

    def write(self, value: Value, half: bool = False) -> Window:
        self.place(value, half)
        return self._window(self._placed[value], "write")

    def update(self, value: Value) -> Window:
        return self._window(self._placed[value], "update")

    def scratch(self, label: str, size: Dim) -> tuple[Window, Window]:
        """(write window, read window) of bytes that live between the dispatches that use them."""
        buffer = f"arena:{label}#{len(self.dispatches)}"
        placed = Placed(buffer, size)
        self._sizes[buffer] = size
        return self._window(placed, "write"), self._window(placed, "read")

    def weight(self, kind: str, source: Any, name: str, size: int | None = None) -> Window:
        plan = self.book.weight(kind, source, name, size)
        return Window(f"weight:{plan.name}", 0, plan.size, "read")

    def tickets(self) -> Window:
        """TICKETS words for workgroups to count each other with; 0 before a dispatch, and to be left so after it."""
        return replace(self.weight("array", _NO_TICKETS, "tickets"), access="update")

    def named(self, name: str, size: Expression, access: Any) -> Window:
        """A window of a buffer that the session itself provides: step, ids, picked."""
        return Window(name, 0, size, access)

    def emit(
        self,
        shader: str,
        bindings: Sequence[tuple[Window, str]],
        groups: Sequence[Dim],
        push: Sequence[Dim | float],
        specialization: Mapping[int, int],
        label: str,
        subgroup_size: int = 0,
    ) -> None:
        """Append one dispatch. A binding is a window with its kind: "storage" or "texel_...".

        Raises DeviceError where the device takes fewer storage buffers in a shader.
        """
        storage = sum(kind == "storage" for _, kind in bindings)
        if storage > self.target.max_storage_buffers:
            raise DeviceError(
                f"{self.target.name} takes {self.target.max_storage_buffers} storage buffers in a shader, "
                f"and {label!r} needs {storage}; choose another device"
            )
        kernel = Kernel(
            shader,
            tuple(kind for _, kind in bindings),
            tuple(sorted(specialization.items())),
            4 * len(push),
            subgroup_size,
        )
        x, y, z = (dims.to_program(self.dim(g)) for g in (*groups, 1, 1)[:3])
        words = tuple(p if isinstance(p, float) else dims.to_program(self.dim(p)) for p in push)
        windows = tuple(window for window, _ in bindings)
        self.dispatches.append(Dispatch(self.book.kernel(kernel), windows, (x, y, z), words, label))

    def _window(self, placed: Placed, access: Any) -> Window:
        return Window(placed.buffer, dims.to_program(placed.offset), dims.to_program(placed.size), access)

    def run(self) -> None:
        for node in self.graph.nodes:
            self._lower(node)

    def expand(self, nodes: Sequence[Node]) -> None:
        """Lower simpler nodes in the place of one."""
        for node in nodes:
            for value in node.inputs:
                if value is not None:
                    self.users.setdefault(value, []).append(node)
        for node in nodes:
            self._lower(node)

    def _lower(self, node: Node) -> None:
        rule = _RULES.get((node.domain, node.op))
        if rule is None:
            raise ModelError(f"{node}: this operator has no kernel")
        try:
            rule(self, node)
        except GraphError as error:
            raise (error if node.name in str(error) else ModelError(f"{node}: {error}")) from error
        except MISFITS as error:  # what its shape rule did not show to be wrong
            raise ModelError(f"{node}: its inputs or attributes do not fit its kernel ({error})") from error

    def finish(
        self, name: str, outputs: Mapping[str, Value], head_label: str | None, lengths: Mapping[str, int] | None = None
    ) -> Entry:
        """The entry with its arena planned for all lengths; or for given ones, where the plan for all is larger there
        than WASTE allows."""
        plan = self.plan = self.plan or plan_memory(self.lifetimes(outputs.values()), alignment=self.target.alignment)
        if lengths is not None and plan.bytes(lengths) > WASTE * plan.lower_bound(lengths):
            here = [replace(v, size=evaluate(dims.to_program(v.size), lengths)) for v in plan.lifetimes]
            plan = plan_memory(here, alignment=self.target.alignment)
        placed = tuple(replace(d, windows=tuple(self._settle(w, plan) for w in d.windows)) for d in self.dispatches)
        sampling = tuple(d for d in placed if d.label.startswith(f"{SAMPLE}."))
        placed = placed[: len(placed) - len(sampling)]
        labels = [d.label for d in placed]
        head = labels.index(head_label) if head_label in labels else len(placed)
        pick = labels.index(PICK) if PICK in labels else len(placed)
        windows = {key: self._settle(self._window(self._placed[v], "read"), plan) for key, v in outputs.items()}
        return Entry(name, placed, dims.to_program(plan.total), windows, head, pick, sampling)

    def lifetimes(self, outputs: Iterable[Value]) -> list[Lifetime]:
        """From which dispatch to which each activation lives; outputs live to the end, without reuse all do."""
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for i, dispatch in enumerate(self.dispatches):
            for window in dispatch.windows:
                if window.buffer in self._sizes:
                    first.setdefault(window.buffer, i)
                    last[window.buffer] = i
        for value in outputs:
            buffer = self._placed[value].buffer
            if buffer in first:
                last[buffer] = len(self.dispatches)
        if not self.target.reuse:
            return [Lifetime(b, self._sizes[b], 0, len(self.dispatches)) for b in first]
        in_place = {b: tuple(sorted(self._in_place.get(b, ()), key=list(first).index)) for b in first}
        return [Lifetime(b, self._sizes[b], first[b], last[b], in_place[b]) for b in first]

    def _settle(self, window: Window, plan: MemoryPlan) -> Window:
        if not window.buffer.startswith("arena:"):
            return window
        return replace(window, buffer="arena", offset=dims.to_program(plan.offsets[window.buffer]))
