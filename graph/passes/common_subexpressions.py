"""Two nodes that compute the same from the same -> one."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from tlite_vk.graph.ir import Value

from .base import Pass, Rewriter

MAX_COMPARED = 4096  # elements of constants that are compared


class CommonSubexpressions(Pass):
    name: ClassVar[str] = "common-subexpressions"

    def rewrite(self, rewriter: Rewriter) -> None:
        seen: dict[object, Any] = {}
        for node in rewriter.nodes:
            inputs = tuple(None if v is None else _same(rewriter.resolve(v)) for v in node.inputs)
            attributes = tuple((k, _key(v)) for k, v in sorted(node.attributes.items()))
            first = seen.setdefault((node.domain, node.op, inputs, attributes, len(node.outputs)), node)
            if first is node or node.op.startswith(("Random", "Bernoulli", "Multinomial")):
                continue
            if any(v in rewriter.outputs for v in node.outputs):
                rewriter.reject(node, "its output is a graph output")
                continue
            for old, new in zip(node.outputs, first.outputs, strict=True):
                rewriter.alias(old, new)
            rewriter.matched(node, f"same as {first.name}")


def _same(value: Value) -> object:
    """Equal for one value, and for small tensors whose elements are known to be the same."""
    if isinstance(value.constant, np.ndarray) and value.constant.size <= MAX_COMPARED:
        return (value.dtype, _key(value.constant))
    if value.content is not None and value.content.size <= MAX_COMPARED:
        return (value.dtype, value.content.shape, tuple(value.content.reshape(-1).tolist()))
    return id(value)


def _key(value: Any) -> object:
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    return tuple(value) if isinstance(value, list) else value
