"""Convolution and pooling over any number of spatial axes. x: [B, C, spatial...]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tlite_vk.graph import shape as dims
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.ops.convolution import _geometry as geometry
from tlite_vk.graph.shape import ints
from tlite_vk.lower import Lowering, lowers

from .elementwise import larger
from .generated.fusion import pull, pulls, settle
from .generated.index import Index
from .generated.rows import Rows
from .generated.source import Source, kind_of, number
from .matmul import Product
from .reduction import over, write_row

Element = Callable[[Source, Index], str]
"""(kernel, position) -> an element of an input"""


@dataclass(frozen=True)
class Windows:
    """How windows lie over the spatial axes."""

    kernel: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]

    @staticmethod
    def of(node: Node, kernel: Sequence[int]) -> Windows:
        a = node.attributes
        _, padding, strides, dilations = geometry(
            node.input(0).dims[2:],
            kernel,
            a.get("strides"),
            a.get("dilations"),
            a.get("pads"),
            a.get("auto_pad", "NOTSET"),
            int(a.get("ceil_mode", 0)),
        )
        return Windows(
            tuple(kernel), tuple(b for b, _ in padding), tuple(e for _, e in padding), tuple(strides), tuple(dilations)
        )

    def at(self, source: Source, out: Sequence[str], inside: Sequence[str]) -> list[str]:
        """The coordinates in the input of an element of a window; they may lie in the padding."""
        found = []
        for i, (o, k) in enumerate(zip(out, inside, strict=True)):
            text = o if self.strides[i] == 1 else f"{o} * {self.strides[i]}"
            if k != "0":
                text += f" + {k}" if self.dilations[i] == 1 else f" + {k} * {self.dilations[i]}"
            found.append(source.let("int", text if self.before[i] == 0 else f"{text} - {self.before[i]}"))
        return found


def within(source: Source, coords: Sequence[str], x_dims: Sequence[dims.Dim]) -> str:
    """Whether spatial coordinates lie inside of x."""
    return " && ".join(f"{c} >= 0 && {c} < {source.dim(d)}" for c, d in zip(coords, x_dims[2:], strict=True))


@lowers("Conv")
def conv(low: Lowering, node: Node) -> None:
    x, w, bias = node.input(0), node.input(1), node.optional(2)
    settle(low, [x, w], work=1)
    settle(low, node.inputs)

    def finish(source: Source, channel: str, total: str) -> str:
        if bias is None:
            return total
        return f"{total} + {pull(source, bias, Index(source, bias.dims, coords=[channel]))}"

    convolve(
        low, node, (x, w), (lambda source, at: pull(source, x, at), lambda source, at: pull(source, w, at)), finish
    )


def convolve(
    low: Lowering,
    node: Node,
    values: tuple[Value, Value],
    elements: tuple[Element, Element],
    finish: Callable[[Source, str, str], str],
) -> None:
    """A matrix product: filters by the elements of the windows.

    values: input and weight; elements: how to read each; finish: (kernel, channel, sum) -> element of the result.
    """
    x, w = values
    windows = Windows.of(node, ints(w.dims[2:]))
    groups = int(node.attributes.get("group", 1))
    filters, channels = dims.floor_div(w.dims[0], groups), w.dims[1]
    inner, positions = (channels, *windows.kernel), node.output.dims[2:]
    kind = kind_of(node.output.dtype)

    def channel_of(source: Source, batch: Index, row: str, size: dims.Dim) -> str:
        return row if groups == 1 else source.let("int", f"{batch.coord(1)} * {source.dim(size)} + {row}")

    def weight(source: Source, batch: Index, row: str, k: str) -> str:
        place = Index(source, inner, flat=k)
        return elements[1](source, place.of(w.dims, [channel_of(source, batch, row, filters), *place.coords()]))

    def window(source: Source, batch: Index, k: str, column: str) -> str:
        place, spot = Index(source, inner, flat=k), Index(source, positions, flat=column)
        channel = channel_of(source, batch, place.coord(0), channels)
        coords = windows.at(source, spot.coords(), place.coords()[1:])
        at = Index(source, x.dims, coords=[batch.coord(0), channel, *coords])
        if not any(windows.before + windows.after):
            return elements[0](source, at)
        result = source.variable(kind, number(0, kind))
        with source.block(f"if ({within(source, coords, x.dims)})"):
            source.line(f"{result} = {elements[0](source, at)};")
        return result

    Product(
        node.output,
        (x.dims[0], groups),
        filters,
        dims.product(positions),
        dims.product(inner),
        weight,
        window,
        lambda source, at, total: finish(source, channel_of(source, at, at.coord(2), filters), total),
    ).emit(low, node.name)


def _pool(source: Source, node: Node, at: Index, start: str, step: str) -> tuple[str, str]:
    """(combination of a window's elements, their number); `step` combines a total {0} and an element {1}."""
    x, kind = node.input(0), kind_of(node.output.dtype)
    windows = Windows.of(node, node.attributes["kernel_shape"])
    total, count = source.variable(kind, start), source.variable("int", "0")
    with ExitStack() as loops:
        inside = [loops.enter_context(source.loop(str(k))) if k > 1 else "0" for k in windows.kernel]
        coords = windows.at(source, at.coords()[2:], inside)
        if node.attributes.get("count_include_pad", 0):  # what a rounded-up window reaches beyond the padding does not
            counted = [
                f"{c} >= {-b} && {c} < {source.dim(dims.add(d, e))}"
                for c, b, e, d in zip(coords, windows.before, windows.after, x.dims[2:], strict=True)
            ]
            source.line(f"if ({' && '.join(counted)}) ++{count};")
        with source.block(f"if ({within(source, coords, x.dims)})"):
            element = pull(source, x, at.of(x.dims, [at.coord(0), at.coord(1), *coords]))
            source.line(f"{total} = {step.format(total, element)};")
            if not node.attributes.get("count_include_pad", 0):
                source.line(f"++{count};")
    return total, count


@pulls("MaxPool", work=64)
def max_pool(source: Source, node: Node, out: int, at: Index) -> str:
    kind = kind_of(node.output.dtype)
    lowest = number(float("-inf") if kind == "float" else -(2**31) if kind == "int" else 0, kind)
    return _pool(source, node, at, lowest, larger(source, kind, "{0}", "{1}"))[0]


@pulls("AveragePool", work=64)
def average_pool(source: Source, node: Node, out: int, at: Index) -> str:
    total, count = _pool(source, node, at, "0.0", "{0} + {1}")
    return f"{total} / float({count})"


@pulls("LpPool", work=64)
def lp_pool(source: Source, node: Node, out: int, at: Index) -> str:
    p = int(node.attributes.get("p", 2))
    total, _ = _pool(source, node, at, "0.0", f"{{0}} + {_power('{1}', p)}")
    return _root(source, total, p)


def _root(source: Source, total: str, p: int) -> str:
    return total if p == 1 else f"sqrt({total})" if p == 2 else source.call("power", total, number(1 / p))


def _sum(source: Source, kind: str, a: str, b: str) -> str:
    return f"{a} + {b}"


@pulls("LRN", work=64)
def local_response(source: Source, node: Node, out: int, at: Index) -> str:
    """The element over a power of its neighbours' squares along the channels."""
    x, size = node.input(0), int(node.attributes["size"])
    total = source.variable("float", "0.0")
    channel, before = at.coord(1), (size - 1) // 2
    first = source.let("int", f"max({channel} - {before}, 0)")
    with source.loop(source.let("int", f"min({channel} + {size - before}, {source.dim(x.dims[1])})"), first) as c:
        element = pull(source, x, at.replaced(1, c))
        source.line(f"{total} += {element} * {element};")
    alpha, beta, bias = (float(node.attributes.get(n, d)) for n, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    size_of = f"{number(bias)} + {number(alpha / size)} * {total}"
    return f"{pull(source, x, at)} / {source.call('power', size_of, number(beta))}"


def _power(element: str, p: int) -> str:
    return f"abs({element})" if p == 1 else f"{element} * {element}" if p == 2 else f"pow(abs({element}), {number(p)})"


@lowers("GlobalAveragePool")
@lowers("GlobalLpPool")
@lowers("GlobalMaxPool")
def global_pool(low: Lowering, node: Node) -> None:
    x, p = node.input(0), int(node.attributes.get("p", 2))
    settle(low, [x])
    rows = Rows(low, node.name, x.dims, range(2, len(x.dims)))
    source = rows.source

    def element(position: str) -> str:
        return pull(source, x, rows.element(position))

    if node.op == "GlobalMaxPool":
        total = over(rows, "float", number(float("-inf")), larger, element)
    elif node.op == "GlobalLpPool":
        total = over(rows, "float", "0.0", _sum, lambda position: _power(source.let("float", element(position)), p))
        total = _root(source, total, p)
    else:
        total = f"{over(rows, 'float', '0.0', _sum, element)} / float({source.dim(rows.length)})"
    write_row(rows, node.output, total)
    rows.emit()
