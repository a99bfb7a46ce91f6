"""Resize, Upsample and GridSample: weighted sums of input elements at positions that need not be whole."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from tlite_vk.graph.infer import describe
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.ops.resampling import Taps, every_taps
from tlite_vk.graph.shape import ints
from tlite_vk.lower import Lowering, lowers

from .generated.fusion import pull, pulls, settle, write_each
from .generated.index import Index
from .generated.source import Source, kind_of, number


def _known(value: Value | None) -> np.ndarray | None:
    return None if value is None else describe(value).data


@lowers("Resize")
@lowers("Upsample")
def resize(low: Lowering, node: Node) -> None:
    """The taps of all axes come in one table of (position, weight); a position of -1 is outside of the region."""
    x = node.input(0)
    if node.op == "Upsample":
        options = {**node.attributes, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        every = every_taps(ints(x.dims), None, _known(node.optional(1)), None, **options)
    else:
        every = every_taps(ints(x.dims), *(_known(node.optional(i)) for i in (1, 2, 3)), **node.attributes)
    settle(low, [x], room=6, work=8)
    tables = [_table(taps) for taps in every]
    joined = np.concatenate([t.reshape(-1) for t in tables] or [np.zeros(2, np.float32)])
    window = low.weight("array", joined, f"{node.name}/taps")
    fill = float(node.attributes.get("extrapolation_value", 0.0))

    def element(source: Source, at: Index) -> str:
        return _resampled(source, x, at, every, source.reads(window, "float"), fill)

    write_each(low, node, node.output, element)


def _table(taps: Taps) -> np.ndarray:
    """[after, taps, (position, weight)]"""
    positions = np.where(taps.outside[:, None], -1, taps.positions)
    return np.stack([positions, taps.weights], -1).astype(np.float32)


def _resampled(source: Source, x: Value, at: Index, every: Sequence[Taps], table: str, fill: float) -> str:
    kind = kind_of(x.dtype)
    total, coords, weights, start = source.variable("float", "0.0"), at.coords(), [], 0
    outside = source.variable("bool", "false")
    with ExitStack() as loops:
        for taps in every:
            count = taps.positions.shape[1]
            tap = loops.enter_context(source.loop(str(count))) if count > 1 else "0"
            place = source.let("int", f"{start} + 2 * ({coords[taps.axis]} * {count} + {tap})")
            position = source.let("int", f"int({table}[{place}])")
            if count > 1:
                weights.append(source.let("float", f"{table}[{place} + 1]"))
            if taps.outside.any():
                source.line(f"if ({position} < 0) {outside} = true;")
                position = source.let("int", f"max({position}, 0)")
            coords[taps.axis] = position
            start += 2 * taps.positions.size
        element = pull(source, x, at.of(x.dims, coords))
        source.line(f"{total} += {' * '.join([*weights, element if kind == 'float' else f'float({element})'])};")
    text = f"{outside} ? {number(fill)} : {total}"
    return text if kind == "float" else f"{kind}(roundEven({text}))"


# --- GridSample ------------------------------------------------------------------------------------------------------


@pulls("GridSample", work=64)
def grid_sample(source: Source, node: Node, out: int, at: Index) -> str:
    """x [B, C, spatial...], grid [B, out..., axes]: the last of the grid's numbers is for the first spatial axis."""
    x, grid = node.input(0), node.input(1)
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(node.attributes.get("mode", "linear"), "")
    mode = mode or node.attributes.get("mode", "linear")
    spatial = at.rank - 2
    total, coords = source.variable("float", "0.0"), at.coords()
    with ExitStack() as loops:
        weights, positions = [], []
        for i in range(spatial):
            place = [coords[0], *coords[2:], str(spatial - 1 - i)]
            where = pull(source, grid, Index(source, grid.dims, coords=place))
            position, weight = _tap(source, node, loops, mode, where, source.dim(x.dims[2 + i]))
            positions.append(position)
            weights.append(weight)
        inside = source.let("float", " * ".join(weights))
        with source.block(f"if ({inside} != 0.0)"):
            element = pull(source, x, at.of(x.dims, [coords[0], coords[1], *positions]))
            source.line(f"{total} += {inside} * {element};")
    return total


def _tap(source: Source, node: Node, loops: ExitStack, mode: str, where: str, size: str) -> tuple[str, str]:
    """(position, weight) of one tap along an axis, within a loop over the taps; the weight of padding is 0."""
    corners = bool(node.attributes.get("align_corners", 0))
    scaled = (
        f"({where} + 1.0) * 0.5 * float({size} - 1)" if corners else f"(({where} + 1.0) * float({size}) - 1.0) * 0.5"
    )
    padding = node.attributes.get("padding_mode", "zeros")
    exact = source.let("float", scaled)
    if padding != "zeros" and mode != "cubic":
        exact = source.let("float", _padded(source, padding, corners, exact, size))
    if mode == "nearest":
        position, weight = source.let("int", f"int(roundEven({exact}))"), "1.0"
    else:
        first, count = (0, 2) if mode == "linear" else (-1, 4)
        tap = loops.enter_context(source.loop(str(first + count), str(first)))
        base = source.let("float", f"floor({exact})")
        distance = source.let("float", f"abs({exact} - {base} - float({tap}))")
        weight = source.let("float", f"1.0 - {distance}" if mode == "linear" else _keys(distance))
        position = source.let("int", f"int({base}) + {tap}")
    if padding == "zeros":
        weight = source.let("float", f"{position} >= 0 && {position} < {size} ? {weight} : 0.0")
    elif mode == "cubic":
        position = source.let("int", f"int(roundEven({_padded(source, padding, corners, f'float({position})', size)}))")
    return source.let("int", f"clamp({position}, 0, {size} - 1)"), weight


def _keys(t: str) -> str:
    """Keys' cubic kernel with a = -0.75."""
    near, far = f"(1.25 * {t} - 2.25) * {t} * {t} + 1.0", f"((-0.75 * {t} + 3.75) * {t} - 6.0) * {t} + 3.0"
    return f"{t} <= 1.0 ? {near} : {t} < 2.0 ? {far} : 0.0"


def _padded(source: Source, padding: str, corners: bool, exact: str, size: str) -> str:
    """A position moved into the tensor: to its border, or mirrored there."""
    if padding == "border":
        return f"clamp({exact}, 0.0, float({size} - 1))"
    low, span = ("0.0", f"float({size} - 1)") if corners else ("-0.5", f"float({size})")
    turn = source.let("float", source.call("moduloFloat", f"{exact} - {low}", f"max(2.0 * {span}, 1.0)"))
    return f"clamp(min({turn}, 2.0 * {span} - {turn}) + {low}, 0.0, float({size} - 1))"
