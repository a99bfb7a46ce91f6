"""The ordered list of passes, and the one function that runs them."""

from __future__ import annotations

import time
from collections.abc import Callable

from .errors import GraphError
from .infer import infer
from .ir import Graph
from .lengths import same_lengths
from .passes.activation import Activation
from .passes.attention_core import AttentionCore
from .passes.attention_mask import AttentionMask
from .passes.base import Pass, Report, run_pass
from .passes.common_subexpressions import CommonSubexpressions
from .passes.decomposed_rms_norm import DecomposedRmsNorm
from .passes.embedding import Embedding
from .passes.fold_constants import FoldConstants
from .passes.gated import Gated
from .passes.generation_inputs import GenerationInputs
from .passes.identities import Identities
from .passes.last_row import LastRow
from .passes.linear import Linear
from .passes.merge_qkv import MergeQkv
from .passes.movement import Movement
from .passes.norm_into_linear import NormIntoLinear
from .passes.past_concat import PastConcat
from .passes.quantized_weights import QuantizedWeights
from .passes.residual import Residual
from .passes.ring_attention import RingAttention
from .passes.rms_norm import RmsNorm
from .passes.rotary import Rotary
from .roles import find_roles

CLEAN: tuple[Pass, ...] = (Identities(), QuantizedWeights(), FoldConstants(), CommonSubexpressions())
FUSE: tuple[Pass, ...] = (Linear(), Embedding(), DecomposedRmsNorm(), RmsNorm(), Gated(), Activation(), Residual())
ATTEND: tuple[Pass, ...] = (
    AttentionCore(),
    PastConcat(),
    AttentionMask(),
    Rotary(),
    Movement(),
    CommonSubexpressions(),
)
GENERATE: tuple[Pass, ...] = (RingAttention(), MergeQkv(), LastRow(), GenerationInputs())
FINISH: tuple[Pass, ...] = (NormIntoLinear(), CommonSubexpressions())


def optimize(
    graph: Graph,
    *,
    generate: bool,
    tokens: int | None = None,
    every_row: bool = False,
    dump: Callable[[str, Graph], None] | None = None,
) -> tuple[Graph, Report]:
    """The fused graph and what the passes did.

    generate: the caches become rings updated in place and only the last valid row goes through the head.
    every_row: with generate, all rows go through the head all the same (for scoring a text).
    tokens: the number of tokens of a step (1: decode), or None for any number. `dump` sees the graph after each pass.
    Raises GraphError where the graph cannot be shaped, or has no caches to generate with.
    """
    report = Report()
    graph = infer(graph)
    bindings = same_lengths(graph)
    if bindings:
        graph = infer(graph, bindings)
    if tokens is not None:
        symbol = find_roles(graph).tokens
        graph = infer(graph, {symbol: tokens}) if symbol is not None else graph
    for rule in (*CLEAN, *FUSE, *ATTEND, *(GENERATE if generate else ()), *FINISH):
        if every_row and isinstance(rule, LastRow):
            continue
        started = time.perf_counter()
        graph = run_pass(rule, graph, report)
        report.seconds[rule.name] = report.seconds.get(rule.name, 0.0) + time.perf_counter() - started
        if dump is not None:
            dump(rule.name, graph)
    if generate:
        _check_rings(graph, report)
    return graph, report


def _check_rings(graph: Graph, report: Report) -> None:
    """Raise GraphError unless every attention became a ring: a step sees earlier tokens through rings only."""
    left = [n.name for n in graph.nodes if n.op == "Attention"]
    if left or not any(n.op == "RingAttention" for n in graph.nodes):
        reasons = {f.node: f.detail for f in report.rejections() if f.rule == RingAttention.name}
        why = f"{left[0]}: {reasons.get(left[0], 'unknown')}" if left else "it has no attention over a cache"
        raise GraphError(f"this model cannot generate with a cache ({why})")
