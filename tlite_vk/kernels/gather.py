"""Picking elements by computed indices: Gather, GatherElements, GatherND, and writing to them: the scatters."""

from __future__ import annotations

from tlite_vk.errors import ModelError
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.shape import Dim
from tlite_vk.lower import Lowering, lowers

from .generated.fusion import pull, pulls, settle, store
from .generated.index import Index, add
from .generated.source import Source, kind_of
from .movement import axis_of


def within(source: Source, picked: str, extent: Dim) -> str:
    """A coordinate from an index that may count from the end; one outside of the tensor reads its last element."""
    n = source.dim(extent)
    return source.let("int", f"clamp({picked} < 0 ? {picked} + {n} : {picked}, 0, {n} - 1)")


@pulls("Gather", work=1)
def gather(source: Source, node: Node, out: int, at: Index) -> str:
    data, indices = node.input(0), node.input(1)
    axis, depth = axis_of(node, len(data.dims)), len(indices.dims)
    coords = at.coords()
    picked = pull(source, indices, at.of(indices.dims, coords[axis : axis + depth]))
    place = within(source, picked, data.dims[axis])
    return pull(source, data, at.of(data.dims, [*coords[:axis], place, *coords[axis + depth :]]))


@pulls("GatherElements", work=1)
def gather_elements(source: Source, node: Node, out: int, at: Index) -> str:
    data, indices = node.input(0), node.input(1)
    axis = axis_of(node, at.rank)
    coords = at.coords()
    coords[axis] = within(source, pull(source, indices, at), data.dims[axis])
    return pull(source, data, at.of(data.dims, coords))


@pulls("GatherND", work=1)
def gather_nd(source: Source, node: Node, out: int, at: Index) -> str:
    data, indices = node.input(0), node.input(1)
    batch, depth = int(node.attributes.get("batch_dims", 0)), indices.dims[-1]
    assert isinstance(depth, int)
    coords, lead = at.coords(), len(indices.dims) - 1
    picked = [pull(source, indices, at.of(indices.dims, [*coords[:lead], str(i)])) for i in range(depth)]
    place = [within(source, p, data.dims[batch + i]) for i, p in enumerate(picked)]
    return pull(source, data, at.of(data.dims, [*coords[:batch], *place, *coords[lead:]]))


# --- writing to computed places --------------------------------------------------------------------------------------

_COMBINE = {"add": "{0} + {1}", "mul": "{0} * {1}", "max": "max({0}, {1})", "min": "min({0}, {1})"}


def copy(low: Lowering, value: Value, target: Value, label: str) -> None:
    """Write the elements of one value as another of the same shape."""
    settle(low, [value])
    source = Source(low, label)
    item, groups = source.each(low.count(value))
    kind = kind_of(value.dtype)
    element = pull(source, value, Index(source, value.dims, flat=item))
    store(source, source.writes(low.write(target), kind), kind, item, element)
    source.emit(groups)


def combine(source: Source, target: str, kind: str, place: str, element: str, reduction: str) -> None:
    """Write an element to its place, or combine it with what is there; several invocations may do so at once."""
    if reduction == "none":
        store(source, target, kind, place, element)
        return
    if reduction not in _COMBINE or kind == "bool":
        raise ModelError(f"node {source.label!r}: combining {kind} elements by {reduction!r} is not supported")
    now, new = source.fresh("x"), source.fresh("x")
    source.line(f"uint {now} = {target}[{place}], {new};")
    with source.block("for (;;)"):
        old = f"uintBitsToFloat({now})" if kind == "float" else f"{kind}({now})"
        both = _COMBINE[reduction].format(old, element)
        source.line(f"{new} = {f'floatBitsToUint({both})' if kind == 'float' else f'uint({both})'};")
        source.line(f"{new} = atomicCompSwap({target}[{place}], {now}, {new});")
        source.line(f"if ({new} == {now}) break;")
        source.line(f"{now} = {new};")


def _scatter(low: Lowering, node: Node, count: Dim, reduction: str) -> tuple[Source, str, tuple[Dim, Dim], str]:
    """(kernel, number of the invocation, workgroups, target buffer) over `count` updates, after copying the data."""
    copy(low, node.input(0), node.output, f"{node.name}/copy")
    settle(low, node.inputs[1:])
    source = Source(low, node.name)
    item, groups = source.each(count)
    kind = kind_of(node.output.dtype)
    target = source.updates(low.update(node.output), "uint" if reduction != "none" else kind)
    return source, item, groups, target


@lowers("ScatterElements")
@lowers("Scatter")
def scatter_elements(low: Lowering, node: Node) -> None:
    data, indices, updates = (node.input(i) for i in range(3))
    reduction = str(node.attributes.get("reduction", "none"))
    source, item, groups, target = _scatter(low, node, low.count(indices), reduction)
    at = Index(source, indices.dims, flat=item)
    axis = axis_of(node, at.rank)
    coords = at.coords()
    coords[axis] = within(source, pull(source, indices, at), data.dims[axis])
    element = pull(source, updates, at.of(updates.dims, at.coords()))
    combine(source, target, kind_of(data.dtype), at.of(data.dims, coords).flat(), element, reduction)
    source.emit(groups)


@lowers("ScatterND")
def scatter_nd(low: Lowering, node: Node) -> None:
    data, indices, updates = (node.input(i) for i in range(3))
    reduction = str(node.attributes.get("reduction", "none"))
    source, item, groups, target = _scatter(low, node, low.count(updates), reduction)
    at = Index(source, updates.dims, flat=item)
    depth, lead = indices.dims[-1], len(indices.dims) - 1
    assert isinstance(depth, int)
    coords = at.coords()
    picked = [pull(source, indices, at.of(indices.dims, [*coords[:lead], str(i)])) for i in range(depth)]
    place = [within(source, p, data.dims[i]) for i, p in enumerate(picked)]
    element = pull(source, updates, at)
    combine(source, target, kind_of(data.dtype), at.of(data.dims, [*place, *coords[lead:]]).flat(), element, reduction)
    source.emit(groups)


@lowers("TensorScatter")
def tensor_scatter(low: Lowering, node: Node) -> None:
    """A cache with new rows along an axis from each batch's write index on; rows past the end wrap or are dropped."""
    cache, update, first = node.input(0), node.input(1), node.optional(2)
    source, item, groups, target = _scatter(low, node, low.count(update), "none")
    at = Index(source, update.dims, flat=item)
    axis = axis_of(node, at.rank, -2)
    extent = source.dim(cache.dims[axis])
    start = "0" if first is None else pull(source, first, at.of(first.dims, [at.coord(0)]))
    slot = source.let("int", add(start, at.coord(axis)))
    if node.attributes.get("mode", "linear") == "circular":
        slot = source.let("int", f"{slot} % {extent}")
    element = pull(source, update, at)
    with source.block(f"if ({slot} >= 0 && {slot} < {extent})"):
        store(source, target, kind_of(cache.dtype), at.replaced(axis, slot, cache.dims[axis]).flat(), element)
    source.emit(groups)
