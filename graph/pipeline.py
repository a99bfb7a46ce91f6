"""The ordered list of passes, and the one function that runs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from .errors import GraphError
from .infer import infer
from .ir import Graph
from .lengths import same_lengths
from .passes.activation import Activation
from .passes.attention_core import AttentionCore
from .passes.attention_mask import AttentionMask
from .passes.base import Pass, Report, run_pass
from .passes.common_subexpressions import CommonSubexpressions
from .passes.decomposed_gelu import DecomposedGelu
from .passes.decomposed_layer_norm import DecomposedLayerNorm
from .passes.decomposed_rms_norm import DecomposedRmsNorm
from .passes.embedding import Embedding
from .passes.flat_rows import FlatRows
from .passes.fold_constants import FoldConstants
from .passes.gated import Gated
from .passes.gated_halves import GatedHalves
from .passes.generation_inputs import GenerationInputs
from .passes.identities import Identities
from .passes.last_row import LastRow
from .passes.linear import Linear
from .passes.merge_qkv import MergeQkv
from .passes.movement import Movement
from .passes.norm_into_linear import NormIntoLinear
from .passes.past_concat import PastConcat
from .passes.position_embedding import PositionEmbedding
from .passes.quantized_weights import QuantizedWeights
from .passes.residual import Residual
from .passes.ring_attention import LONG, RingAttention
from .passes.rms_norm import RmsNorm
from .passes.rotary import Rotary
from .passes.unpadded import Unpadded
from .roles import find_roles
from .rows import depends_on_lengths, mixes_rows
from .single_precision import holds_narrow_matrices, in_single_precision

CLEAN: tuple[Pass, ...] = (Identities(), QuantizedWeights(), FoldConstants(), CommonSubexpressions())
FUSE: tuple[Pass, ...] = (
    Linear(),
    FlatRows(),
    Embedding(),
    DecomposedLayerNorm(),
    DecomposedRmsNorm(),
    RmsNorm(),
    DecomposedGelu(),
    Movement(),
    Gated(),
    GatedHalves(),
    Activation(),
    Residual(),
)
ATTEND: tuple[Pass, ...] = (
    AttentionCore(),
    PastConcat(),
    AttentionMask(),
    Rotary(),
    Movement(),
    CommonSubexpressions(),
)
FINISH: tuple[Pass, ...] = (NormIntoLinear(), CommonSubexpressions())
MERGING = frozenset({p.name for p in (Gated, GatedHalves, Activation, Residual, MergeQkv, NormIntoLinear)})
"""Passes that only save kernels: a graph without them is lowered all the same."""


def generation_passes(positions: int, every_row: bool) -> tuple[Pass, ...]:
    last = () if every_row else (LastRow(),)
    return Unpadded(), RingAttention(positions), Movement(), Residual(), MergeQkv(), *last, GenerationInputs()


def optimize(
    graph: Graph,
    *,
    generate: bool,
    tokens: int | None = None,
    every_row: bool = False,
    positions: int = LONG,
    fuse: bool = True,
    dump: Callable[[str, Graph], None] | None = None,
) -> tuple[Graph, Report]:
    """The fused graph and what the passes did.

    generate: the caches become rings updated in place and only the last valid row goes through the head.
    every_row: with generate, all rows go through the head all the same (for scoring a text).
    tokens: the number of tokens of a step (1: decode), or None for any number.
    positions: how many positions a rotation knows whose angles the graph computes; tables are made for them.
    fuse: with the passes of MERGING. `dump` sees the graph after each pass.
    Raises GraphError where the graph cannot be shaped, or has no caches to generate with.
    """
    report = Report()

    def run(rules: Sequence[Pass], graph: Graph) -> Graph:
        for rule in (r for r in rules if fuse or r.name not in MERGING):
            started = time.perf_counter()
            graph = run_pass(rule, graph, report)
            report.seconds[rule.name] = report.seconds.get(rule.name, 0.0) + time.perf_counter() - started
            if dump is not None:
                dump(rule.name, graph)
        return graph

    graph = infer(graph)
    if generate or holds_narrow_matrices(graph):
        graph = in_single_precision(graph)
    bindings = same_lengths(graph)
    if bindings:
        graph = infer(graph, bindings)
    graph = replace(graph, opset={})  # what the file may use is checked; passes make operators of any version
    graph = run((*CLEAN, *FUSE, *ATTEND), graph)
    if not generate:
        return run(FINISH, graph), report
    graph = run((PositionEmbedding(),), graph)
    symbol = find_roles(graph).tokens
    if tokens is not None and symbol is not None:  # only now: one token shows neither a causal mask nor positions
        graph = infer(graph, {symbol: tokens})
    graph = run((*generation_passes(positions, every_row), *FINISH), graph)
    _check_rings(graph, report)
    _check_rows(graph)
    return graph, report


def _check_rows(graph: Graph) -> None:
    """Raise GraphError where rows meet elsewhere than in attention: a prompt cannot be cut into steps then."""
    roles = find_roles(graph)
    why = mixes_rows(graph, roles.tokens) if roles.tokens is not None else ""
    why = why or depends_on_lengths(graph, {roles.batch, roles.tokens, roles.capacity})
    if why:
        raise GraphError(f"this model cannot generate with a cache ({why})")


def _check_rings(graph: Graph, report: Report) -> None:
    """Raise GraphError unless every attention became a ring: a step sees earlier tokens through rings only."""
    left = [n.name for n in graph.nodes if n.op == "Attention"]
    if left or not any(n.op == "RingAttention" for n in graph.nodes):
        rules = (AttentionMask.name, Unpadded.name, RingAttention.name)
        reasons = {f.node: f.detail for f in reversed(report.rejections()) if f.rule in rules}  # the first one counts
        why = f"{left[0]}: {reasons.get(left[0], 'unknown')}" if left else "it has no attention over a cache"
        raise GraphError(f"this model cannot generate with a cache ({why})")
