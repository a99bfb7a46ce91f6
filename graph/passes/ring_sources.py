"""Where the queries, keys and values of an attention come from: columns of a projection, behind rotation and norm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tlite_vk.graph.elements.moves import Index, Place
from tlite_vk.graph.elements.reader import Reader
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.ops.dtypes import INDICES
from tlite_vk.graph.shape import Dim

from .base import RejectedError, Rewriter, require
from .reading import columns_offset, projected


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
    b, h, t, d = _indices(reader, value, heads, width)
    place: Place = (value, (b, h, t, d) if len(value.dims) == 4 else (b, t, h.scaled(width) + d))
    rotation: Rotation | None = None
    norm: Norm | None = None
    while True:
        place = reader.source(*place)
        maker = rewriter.producer.get(place[0])
        if maker is not None and maker.op == "RotaryEmbedding" and maker.domain == "" and rotation is None:
            require(norm is None, f"its {what} are normalized behind their rotation")
            require(_is_heads(maker, place[1], (b, h, t, d), heads, width), f"its {what} are rotated as other heads")
            rotation, place = _rotation(rewriter, maker), (maker.input(0), place[1])
        elif maker is not None and maker.op == "RMSNorm" and maker.domain == "tlite" and norm is None:
            if maker.output.dims[-1] != width or place[1][-1] != d:
                break
            norm, place = Norm(maker.input(1), float(maker.attributes["epsilon"])), (maker.input(0), place[1])
        else:
            break
    offset = columns_offset(reader, place, (b, h, t, d), width)
    if offset is not None:
        return Source(place[0], offset, rotation, norm)
    own = projected(rewriter, like, place, (b, h, t, d), heads, width)
    if own is None:
        own = _joined(rewriter, like, place, (b, h, t, d), heads * width, what)
    return Source(own, 0, rotation, norm)


def _indices(reader: Reader, value: Value, heads: int, width: int) -> Index:
    rows = value.dims[2] if len(value.dims) == 4 else value.dims[1]
    extents = (value.dims[0], heads, rows, width)
    return tuple(reader.atoms.index(n, e) for n, e in zip("bhtd", extents, strict=True))


def _is_heads(maker: Node, at: Index, index: Index, heads: int, width: int) -> bool:
    b, h, t, d = index
    if len(maker.input(0).dims) == 4:
        return at == (b, h, t, d)
    return at == (b, t, h.scaled(width) + d) and maker.attributes.get("num_heads", 0) == heads


def _joined(rewriter: Rewriter, like: Node, place: Place, index: Index, columns: int, what: str) -> Value:
    """The heads as rows [B, T, H*D], from [B, T, H, D] or [B, H, T, D]."""
    value, at = place
    b, h, t, d = index
    nodes: list[Node] = []
    if at == (b, h, t, d) and len(value.dims) == 4:
        nodes.append(rewriter.make("Transpose", [value], like, {"perm": [0, 2, 1, 3]}, domain=""))
        value = nodes[-1].output
    elif at != (b, t, h, d) or len(value.dims) != 4:
        raise RejectedError(f"its {what} are not heads of one tensor")
    shape = rewriter.constant(f"{value.name}.rows", np.asarray([0, 0, columns], np.int64))
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
        return
    if past is None:
        raise RejectedError(f"its positions ({positions.name}) are not a graph input")
    expected = reader.atoms.dim(past) + index[1]
    found = reader.read(positions, index)
    require(found == expected, f"its positions are {found}, not {expected}")
