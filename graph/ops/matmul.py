"""Matrix products: MatMul, Gemm, Einsum."""

from __future__ import annotations

import numpy as np

from tlite_vk.graph.shape import Dim, Shape

from .registry import Array, Tensor, operator
from .rules import broadcast, require, require_equal, same_dtype


def matmul_shape(a: Shape, b: Shape) -> Shape:
    """Numpy's matmul over symbolic shapes."""
    require(min(len(a), len(b)) > 0, "it needs at least vectors")
    require_equal(a[-1], b[-min(2, len(b))], "the inner dimensions differ")
    rows, columns = a[-2:-1], b[-1:] if len(b) > 1 else ()  # a vector gives no dimension
    return (*broadcast(a[:-2], b[:-2]), *rows, *columns)


@operator("MatMul")
def matmul(a: Array, b: Array) -> Array:
    return np.asarray(np.matmul(a, b), a.dtype)


@matmul.rule
def _(a: Tensor, b: Tensor) -> Tensor:
    return Tensor(same_dtype(a, b), matmul_shape(a.shape, b.shape))


@operator("Gemm")
def gemm(
    a: Array,
    b: Array,
    c: Array | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
) -> Array:
    y = alpha * np.matmul(a.T if transA else a, b.T if transB else b)
    return np.asarray(y if c is None else y + beta * c, a.dtype)


@gemm.rule
def _(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
) -> Tensor:
    require(a.rank == 2 and b.rank == 2, "it needs two matrices")
    left, right = a.shape[::-1] if transA else a.shape, b.shape[::-1] if transB else b.shape
    require_equal(left[1], right[0], "the inner dimensions differ")
    return Tensor(same_dtype(a, b, c), (left[0], right[1]))


@operator("Einsum")
def einsum(*inputs: Array, equation: str) -> Array:
    dtype = inputs[0].dtype
    wide = [x.astype(np.float32) if dtype.itemsize == 2 else x for x in inputs]
    return np.asarray(np.einsum(equation.replace(" ", ""), *wide)).astype(dtype)


@einsum.rule
def _(*inputs: Tensor, equation: str) -> Tensor:
    text = equation.replace(" ", "")
    require("..." not in text, "an ellipsis is not supported")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    require(len(terms) == len(inputs), f"{len(terms)} terms for {len(inputs)} inputs")
    extents: dict[str, Dim] = {}
    for term, tensor in zip(terms, inputs, strict=True):
        require(len(term) == tensor.rank, f"term {term!r} for rank {tensor.rank}")
        for letter, d in zip(term, tensor.shape, strict=True):
            require(extents.setdefault(letter, d) == d, f"index {letter!r} has two extents")
    if not arrow:
        right = "".join(sorted(c for c in extents if left.count(c) == 1))
    return Tensor(same_dtype(*inputs), tuple(extents[c] for c in right))
