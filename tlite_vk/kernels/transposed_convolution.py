"""ConvTranspose and Col2Im, from the output's side: which input elements reach it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from tlite_vk.graph import shape as dims
from tlite_vk.graph.ir import Node
from tlite_vk.graph.ops.transposed_convolution import Placement, block_counts, blocks_of, placement
from tlite_vk.graph.shape import ints
from tlite_vk.lower import Lowering, lowers

from .generated.fusion import pull, pulls, settle
from .generated.index import Index
from .generated.source import Source, kind_of, number
from .matmul import Product
from .movement import numbers


def _origins(
    source: Source, p: Placement, out: Sequence[str], inside: Sequence[str], extents: Sequence[dims.Dim]
) -> tuple[list[str], str]:
    """The input position per axis that reaches an output through a kernel position, and whether there is one."""
    found, conditions = [], []
    for i, (o, k) in enumerate(zip(out, inside, strict=True)):
        moved = source.let("int", f"{o} + {number(p.before[i], 'int')} - {k} * {p.dilations[i]}")
        conditions.append(f"{moved} >= 0")
        if p.strides[i] == 1:
            found.append(moved)
        else:
            found.append(source.let("int", f"{moved} / {p.strides[i]}"))
            conditions.append(f"{found[-1]} * {p.strides[i]} == {moved}")
        conditions.append(f"{found[-1]} < {source.dim(extents[i])}")
    return found, " && ".join(conditions)


@lowers("ConvTranspose")
def conv_transpose(low: Lowering, node: Node) -> None:
    """A matrix product: filters by the input elements that meet each output position."""
    x, w, bias = node.input(0), node.input(1), node.optional(2)
    settle(low, [x, w], work=1)
    settle(low, node.inputs)
    options = {k: v for k, v in node.attributes.items() if k not in ("group", "kernel_shape")}
    kernel, groups = ints(w.dims[2:]), int(node.attributes.get("group", 1))
    p = placement(x.dims[2:], kernel, **options)
    channels = dims.floor_div(w.dims[0], groups)
    inner = (channels, *kernel)

    def channel_of(source: Source, batch: Index, channel: str) -> str:
        return channel if groups == 1 else source.let("int", f"{batch.coord(1)} * {source.dim(channels)} + {channel}")

    def weight(source: Source, batch: Index, row: str, k: str) -> str:
        place = Index(source, inner, flat=k)
        return pull(source, w, place.of(w.dims, [channel_of(source, batch, place.coord(0)), row, *place.coords()[1:]]))

    def reaching(source: Source, batch: Index, k: str, column: str) -> str:
        place, spot = Index(source, inner, flat=k), Index(source, p.sizes, flat=column)
        coords, reached = _origins(source, p, spot.coords(), place.coords()[1:], x.dims[2:])
        result = source.variable("float", "0.0")
        at = Index(source, x.dims, coords=[batch.coord(0), channel_of(source, batch, place.coord(0)), *coords])
        with source.block(f"if ({reached})"):
            source.line(f"{result} = {pull(source, x, at)};")
        return result

    def finish(source: Source, at: Index, total: str) -> str:
        if bias is None:
            return total
        row = at.coord(2)
        if groups != 1:
            row = source.let("int", f"{at.coord(1)} * {source.dim(w.dims[1])} + {row}")
        return f"{total} + {pull(source, bias, Index(source, bias.dims, coords=[row]))}"

    Product(
        node.output,
        (x.dims[0], groups),
        w.dims[1],
        dims.product(p.sizes),
        dims.product(inner),
        weight,
        reaching,
        finish,
    ).emit(low, node.name)


@pulls("Col2Im", work=64)
def col2im(source: Source, node: Node, out: int, at: Index) -> str:
    x, kind = node.input(0), kind_of(node.output.dtype)
    image, block = (ints(numbers(node.optional(i), "its shape")) for i in (1, 2))
    a = node.attributes
    p = blocks_of(image, block, a.get("dilations"), a.get("pads"), a.get("strides"))
    counts = block_counts(p, block, a.get("pads"))
    total = source.variable(kind, number(0, kind))
    with ExitStack() as loops:
        inside = [loops.enter_context(source.loop(str(k))) for k in block]
        coords, reached = _origins(source, p, at.coords()[2:], inside, counts)
        row = Index(source, (at.shape[1], *block), coords=[at.coord(1), *inside]).flat()
        column = Index(source, counts, coords=coords).flat()
        with source.block(f"if ({reached})"):
            element = pull(source, x, at.of(x.dims, [at.coord(0), row, column]))
            source.line(f"{total} += {element};")
    return total
