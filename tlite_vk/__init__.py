"""Transformer models on any Vulkan device: ONNX in, GLSL compute shaders scheduled through Kompute."""

__version__ = "0.1.0"
