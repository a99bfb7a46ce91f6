"""Convert GGUF models of the Llama type to ONNX, weights bit for bit, with tokenizer and settings beside them."""

from tlite_vk.convert.converter import ConvertReport, convert

__all__ = ["ConvertReport", "convert"]
