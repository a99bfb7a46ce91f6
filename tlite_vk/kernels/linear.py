"""Linear and Embedding: products with packed weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tlite_vk.errors import ModelError
from tlite_vk.graph import shape as dims
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.shape import Dim
from tlite_vk.lower import Lowering, lowers
from tlite_vk.packing import Packing, packing_of
from tlite_vk.program import Window
from tlite_vk.step import STEP_BYTES
from tlite_vk.target import Target

from . import expansion

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
HALF_FORMATS = {"e0m4_affine", "e0m4_symmetric", "e0m4_f32", "int8"}
"""Formats that shaders/linear_half.comp takes."""


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
        tile = _Tile.choose(low, packing, gated, rows, block, normed=norm is not None, plain=bias is not None)
        spec = {
            **tile.specialization,
            3: int(low.is_half(x)),
            4: int(half_out),
            5: int(bias is not None),
            6: int(residual is not None),
            7: int(norm is not None),
            8: ACTIVATIONS[activation],
            9: int(gated),
            10: packing.chunks_per_group,
        }
        kind4, kind1 = ("texel_rgba32ui", "texel_r32ui") if tile.texel else ("storage", "storage")
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
        low.emit(tile.shader, bindings, tile.groups, push, spec, node.name, tile.subgroup_size)


@dataclass(frozen=True)
class _Tile:
    """The shader for a product, its tile and its grid."""

    shader: str
    texel: bool
    specialization: dict[int, int]
    groups: tuple[Dim, Dim]
    subgroup_size: int = 0

    @staticmethod
    def _split(target: Target, packing: Packing, gated: bool, rows: Dim, block: RowBlock) -> _Tile:
        """The GPU's product of one token: as many lanes side by side as still leave workgroups for every core."""
        per_lane = 4 if gated else 2
        outputs_per_lane = per_lane // 2 if gated else per_lane
        lanes = next((n for n in (32, 16) if -(-block.outputs // (n * outputs_per_lane)) >= 256), 8)
        room = target.max_shared_bytes // (4 * lanes * (per_lane + 1))
        slices = max(1, min(256 // lanes, target.max_invocations // lanes, packing.chunks, room))
        spec = {0: lanes, 11: slices, 1: per_lane, 2: 1, 12: lanes * slices * (per_lane + 1)}
        groups = (dims.ceil_div(block.outputs, lanes * outputs_per_lane), rows)
        return _Tile(f"linear_split_{packing.format.name}", False, spec, groups)

    @staticmethod
    def _matrix(target: Target, packing: Packing, rows: Dim, block: RowBlock) -> _Tile:
        """Cooperative matrices: smaller tiles where the workgroups would not fill the device (docs/adr/0008)."""
        tiles, columns = (4, 4) if block.rows >= 19200 else (2, 4) if block.rows >= 4000 else (2, 2)
        depth = 2 if packing.columns % 64 == 0 else 1
        while depth * tiles > 2 and 32 * (tiles + columns) * (4 * depth + 1) * 16 > target.max_shared_bytes:
            depth, tiles = (depth, 2) if tiles > 2 else (1, 2)
        spec = {0: 128, 13: tiles, 14: columns, 15: 2, 16: 2, 17: 1, 18: depth}
        groups = (dims.ceil_div(rows, 32 * tiles), dims.ceil_div(block.rows, 32 * columns))
        return _Tile(f"linear_matrix_{packing.format.name}", False, spec, groups, subgroup_size=32)

    @staticmethod
    def _half(target: Target, packing: Packing, gated: bool, rows: Dim, block: RowBlock, normed: bool) -> _Tile:
        """One token in half arithmetic. The sizes are measured: docs/adr/0008."""
        outputs, chunks = block.outputs, packing.chunks
        threads, rows_per_lane = 256, 1
        if outputs >= 20000:
            lanes, rows_per_lane = 32, 4 if outputs >= 65536 else 2
        elif outputs >= 8192:
            lanes, rows_per_lane = 16, 2
        elif gated or normed:
            lanes = 16 if outputs >= 4096 else 8
        else:
            lanes, threads = 32 if outputs >= 4096 and chunks % 32 == 0 else 16, 1024
        most = max(1, min(threads // lanes, target.max_invocations // lanes, chunks))
        even = max(n for n in range(1, most + 1) if chunks % n == 0)
        slices = even if chunks >= 4 * most and 2 * even >= most else most  # no slice waits for a longer one
        threads = lanes * slices
        per_lane = rows_per_lane * (2 if gated else 1)
        room = target.max_shared_bytes - 4 * threads * per_lane - (4 * threads if normed else 0)
        column = 2 if packing.format.name in ("e0m4_symmetric", "int8") else 2.5  # a half, and a sum of eight
        segment = min(packing.columns, int(room / column) // 32 * 32)
        batch = max(1, min(4, -(-segment // (8 * threads))))
        spec = {0: lanes, 11: slices, 1: per_lane, 2: 1, 12: threads * per_lane // 2}
        spec |= {13: segment, 14: 1, 15: threads, 16: batch}
        groups = (dims.ceil_div(outputs, lanes * rows_per_lane), rows)
        return _Tile(f"linear_half_{packing.format.name}", False, spec, groups)

    @staticmethod
    def choose(
        low: Lowering, packing: Packing, gated: bool, rows: Dim, block: RowBlock, *, normed: bool, plain: bool
    ) -> _Tile:
        """normed: with a norm of the inputs inside. plain: the epilogue needs a kernel without matrices (a bias)."""
        target = low.target
        name, one = packing.format.name, rows == 1
        if one and not target.cpu:
            if target.half and name in HALF_FORMATS:
                return _Tile._half(target, packing, gated, rows, block, normed)
            return _Tile._split(target, packing, gated, rows, block)
        whole = (rows if isinstance(rows, int) else low.multiple) % 16 == 0
        fits = packing.columns % 32 == 0 and block.outputs % 16 == 0 and block.first % 16 == 0
        if target.matrix and whole and not plain and fits:
            return _Tile._matrix(target, packing, rows, block)
        lanes = target.lanes if target.cpu else min(64, target.max_invocations)
        # Rows amortize the loads of x; but two cores want at least eight workgroups of one token's product.
        per_lane = 16 if target.cpu and (not one or block.rows >= 8 * 16 * lanes - 64) else 8
        tokens = 1 if one else 8
        texel = target.texel
        covered = lanes * per_lane // (2 if gated else 1)
        spec = {0: lanes, 1: per_lane, 2: tokens}
        groups = (dims.ceil_div(block.outputs, covered), dims.ceil_div(rows, tokens))
        return _Tile(f"linear_tile_{name}" + ("_t" if texel else ""), texel, spec, groups)


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
