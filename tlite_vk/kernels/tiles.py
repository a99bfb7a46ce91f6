"""Which shader computes a product, in which tiles: the choices there are, and the defaults of known drivers.

    kernel          shader               a choice
    linear_half     linear_half.comp     (lanes, rows of a lane, most invocations)
    linear_split    linear_split.comp    (lanes, rows of a lane, most invocations); rows of gate and up rows together
    linear_matrix   linear_matrix.comp   (16-token tiles, 16-row tiles of a subgroup, 32-column chunks of a slice)
    linear_tile     linear_tile.comp     (rows of an invocation, its tokens)

Every choice that `candidates` gives is right on any device that can run the kernel (tests/kernels/test_tiles.py); they
differ in speed only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product as every

from tlite_vk.choices import Choice, Product
from tlite_vk.graph import shape as dims
from tlite_vk.graph.shape import Dim
from tlite_vk.packing import FORMATS
from tlite_vk.target import Target

HALF_FORMATS = {"e0m4_affine", "e0m4_symmetric", "e0m4_f32", "int8"}
"""Formats that shaders/linear_half.comp takes."""
LEAST_GROUPS = 64
"""Workgroups below which a choice is no candidate for a product of one token: a GPU would be half empty."""


@dataclass(frozen=True)
class Tile:
    """The shader for a product, its tile and its grid."""

    shader: str
    texel: bool
    specialization: dict[int, int]
    groups: tuple[Dim, Dim]
    subgroup_size: int = 0


def kernel_of(target: Target, p: Product, whole: bool) -> str:
    """The kernel that a product goes to. whole: its rows and columns fit 16 x 16 matrices."""
    if p.one and not target.cpu:
        return "linear_half" if target.half and p.format in HALF_FORMATS else "linear_split"
    return "linear_matrix" if target.matrix and whole and not p.biased else "linear_tile"


def tile(target: Target, p: Product, kernel: str, rows: Dim, block_rows: int) -> Tile:
    """The tile that was tuned, else the default. rows: of the activations; block_rows: of the weight."""
    return _TILES[kernel](target, p, choice(target, p, kernel), rows, block_rows)


def choice(target: Target, p: Product, kernel: str) -> Choice:
    """What was measured to be fastest, where it was and still may be chosen, else the default."""
    found = target.tuned(p, kernel)
    return found if found is not None and found in candidates(target, p, kernel) else default(target, p, kernel)


def default(target: Target, p: Product, kernel: str) -> Choice:
    """What a driver does best in general."""
    return _DEFAULTS[kernel](target, p)


def candidates(target: Target, p: Product, kernel: str) -> list[Choice]:
    """The default first, then the others that this device's limits allow."""
    first = default(target, p, kernel)
    return [first, *(c for c in _OTHERS[kernel](target, p) if c != first)]


# One token in half arithmetic


@dataclass(frozen=True)
class _Rule:
    """A default for products of at least so many outputs; `fused` ones are gated or normed, None means any."""

    outputs: int
    fused: bool | None
    choice: Choice
    even: bool = False  # only where 32 slices take as many chunks each


_WIDE = (
    _Rule(65536, None, (32, 4, 256)),
    _Rule(20000, None, (32, 2, 256)),
    _Rule(8192, None, (16, 2, 256)),
    _Rule(4096, True, (16, 1, 256)),
    _Rule(0, True, (8, 1, 256)),
)
_HALF = {
    # measured on an H100: docs/adr/0008, 0012
    "nvidia": (*_WIDE, _Rule(4096, False, (32, 1, 1024), even=True), _Rule(0, False, (16, 1, 1024))),
    # workgroups that any GPU can keep several of at once
    "gpu": (*_WIDE, _Rule(0, False, (16, 1, 256))),
}


def _half_default(target: Target, p: Product) -> Choice:
    rules = _HALF["nvidia" if target.driver == "nvidia" else "gpu"]
    fused, even = p.gated or p.normed, p.columns // FORMATS[p.format].chunk % 32 == 0
    return next(r.choice for r in rules if p.outputs >= r.outputs and r.fused in (None, fused) and (even or not r.even))


