"""A quantized matrix in ONNX: its initializers, and the standard operators that turn them into floats.

    levels [N, G, g] -- DequantizeLinear(scale, zero point) -- (Add of the minimum) -- Reshape -> float32 [N, K]

Groups of g along a row share a scale; G = K / g. `tlite_vk.graph` folds this into one weight that stays in its bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from onnx import TensorProto

from tlite_vk.convert.onnx_writer import OnnxWriter


class Level(Enum):
    """Storage of the integer levels of a group."""

    UINT4 = "uint4"
    INT4 = "int4"
    INT8 = "int8"


_LEVEL_TYPES: Final = {Level.UINT4: TensorProto.UINT4, Level.INT4: TensorProto.INT4, Level.INT8: TensorProto.INT8}


@dataclass(frozen=True)
class QuantizedLayout:
    """A matrix [rows, columns] as levels in groups; sizes of its stored parts in bytes.

    half: scale and minimum are fp16, else fp32. affine: a minimum is added. zero: an integer zero point per group.
    """

    level: Level
    rows: int
    columns: int
    group: int
    half: bool
    affine: bool
    zero: bool = False

    @property
    def groups(self) -> int:
        return self.columns // self.group

    @property
    def level_row(self) -> int:
        """Bytes of the levels of one row."""
        return self.columns if self.level is Level.INT8 else self.columns // 2

    @property
    def scale_row(self) -> int:
        """Bytes of the scales of one row; as many of the minimums."""
        return self.groups * (2 if self.half else 4)

    @property
    def nbytes(self) -> int:
        """Everything; zero points take half a byte each."""
        scales = self.scale_row * (2 if self.affine else 1)
        return self.rows * (self.level_row + scales) + (-(-self.rows * self.groups // 2) if self.zero else 0)


def add_quantized(writer: OnnxWriter, name: str, layout: QuantizedLayout, value: str = "") -> str:
    """Reserve `name`.levels, .scale, .min and .zero as the layout has them, and add the nodes.

    Returns the float32 value [rows, columns], named `value` (default: `name`). The caller fills the reserved parts.
    """
    n, k, g = layout.rows, layout.columns, layout.group
    scale_type = TensorProto.FLOAT16 if layout.half else TensorProto.FLOAT
    parameters = (n, layout.groups, 1)
    levels = writer.reserve(f"{name}.levels", _LEVEL_TYPES[layout.level], (n, layout.groups, g), n * layout.level_row)
    inputs = [levels, writer.reserve(f"{name}.scale", scale_type, parameters, n * layout.scale_row)]
    if layout.zero:
        size = -(-n * layout.groups // 2)
        inputs.append(writer.reserve(f"{name}.zero", _LEVEL_TYPES[layout.level], parameters, size))
    minimum = writer.reserve(f"{name}.min", scale_type, parameters, n * layout.scale_row) if layout.affine else None
    blocks = {"axis": 2, "block_size": g} | ({"output_dtype": int(TensorProto.FLOAT)} if layout.half else {})
    result = writer.node("DequantizeLinear", inputs, f"{name}.scaled", **blocks)
    if minimum is not None:
        if layout.half:
            minimum = writer.node("Cast", [minimum], f"{name}.min_f32", to=TensorProto.FLOAT)
        result = writer.node("Add", [result, minimum], f"{name}.grouped")
    return writer.node("Reshape", [result, writer.int64([n, k])], value or name)
