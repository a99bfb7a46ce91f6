"""Quantize the weights of any ONNX transformer: 4 and 8 bits in groups, in standard operators."""

from tlite_vk.quantize.choice import Options
from tlite_vk.quantize.quantizer import quantize_model
from tlite_vk.quantize.report import Kept, QuantizeReport, TensorReport

__all__ = ["Kept", "Options", "QuantizeReport", "TensorReport", "quantize_model"]