def _half_others(target: Target, p: Product) -> list[Choice]:
    found: list[Choice] = []
    for lanes, rows, threads in every((8, 16, 32), (1, 2, 4), (64, 128, 256, 512, 1024)):
        groups = -(-p.outputs // (lanes * rows))
        fits = _segment(target, p, threads, rows * (2 if p.gated else 1)) >= 32
        if threads <= target.max_invocations and lanes * rows <= 128 and groups >= LEAST_GROUPS and fits:
            found.append((lanes, rows, threads))
    return found


def _slices(chunks: int, most: int) -> int:
    """Slices of the reduction: where that costs few, so many that none waits for a longer one."""
    even = max(n for n in range(1, most + 1) if chunks % n == 0)
    return even if chunks >= 4 * most and 2 * even >= most else most


def _segment(target: Target, p: Product, threads: int, per_lane: int) -> int:
    """Columns of the inputs that fit shared memory at once, beside the sums of all invocations; a multiple of 32."""
    room = target.max_shared_bytes - 16 - 4 * threads * per_lane - (4 * threads if p.normed else 0)
    column = 2 if p.format in ("e0m4_symmetric", "int8") else 2.5  # a half, and a sum of eight
    return min(p.columns, int(room / column) // 32 * 32)


def _half(target: Target, p: Product, choice: Choice, rows: Dim, block_rows: int) -> Tile:
    """One token in half arithmetic (docs/adr/0008)."""
    lanes, rows_per_lane, threads = choice
    chunks = p.columns // FORMATS[p.format].chunk
    most = max(1, min(threads // lanes, target.max_invocations // lanes, chunks))
    slices = _slices(chunks, most)
    threads = lanes * slices
    per_lane = rows_per_lane * (2 if p.gated else 1)
    segment = _segment(target, p, threads, per_lane)
    batch = max(1, min(4, -(-segment // (8 * threads))))
    spec = {0: lanes, 11: slices, 1: per_lane, 2: 1, 12: threads * per_lane // 2}
    spec |= {13: segment, 14: 1, 15: threads, 16: batch}
    groups = (dims.ceil_div(p.outputs, lanes * rows_per_lane), rows)
    return Tile(f"linear_half_{p.format}", False, spec, groups)


# One token in floats


def _split_default(target: Target, p: Product) -> Choice:
    """As many lanes side by side as still leave workgroups for every core."""
    per_output = 2
    lanes = next((n for n in (32, 16) if -(-p.outputs // (n * per_output)) >= 256), 8)
    return lanes, 4 if p.gated else 2, 256


def _split_others(target: Target, p: Product) -> list[Choice]:
    scale = 2 if p.gated else 1
    found: list[Choice] = []
    for lanes, rows, threads in every((8, 16, 32), (2, 4), (64, 128, 256, 512)):
        groups = -(-p.outputs // (lanes * rows))
        if threads <= max(target.max_invocations, 64) and groups >= LEAST_GROUPS:
            found.append((lanes, rows * scale, threads))
    return found


def _split(target: Target, p: Product, choice: Choice, rows: Dim, block_rows: int) -> Tile:
    lanes, per_lane, threads = choice
    chunks = p.columns // FORMATS[p.format].chunk
    room = target.max_shared_bytes // (4 * lanes * (per_lane + 1))
    slices = max(1, min(threads // lanes, target.max_invocations // lanes, chunks, room))
    spec = {0: lanes, 11: slices, 1: per_lane, 2: 1, 12: lanes * slices * (per_lane + 1)}
    outputs = lanes * (per_lane // 2 if p.gated else per_lane)
    return Tile(f"linear_split_{p.format}", False, spec, (dims.ceil_div(p.outputs, outputs), rows))


# Many tokens on cooperative matrices


def _fits_matrices(target: Target, choice: Choice) -> bool:
    tiles, columns, depth = choice
    return 32 * (tiles + columns) * (4 * depth + 1) * 16 <= target.max_shared_bytes


def _matrix_default(target: Target, p: Product) -> Choice:
    """Smaller tiles where the workgroups would not fill the device (docs/adr/0008)."""
    rows = p.outputs * (2 if p.gated else 1)
    tiles, columns = (4, 4) if rows >= 19200 else (2, 4) if rows >= 4000 else (2, 2)
    depth = 2 if p.columns % 64 == 0 else 1
    while depth * tiles > 2 and not _fits_matrices(target, (tiles, columns, depth)):
        depth, tiles = (depth, 2) if tiles > 2 else (1, 2)
    return tiles, columns, depth


def _matrix_others(target: Target, p: Product) -> list[Choice]:
    depths = (1, 2) if p.columns % 64 == 0 else (1,)
    every_one = every((1, 2, 4), (2, 4), depths)
    return [c for c in every_one if _fits_matrices(target, c)]


def _matrix(target: Target, p: Product, choice: Choice, rows: Dim, block_rows: int) -> Tile:
    tiles, columns, depth = choice
    spec = {0: 128, 13: tiles, 14: columns, 15: 2, 16: 2, 17: 1, 18: depth}
    groups = (dims.ceil_div(rows, 32 * tiles), dims.ceil_div(block_rows, 32 * columns))
    return Tile(f"linear_matrix_{p.format}", False, spec, groups, subgroup_size=32)


# CPU drivers, and many tokens without matrices


def _tile_lanes(target: Target) -> int:
    return target.lanes if target.cpu else min(64, target.max_invocations)


def _tile_default(target: Target, p: Product) -> Choice:
    """Rows amortize the loads of x; but two cores want at least eight workgroups of one token's product."""
    block_rows = p.outputs * (2 if p.gated else 1)
    rows = 16 if target.cpu and (not p.one or block_rows >= 8 * 16 * _tile_lanes(target) - 64) else 8
    return rows, 1 if p.one else 8


def _tile_others(target: Target, p: Product) -> list[Choice]:
    return list(every((4, 8, 16), (1,) if p.one else (4, 8)))


def _tile(target: Target, p: Product, choice: Choice, rows: Dim, block_rows: int) -> Tile:
    per_lane, tokens = choice
    lanes = _tile_lanes(target)
    spec = {0: lanes, 1: per_lane, 2: tokens}
    covered = lanes * per_lane // (2 if p.gated else 1)
    groups = (dims.ceil_div(p.outputs, covered), dims.ceil_div(rows, tokens))
    return Tile(f"linear_tile_{p.format}" + ("_t" if target.texel else ""), target.texel, spec, groups)


_TILES: dict[str, Callable[[Target, Product, Choice, Dim, int], Tile]] = {
    "linear_half": _half, "linear_split": _split, "linear_matrix": _matrix, "linear_tile": _tile,
}  # fmt: skip
_DEFAULTS: dict[str, Callable[[Target, Product], Choice]] = {
    "linear_half": _half_default, "linear_split": _split_default, "linear_matrix": _matrix_default,
    "linear_tile": _tile_default,
}  # fmt: skip
_OTHERS: dict[str, Callable[[Target, Product], list[Choice]]] = {
    "linear_half": _half_others, "linear_split": _split_others, "linear_matrix": _matrix_others,
    "linear_tile": _tile_others,
}  # fmt: skip
