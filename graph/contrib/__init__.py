"""Operators of the domain com.microsoft, as onnxruntime's model builder and optimizer write them, in standard ones.

`infer` calls `expand` where it meets one of them, when the shapes of its inputs are known, so that rules, passes,
kernels and oracles never see it. One rewriter per operator, registered by name in the files of this package:

    @rewrites("QuickGelu")
    def quick_gelu(body: Body, node: Node) -> None:
        body.end("Swish", node.input(0), alpha=float(body.take("alpha", 1.702)))
"""

from . import attention, elementwise, matmul, quantized  # noqa: F401  (each registers its rewriters)
from .attention import implied_lengths, refuse_shared_buffers
from .body import expand, is_contrib, rewritten_operators

__all__ = ["expand", "implied_lengths", "is_contrib", "refuse_shared_buffers", "rewritten_operators"]
