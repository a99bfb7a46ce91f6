"""Where the queries, keys and values of an attention come from: columns of a projection, behind rotation and norm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tlite_vk.graph.elements.moves import Index, Place
from tlite_vk.graph.elements.reader import Reader
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.ops.dtypes import INDICES
from tlite_vk.graph.shape import Dim, equal_shapes

from .base import RejectedError, Rewriter, require
from .reading import Heads, projected


@dataclass(frozen=True)
class Rotation:
    """How heads are rotated. tables: cos, sin [positions, r/2], constants; or frequencies [r/2] and a factor.
    positions: the tensor [B, T] that says where each row stands."""

    positions: Value
    interleaved: int
    dim: int  # rotated leading elements of a head; 0 for all
    tables: tuple[Value, Value] | None
    frequencies: bytes = b""
    scale: float = 1.0


@dataclass(frozen=True)
class Norm:
    """An RMS norm over each head, before rotation."""

    scale: Value  # [D]
    epsilon: float


@dataclass(frozen=True)
class Source:
    """Heads [H, D] at columns offset + D*h + d of `value` [B, T, N]."""

    value: Value
    offset: int
    rotation: Rotation | None
    norm: Norm | None


def find_source(
    rewriter: Rewriter, reader: Reader, like: Node, value: Value, heads: int, width: int, what: str
) -> Source:
    """The source of an operand [B, H, T, D] or [B, T, H*D]. Raises RejectedError where it cannot be one."""
    whole = len(value.dims) == 4
    view = Heads.of(reader, value.dims[0], heads, value.dims[2 if whole else 1], width)
    b, h, t, d = view.index
    place: Place = (value, view.index if whole else (b, t, h.scaled(width) + d))
    rotation: Rotation | None = None
    norm: Norm | None = None
    while True:
        place = reader.source(*place)
        maker = rewriter.producer.get(place[0])
        if maker is not None and maker.op == "RotaryEmbedding" and maker.domain == "" and rotation is None:
            require(norm is None, f"its {what} are normalized behind their rotation")
            require(_are_heads(maker, place[1], view), f"its {what} are rotated as other heads")
            rotation, place = _rotation(rewriter, maker), (maker.input(0), place[1])
        elif maker is not None and maker.op == "RMSNorm" and maker.domain == "tlite" and norm is None:
            if maker.output.dims[-1] != width or place[1][-1] != d:
                break
            norm, place = Norm(maker.input(1), float(maker.attributes["epsilon"])), (maker.input(0), place[1])
        else:
            break
    offset = view.offset(place)
    if offset is not None:
        return Source(place[0], offset, rotation, norm)
    own = projected(rewriter, like, place, view)
    if own is None:
        own = _joined(rewriter, like, place, view, what)
    return Source(own, 0, rotation, norm)


def _are_heads(rotation: Node, at: Index, view: Heads) -> bool:
    """Whether what is read of a RotaryEmbedding's heads is all of each."""
    place = rotation.output, at
    if len(rotation.output.dims) == 4:
        return view.are(place)
    columns = view.count * view.width
    return (
        view.offset(place) == 0
        and rotation.output.dims[2] == columns
        and rotation.attributes["num_heads"] == view.count
    )


def _joined(rewriter: Rewriter, like: Node, place: Place, view: Heads, what: str) -> Value:
    """The heads as rows [B, T, H*D], from [B, T, H, D] or [B, H, T, D]."""
    value = place[0]
    nodes: list[Node] = []
    if view.are(place):
        nodes.append(rewriter.make("Transpose", [value], like, {"perm": [0, 2, 1, 3]}, domain=""))
        value = nodes[-1].output
    elif not view.are_rows_of(place):
        raise RejectedError(f"its {what} are not heads of one tensor")
    shape = rewriter.constant(f"{value.name}.rows", np.asarray([0, 0, view.count * view.width], np.int64))
    nodes.append(rewriter.make("Reshape", [value, shape], like, domain=""))
    rewriter.insert_before(like, nodes)
    return nodes[-1].output


def _rotation(rewriter: Rewriter, node: Node) -> Rotation:
    a = node.attributes
    interleaved, dim = int(a.get("interleaved", 0)), int(a.get("rotary_embedding_dim", 0))
    cos, sin, positions = node.input(1), node.input(2), node.optional(3)
    if positions is not None:
        require(cos.constant is not None and sin.constant is not None, "its cos and sin are not constants")
        return Rotation(positions, interleaved, dim, (cos, sin))
    angles = rewriter.maker(cos, "RotaryAngles", domain="tlite")
    if angles is None or rewriter.resolve(sin) is not angles.outputs[1]:
        raise RejectedError("its rotation has no positions")
    frequencies = np.asarray(angles.input(1).array(), np.float32)
    return Rotation(angles.input(0), interleaved, dim, None, frequencies.tobytes(), float(angles.attributes["scale"]))


def check_positions(rewriter: Rewriter, reader: Reader, positions: Value, past: Dim | None) -> None:
    """Raise RejectedError unless the tensor says of row t that it stands at P + t: as an input does, or by its formula.

    past: P as a dimension; None where no shape says it, so that only an input will do.
    """
    positions = rewriter.resolve(positions)
    if positions in rewriter.inputs:
        require(positions.dtype in INDICES, f"the positions ({positions.name}) are not integers")
        require(positions not in rewriter.outputs, f"the positions ({positions.name}) are a graph output")
        return
    index = tuple(reader.atoms.index(n, d) for n, d in zip("bt", positions.dims, strict=True))
    source, at = reader.source(positions, index)
    if source in rewriter.inputs and source.dtype in INDICES and at == index:
        require(equal_shapes(source.dims, positions.dims), f"its positions are part of {source}")
        return
    if past is None:
        raise RejectedError(f"its positions ({positions.name}) are not a graph input")
    expected = reader.atoms.dim(past) + index[1]
    found = reader.read(positions, index)
    require(found == expected, f"its positions are {found}, not {expected}")
