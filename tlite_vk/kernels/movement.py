"""Data movement: views that cost nothing, and copies whose element is found by its position."""

from __future__ import annotations

from tlite_vk.errors import ModelError
from tlite_vk.graph import shape as dims
from tlite_vk.graph.infer import describe
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.ops.rules import known_dims
from tlite_vk.graph.shape import Dim
from tlite_vk.lower import Lowering, lowers

from .generated.fusion import lower_pulled, pull, pulls, settle, store
from .generated.index import Index, add, times
from .generated.source import Source, kind_of, number


def axis_of(node: Node, rank: int, default: int = 0, name: str = "axis") -> int:
    """An axis attribute, counted from the front."""
    axis = int(node.attributes.get(name, default))
    return axis + rank if axis < 0 else axis


def numbers(value: Value | None, what: str) -> list[Dim]:
    """The elements of an input that is known when the model is compiled."""
    return known_dims(None if value is None else describe(value), what)


# --- the same bytes --------------------------------------------------------------------------------------------------


@pulls("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", work=0)
def same_elements(source: Source, node: Node, out: int, at: Index) -> str:
    return pull(source, node.input(0), at.same_place(node.input(0).dims))


@pulls("Dropout", work=0)
def dropout(source: Source, node: Node, out: int, at: Index) -> str:
    return "true" if out else pull(source, node.input(0), at)


def _alias(low: Lowering, node: Node) -> None:
    x = node.input(0)
    if low.deferred(x) is None and low.is_placed(x) and len(node.outputs) == 1 and not low.is_state(x):
        low.alias(node.output, x)
    else:
        lower_pulled(low, node)


for _op in ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout"):
    lowers(_op)(_alias)


# --- views -----------------------------------------------------------------------------------------------------------


@pulls("Transpose", work=0)
def transpose(source: Source, node: Node, out: int, at: Index) -> str:
    x = node.input(0)
    order = node.attributes.get("perm") or list(range(at.rank))[::-1]
    coords = [""] * at.rank
    for i, axis in enumerate(order):
        coords[axis] = at.coord(i)
    return pull(source, x, at.of(x.dims, coords))


@pulls("Expand", work=0)
def expand(source: Source, node: Node, out: int, at: Index) -> str:
    return pull(source, node.input(0), at.broadcast(node.input(0).dims))


@pulls("Tile", work=0)
def tile(source: Source, node: Node, out: int, at: Index) -> str:
    x = node.input(0)
    coords = [_wrapped(source, at.coord(i), d, at.shape[i]) for i, d in enumerate(x.dims)]
    return pull(source, x, at.of(x.dims, coords))


@pulls("ReverseSequence", work=1)
def reverse_sequence(source: Source, node: Node, out: int, at: Index) -> str:
    x, lengths = node.input(0), node.input(1)
    time = axis_of(node, at.rank, 0, "time_axis")
    batch = axis_of(node, at.rank, 1, "batch_axis")
    here = at.coord(time)
    length = pull(source, lengths, at.of(lengths.dims, [at.coord(batch)]))
    return pull(source, x, at.replaced(time, source.let("int", f"{here} < {length} ? {length} - 1 - {here} : {here}")))


def _wrapped(source: Source, coord: str, extent: Dim, whole: Dim) -> str:
    if extent == 1:
        return "0"
    return coord if dims.equal(source.low.dim(extent), whole) else source.let("int", f"{coord} % {source.dim(extent)}")


@pulls("Slice", work=0)
def slice_(source: Source, node: Node, out: int, at: Index) -> str:
    x = node.input(0)
    starts = numbers(node.optional(1), "its starts")
    axes = numbers(node.optional(3), "its axes") if node.optional(3) else list(range(len(starts)))
    steps = numbers(node.optional(4), "its steps") if node.optional(4) else [1] * len(starts)
    coords = at.coords()
    for start, axis, step in zip(starts, axes, steps, strict=True):
        assert isinstance(axis, int) and isinstance(step, int)
        axis = axis % at.rank
        first = _first(node, start, x.dims[axis], step)
        coords[axis] = source.let("int", add(times(coords[axis], number(step, "int")), source.dim(first)))
    return pull(source, x, at.of(x.dims, coords))


def _first(node: Node, start: Dim, extent: Dim, step: int) -> Dim:
    """Where a slice begins, in [0, extent), or at most extent - 1 where it goes backwards."""
    last = extent if step > 0 else dims.add(extent, -1)
    if isinstance(start, int) and not -(2**31) < start < 2**31 - 1:
        return last if start > 0 else 0
    negative = not dims.is_non_negative(start)
    if negative and not dims.is_non_negative(dims.add(dims.multiply(start, -1), -1)):
        raise ModelError(f"{node}: cannot tell the sign of its start {start}")
    return dims.minimum(dims.maximum(dims.add(extent, start), 0) if negative else start, last)


@pulls("Split", work=0)
def split(source: Source, node: Node, out: int, at: Index) -> str:
    x = node.input(0)
    axis = axis_of(node, at.rank)
    before: Dim = 0
    for value in node.outputs[:out]:
        before = dims.add(before, value.dims[axis])
    moved = source.let("int", add(at.coord(axis), source.dim(before)))
    return pull(source, x, at.replaced(axis, moved, x.dims[axis]))


