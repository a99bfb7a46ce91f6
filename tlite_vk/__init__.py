"""Transformer models on any Vulkan device: ONNX in, GLSL compute shaders scheduled through Kompute.

model = tlite_vk.load("model.onnx")                  # compiles, binds to the default device
for text in model.generate("The capital of France is", max_tokens=32):
    print(text, end="")
tlite_vk.compile_to_file("model.onnx", "model.tlvk")  # for every device, to load without ONNX
tlite_vk.quantize_model("model.onnx", "small/model.onnx")  # 4 bits
session = tlite_vk.Session("any.onnx")               # any graph: names to arrays
outputs = session.run({"input_ids": ids})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Chat", "Model", "Session", "__version__", "compile_to_file", "list_devices", "load", "quantize_model"]

if TYPE_CHECKING:
    from .chat import Chat
    from .compiled.writer import compile_to_file
    from .device import list_devices
    from .generate import Model
    from .loading import load
    from .quantize import quantize_model
    from .session import Session

_HOMES = {
    "Chat": "chat",
    "Model": "generate",
    "compile_to_file": "compiled.writer",
    "load": "loading",
    "Session": "session",
    "list_devices": "device",
    "quantize_model": "quantize",
}


def __getattr__(name: str) -> Any:
    """Import the heavy parts when they are first used: `import tlite_vk` stays quick, and the command line too."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
