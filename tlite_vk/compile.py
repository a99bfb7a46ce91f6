"""ONNX to Program, one entry per way through the model.

run      any graph: all inputs in, all outputs out, nothing kept between runs
decode   one token, RMS norms inside the projections; greedy or random choice as a last, optional step
prefill  T tokens, only the last valid row through the head; the choice likewise
score    T tokens, logits of every row (perplexity, teacher forcing)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import sympy

from . import kernels  # noqa: F401  (registers the kernels)
from .book import Book
from .choices import Task
from .errors import ModelError
from .graph import shape as dims
from .graph.ir import Graph, Node, Value
from .graph.memory import MemoryPlan
from .graph.onnx_load import load_model
from .graph.passes.base import Report
from .graph.passes.position_embedding import PositionEmbedding
from .graph.passes.ring_attention import LONG
from .graph.passes.rotary import Rotary
from .graph.pipeline import optimize
from .graph.roles import Roles, find_roles
from .kernels.norm import argmax
from .kernels.sampling import sample, sampling_buffers
from .lower import Lowering
from .program import Entry, Program, State
from .step import PICKED
from .target import Target

log = logging.getLogger(__name__)

_READS_POSITIONS = (Rotary.name, PositionEmbedding.name)

ENTRIES = {"decode": (1, False), "prefill": (None, False), "score": (None, True)}
"""name: (tokens, every row through the head)"""


@dataclass(frozen=True)
class Compiled:
    """What an entry was made from: the fused graph, what the passes did, where activations lie.

    tasks: what tuning may choose for, each with a node of it. short: dimensions that are not the length of a sequence,
    with the number to look at them with (a batch of 1, a past of 0).
    """

    entry: Entry
    graph: Graph
    report: Report
    plan: MemoryPlan
    short: Mapping[str, int] = field(default_factory=dict)
    tasks: Mapping[tuple[Task, str], Node] = field(default_factory=dict)

    def every_length(self, tokens: int) -> dict[str, int]:
        """The same for every symbol of the graph's inputs, whether a buffer's size depends on it or not."""
        names = {s.name for v in self.graph.inputs for d in v.dims for s in dims.symbols(d)}
        return {**dict.fromkeys(names, tokens), **self.lengths(tokens)}

    @property
    def long(self) -> list[str]:
        """Names of the dimensions that are lengths."""
        names = {s.name for d in self.plan.sizes.values() for s in dims.symbols(d)}
        return sorted(names - self.short.keys())

    def lengths(self, tokens: int) -> dict[str, int]:
        """A value for each symbol of the memory plan, where a sequence has so many tokens."""
        return {**self.short, **dict.fromkeys(self.long, tokens)}


def compile_model(
    path: str | Path,
    target: Target,
    entries: tuple[str, ...] = ("decode", "prefill", "score"),
    *,
    positions: int = LONG,
    observe: Callable[[Compiled], None] | None = None,
    dump: Callable[[str, str, Graph], None] | None = None,
) -> Program:
    """Compile a generating model. Raises GraphError or ModelError, in one line, for what cannot be read or run.

    positions: how many positions a rotation knows whose angles the graph computes (tables are made for them).
    observe sees each entry when it is made; dump(entry, pass, graph) sees the graph after each pass.
    """
    graph = load_model(Path(path))
    dumps = {name: partial(dump, name) if dump is not None else None for name in entries}
    fused = [_fused(graph, name, positions, dumps[name], fuse=target.fuse) for name in entries]
    program = _program(fused, target, observe)
    log.info("%s: %d kernels, %.1f MB of weights", path, len(program.kernels), program.weight_bytes / 1e6)
    return program


def compile_variants(
    path: str | Path, targets: Sequence[Target], entries: tuple[str, ...], *, positions: int = LONG
) -> list[Program]:
    """The same for several targets; the graph is loaded and fused once, so that they share their weights."""
    graph = load_model(Path(path))
    fused = [_fused(graph, name, positions) for name in entries]
    return [_program(fused, target) for target in targets]


def _program(fused: Sequence[_Fused], target: Target, observe: Callable[[Compiled], None] | None = None) -> Program:
    book = Book(half_states=target.half_cache)
    made: list[_Made] = []
    for entry in fused:
        made.append(_entry(entry, target, book))
        if observe is not None:
            observe(made[-1].compiled)
    low, roles, graph = made[-1].low, made[-1].roles, fused[-1].graph
    rings = [n for n in graph.nodes if n.op == "RingAttention"]
    windows = {int(n.attributes.get("window", 0)) for n in rings}
    vocabulary = low.columns(roles.logits)
    return book.program(
        [m.compiled.entry for m in made],
        [_state(low, cache) for pair in roles.caches for cache in (pair.k_in, pair.v_in)],
        {"ids": ["*", 4, "T"], "picked": 4 * PICKED, **sampling_buffers(vocabulary)},
        vocabulary,
        max(windows) if 0 not in windows else 0,
        min(_positions(graph), default=0),
    )


def compile_run(
    path: str | Path,
    target: Target,
    *,
    observe: Callable[[Compiled], None] | None = None,
    dump: Callable[[str, str, Graph], None] | None = None,
) -> Program:
    """Compile any graph as a Session does: one entry, "run". Raises GraphError or ModelError, in one line."""
    graph, report = optimize(
        load_model(Path(path)), generate=False, dump=None if dump is None else partial(dump, "run")
    )
    book = Book(half_states=False)
    low = lower_run(graph, target, book)
    entry = low.finish("run", {v.name: v for v in graph.outputs if not v.known}, None)
    assert low.plan is not None
    if observe is not None:
        observe(Compiled(entry, graph, report, low.plan, _short(graph)))
    return book.program([entry], [], {}, 0, 0, 0)


def lower_run(graph: Graph, target: Target, book: Book) -> Lowering:
    """The dispatches of a graph whose inputs and outputs are buffers of their own, "input:NAME" and "output:NAME"."""
    kinds = (("output", graph.outputs), ("input", graph.inputs))
    low = Lowering(graph, target, book, {}, {}, {v: f"{kind}:{v.name}" for kind, values in kinds for v in values})
    low.run()
    return low


def _short(graph: Graph) -> dict[str, int]:
    """Dimensions that a report keeps short: the first of each input, and those that may be 0; not if that is all."""
    symbols = {s for v in graph.inputs for d in v.dims for s in dims.symbols(d)}
    first = {s for v in graph.inputs for d in v.dims[:1] for s in dims.symbols(d)}
    short = {s: dims.lower_bound(s) for s in symbols if s in first or dims.lower_bound(s) == 0}
    return {s.name: least for s, least in short.items()} if short.keys() < symbols else {}


@dataclass(frozen=True)
class _Made:
    """One compiled entry with what it was made from."""

    compiled: Compiled
    low: Lowering
    roles: Roles


@dataclass(frozen=True)
class _Fused:
    """An entry before a target is chosen."""

    name: str
    graph: Graph
    report: Report


def _fused(
    graph: Graph,
    name: str,
    positions: int,
    dump: Callable[[str, Graph], None] | None = None,
    *,
    fuse: bool = True,
) -> _Fused:
    tokens, every_row = ENTRIES[name]
    fused, report = optimize(
        graph,
        generate=True,
        tokens=tokens,
        every_row=every_row,
        positions=positions,
        fuse=fuse,
        dump=dump,
    )
    for finding in report.rejections():
        log.debug("%s: %s", name, finding)
    return _Fused(name, fused, report)


def _entry(fused: _Fused, target: Target, book: Book) -> _Made:
    _, every_row = ENTRIES[fused.name]
    roles = find_roles(fused.graph)
    low = _lowering(fused.graph, roles, target, book, fused.report)
    if not every_row and low.rows(roles.logits) != 1:
        raise ModelError(f"generation cannot reduce the output {roles.logits.name!r} to the last row of a prompt")
    low.run()
    if not every_row:
        argmax(low, roles.logits)
        sample(low, roles.logits)
    entry = low.finish(fused.name, {"logits": roles.logits}, _head_label(fused.graph))
    assert low.plan is not None
    return _Made(Compiled(entry, fused.graph, fused.report, low.plan, tasks=low.tasks), low, roles)


def _state(low: Lowering, cache: Value) -> State:
    return State(cache.name, dims.to_program(low.bytes_of(cache, low.book.half_states)))


def _lowering(graph: Graph, roles: Roles, target: Target, book: Book, report: Report) -> Lowering:
    symbols: dict[sympy.Symbol, dims.Dim] = {}
    for found, meaning in ((roles.batch, 1), (roles.tokens, dims.symbol("T")), (roles.capacity, dims.symbol("C"))):
        if found is not None:
            symbols[found] = meaning
    states = {v: v.name for pair in roles.caches for v in (pair.k_in, pair.v_in)}
    others = [v.name for v in graph.inputs if v is not roles.token_ids and v not in states]
    if others:
        why = next((f"; {f.node}: {f.detail}" for f in report.rejections() if f.rule in _READS_POSITIONS), "")
        raise ModelError(f"generation does not know what to feed the input {', '.join(others)}{why}")
    return Lowering(graph, target, book, symbols, states, {roles.token_ids: "ids"}, multiple=target.bucket)


def _head_label(graph: Graph) -> str | None:
    return next((n.name for n in graph.nodes if n.op == "LastRow" and n.domain == "tlite"), None)


def _positions(graph: Graph) -> list[int]:
    """Rows of each table that positions pick from."""
    tables = [n.optional(5) for n in graph.nodes if n.op == "RingAttention"]
    tables += [n.input(1) for n in graph.nodes if n.op == "PositionEmbedding"]
    return [int(t.dims[0]) for t in tables if t is not None]
