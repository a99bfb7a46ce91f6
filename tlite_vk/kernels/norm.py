"""RMS normalization, the choice of the last row, and the greedy choice of a token."""

from __future__ import annotations

from dataclasses import replace

from tlite_vk.graph import shape as dims
from tlite_vk.graph.ir import Node, Value
from tlite_vk.lower import PICK, Lowering, lowers
from tlite_vk.step import PICKED, STEP_BYTES

from . import expansion


@lowers("RMSNorm", "tlite")
def rms_norm(low: Lowering, node: Node) -> None:
    x, scale = node.input(0), node.input(1)
    columns = low.columns(x)
    if columns % 2:
        expansion.rms_norm(low, node)
        return
    half = low.wants_half(node.output)
    lanes = low.target.lanes if low.target.cpu else min(256, low.target.max_invocations)
    windows = [low.read(x), low.read(scale), low.write(node.output, half)]
    low.emit(
        "rms_norm",
        [(w, "storage") for w in windows],
        (low.rows(x),),
        [columns, float(node.attributes["epsilon"])],
        {0: lanes, 1: int(half)},
        node.name,
    )


@lowers("LastRow", "tlite")
def last_row(low: Lowering, node: Node) -> None:
    x = node.input(0)
    columns, lanes = low.columns(x), 64
    windows = [low.read(x), low.write(node.output), low.named("step", STEP_BYTES, "read")]
    low.emit(
        "last_row",
        [(w, "storage") for w in windows],
        (dims.ceil_div(columns, lanes),),
        [columns],
        {0: lanes},
        node.name,
    )


def argmax(low: Lowering, logits: Value) -> None:
    """Append the greedy choice over the last axis of logits [1, V] (see shaders/argmax.comp)."""
    lanes = low.target.lanes if low.target.cpu else min(256, low.target.max_invocations)
    groups = 1 if low.target.cpu else max(1, min(64, low.columns(logits) // (4 * lanes)))
    found = replace(low.scratch(PICK, 8 * groups)[0], access="update")
    windows = [
        low.read(logits),
        low.named("ids", ["*", 4, "T"], "write"),
        low.named("picked", 4 * PICKED, "update"),
        low.named("step", STEP_BYTES, "update"),
        found,
        low.tickets(),
    ]
    low.emit("argmax", [(w, "storage") for w in windows], (groups,), [low.columns(logits), PICKED], {0: lanes}, PICK)
