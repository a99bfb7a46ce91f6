"""Linear and Embedding: products with packed weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tlite_vk.choices import Product
from tlite_vk.errors import ModelError
from tlite_vk.graph import shape as dims
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.shape import Dim
from tlite_vk.lower import Lowering, lowers
from tlite_vk.packing import Packing, packing_of
from tlite_vk.program import Window
from tlite_vk.step import STEP_BYTES

from . import expansion
from .tiles import Tile, kernel_of, tile

ACTIVATIONS = {
    "": 0,
    "silu": 1,
    "swiglu": 1,
    "gelu": 2,
    "geglu": 2,
    "gelu_tanh": 3,
    "geglu_tanh": 3,
    "relu": 4,
    "reglu": 4,
}
GATED = {"swiglu", "geglu", "geglu_tanh", "reglu"}


@dataclass(frozen=True)
class RowBlock:
    """Outputs whose packed weight fits one window. `ranges` are rows of the weight: gate rows, then up rows."""

    first: int
    outputs: int
    ranges: tuple[tuple[int, int], ...]

    @property
    def rows(self) -> int:
        return sum(stop - start for start, stop in self.ranges)


@dataclass(frozen=True, eq=False)
class PackedBlock:
    """The source of a weight window: `part` is "codes" or "scales" of `block`."""

    weight: Any
    packing: Packing
    block: RowBlock
    part: str

    @property
    def nbytes(self) -> int:
        size = self.packing.code_bytes if self.part == "codes" else self.packing.scale_bytes
        return size(self.block.rows)


def row_blocks(packing: Packing, gated: bool, limit: int) -> list[RowBlock]:
    """Split the outputs so that no block's codes exceed `limit` bytes. Blocks start at even outputs."""
    outputs = packing.rows // 2 if gated else packing.rows
    per_output = packing.code_bytes(2 if gated else 1)
    most = max(2, limit // per_output // 2 * 2)
    blocks = []
    for first in range(0, outputs, most):
        stop = min(first + most, outputs)
        ranges = ((first, stop), (outputs + first, outputs + stop)) if gated else ((first, stop),)
        blocks.append(RowBlock(first, stop - first, ranges))
    return blocks


def packed_windows(low: Lowering, value: Value, gated: bool = False) -> list[tuple[RowBlock, Packing, Window, Window]]:
    """The weight `value` as windows of codes and scales, one pair per row block."""
    weight = value.constant
    if weight is None:
        raise ModelError(f"the weight {value.name!r} is not a constant")
    packing = packing_of(weight)
    limit = low.target.max_storage_range
    if low.target.texel:
        limit = min(limit, low.target.max_texel_elements * 4)  # scales are fetched as 4-byte texels
    found = []
    for block in row_blocks(packing, gated, limit):
        name = (
            value.name if block.rows == packing.rows else f"{value.name}[{block.first}:{block.first + block.outputs}]"
        )
        codes, scales = (
            low.book.packed(PackedBlock(weight, packing, block, part), name) for part in ("codes", "scales")
        )
        found.append((block, packing, codes, scales))
    return found


def can_pack(value: Value) -> bool:
    """Whether a weight has a packed form; one of an odd number of columns has none, for example."""
    try:
        packing_of(value.constant)  # type: ignore[arg-type]
    except ModelError:
        return False
    return True


@lowers("Linear", "tlite")
def linear(low: Lowering, node: Node) -> None:
    x, weight = node.input(0), node.input(1)
    if not can_pack(weight):
        expansion.linear(low, node)
        return
    bias, residual, norm = (node.optional(i) for i in (2, 3, 4))
    activation = str(node.attributes.get("activation", ""))
    gated = activation in GATED
    rows = low.rows(x)
    columns, outputs = low.columns(x), low.columns(node.output)
    half_out = low.wants_half(node.output) and outputs % 2 == 0
    out = low.write(node.output, half_out)
    for block, packing, codes, scales in packed_windows(low, weight, gated):
        found = _tile(low, node, packing, rows, block)
        spec = {
            **found.specialization,
            3: int(low.is_half(x)),
            4: int(half_out),
            5: int(bias is not None),
            6: int(residual is not None),
            7: int(norm is not None),
            8: ACTIVATIONS[activation],
            9: int(gated),
            10: packing.chunks_per_group,
        }
        kind4, kind1 = ("texel_rgba32ui", "texel_r32ui") if found.texel else ("storage", "storage")
        bindings = [
            (codes, kind4),
            (scales, kind1),
            (low.read(x), kind4),
            (out, "storage"),
            (low.read(bias) if bias else scales, "storage"),
            (low.read(residual) if residual else scales, "storage"),
            (low.read(norm) if norm else codes, kind4),
        ]
        push: list[Dim | float] = [
            columns,
            block.rows,
            block.outputs,
            rows,
            block.first,
            outputs,
            float(node.attributes.get("norm_epsilon", 0.0)),
        ]
        low.emit(found.shader, bindings, found.groups, push, spec, node.name, found.subgroup_size)


def _tile(low: Lowering, node: Node, packing: Packing, rows: Dim, block: RowBlock) -> Tile:
    """The shader for a row block, its tile and its grid."""
    gated = str(node.attributes.get("activation", "")) in GATED
    normed, biased = node.optional(4) is not None, node.optional(2) is not None
    task = Product(packing.format.name, block.outputs, packing.columns, rows == 1, gated, normed, biased)
    tokens = rows if isinstance(rows, int) else low.multiple
    whole = all(n % 16 == 0 for n in (tokens, block.outputs, block.first)) and packing.columns % 32 == 0
    kernel = kernel_of(low.target, task, whole)
    low.tasks.setdefault((task, kernel), node)
    return tile(low.target, task, kernel, rows, block.rows)


@lowers("Embedding", "tlite")
def embedding(low: Lowering, node: Node) -> None:
    if not can_pack(node.input(1)):
        expansion.embedding(low, node)
        return
    _rows(low, node, low.read(node.input(0)), by_position=False)


@lowers("PositionEmbedding", "tlite")
def position_embedding(low: Lowering, node: Node) -> None:
    """Rows at the positions of the step's tokens."""
    _rows(low, node, low.named("step", STEP_BYTES, "read"), by_position=True)


def _rows(low: Lowering, node: Node, ids: Window, by_position: bool) -> None:
    columns = low.columns(node.output)
    lanes = min(low.target.max_invocations, 64)
    out = low.write(node.output)
    for block, packing, codes, scales in packed_windows(low, node.input(1)):
        groups = (dims.ceil_div(packing.chunks, lanes), low.rows(node.output))
        low.emit(
            f"embedding_{packing.format.name}",
            [(codes, "storage"), (scales, "storage"), (ids, "storage"), (out, "storage")],
            groups,
            [columns, block.rows, block.first, packing.rows],
            {0: lanes, 1: packing.chunks_per_group, 2: int(by_position)},
            node.name,
        )
