"""The graph compiler: ONNX in, a fused graph with a memory plan out. Pure Python; knows nothing of Vulkan."""