@pulls("DepthToSpace", work=0)
def depth_to_space(source: Source, node: Node, out: int, at: Index) -> str:
    x, size = node.input(0), int(node.attributes["blocksize"])
    b, c, h, w = at.coords()
    block = source.let("int", f"{h} % {size} * {size} + {w} % {size}")
    channels = source.dim(at.shape[1])
    channel = (
        f"{block} * {channels} + {c}"
        if node.attributes.get("mode", "DCR") == "DCR"
        else f"{c} * {size * size} + {block}"
    )
    coords = [b, *(source.let("int", t) for t in (channel, f"{h} / {size}", f"{w} / {size}"))]
    return pull(source, x, at.of(x.dims, coords))


@pulls("SpaceToDepth", work=0)
def space_to_depth(source: Source, node: Node, out: int, at: Index) -> str:
    x, size = node.input(0), int(node.attributes["blocksize"])
    b, c, h, w = at.coords()
    channels = source.dim(x.dims[1])
    block = source.let("int", f"{c} / {channels}")
    coords = [
        b,
        *(
            source.let("int", t)
            for t in (f"{c} % {channels}", f"{h} * {size} + {block} / {size}", f"{w} * {size} + {block} % {size}")
        ),
    ]
    return pull(source, x, at.of(x.dims, coords))


# --- several inputs --------------------------------------------------------------------------------------------------


@pulls("Concat", work=1)
def concat(source: Source, node: Node, out: int, at: Index) -> str:
    axis = axis_of(node, at.rank)
    kind = kind_of(node.output.dtype)
    coord = at.coord(axis)
    inputs = [v for v in node.inputs if v is not None and v.dims[axis] != 0]
    result = source.variable(kind, number(0, kind))
    end: Dim = 0
    for i, value in enumerate(inputs):
        start, end = end, dims.add(end, value.dims[axis])
        head = f"if ({coord} < {source.dim(end)})" if i < len(inputs) - 1 else ""
        with source.block(head if i == 0 or not head else f"else {head}") if head or i == 0 else source.block("else"):
            inner = coord if start == 0 else source.let("int", f"{coord} - {source.dim(start)}")
            source.line(f"{result} = {pull(source, value, at.replaced(axis, inner, value.dims[axis]))};")
    return result


@lowers("Concat")
def lower_concat(low: Lowering, node: Node) -> None:
    """One kernel for a few inputs; many are copied to their places one by one."""
    values = [v for v in node.inputs if v is not None]
    if len(values) <= 6:
        lower_pulled(low, node)
        return
    axis, before = axis_of(node, len(node.output.dims)), 0
    offset: Dim = before
    for i, value in enumerate(values):
        if value.dims[axis] == 0:
            continue
        settle(low, [value])
        source = Source(low, f"{node.name}/{i}")
        item, groups = source.each(low.count(value))
        kind = kind_of(value.dtype)
        at = Index(source, value.dims, flat=item)
        element = pull(source, value, at)
        place = at.replaced(axis, source.let("int", add(at.coord(axis), source.dim(offset))), node.output.dims[axis])
        store(source, source.writes(low.write(node.output), kind), kind, place.flat(), element)
        source.emit(groups)
        offset = dims.add(offset, value.dims[axis])


@pulls("Pad", work=2)
def pad(source: Source, node: Node, out: int, at: Index) -> str:
    x, kind = node.input(0), kind_of(node.output.dtype)
    amounts = numbers(node.optional(1), "its padding")
    axes = numbers(node.optional(3), "its axes") if node.optional(3) else list(range(at.rank))
    mode = node.attributes.get("mode", "constant")
    coords, inside = at.coords(), []
    for i, axis in enumerate(axes):
        assert isinstance(axis, int)
        axis = axis % at.rank
        after = amounts[len(axes) + i]
        if amounts[i] == 0 and after == 0:
            continue
        moved = source.let("int", f"{coords[axis]} - {source.dim(amounts[i])}")
        coords[axis] = moved
        if mode == "constant":
            inside.append(f"{moved} >= 0 && {moved} < {source.dim(x.dims[axis])}")
        else:
            coords[axis] = _reflected(source, node, mode, moved, (x.dims[axis], amounts[i], after))
    if not inside:
        return pull(source, x, at.of(x.dims, coords))
    fill = node.optional(2)
    result = source.variable(
        kind, number(0, kind) if fill is None else pull(source, fill, at.of(fill.dims, ["0"] * len(fill.dims)))
    )
    with source.block(f"if ({' && '.join(inside)})"):
        source.line(f"{result} = {pull(source, x, at.of(x.dims, coords))};")
    return result


def _reflected(source: Source, node: Node, mode: str, moved: str, sizes: tuple[Dim, Dim, Dim]) -> str:
    """The coordinate inside of the tensor that a coordinate outside stands for.

    Negative padding crops first, so what is mirrored is the cropped range.
    """
    extent, before, after = sizes
    low = 0 if dims.is_non_negative(before) else dims.multiply(before, -1)
    high = extent if dims.is_non_negative(after) else dims.add(extent, after)
    n = source.dim(dims.add(high, dims.multiply(low, -1)))
    start = source.dim(low)
    t = moved if start == "0" else source.let("int", f"{moved} - {start}")
    if mode == "edge":
        text = f"clamp({t}, 0, {n} - 1)"
    elif mode == "wrap":
        text = source.call("moduloInt", t, n)
    else:
        period = source.let("int", f"max(2 * ({n} - 1), 1)")
        turn = source.let("int", source.call("moduloInt", t, period))
        text = f"min({turn}, {period} - {turn}) % {n}" if n != "1" else "0"
    return source.let("int", add(text, start))
