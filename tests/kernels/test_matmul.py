"""Products of any two values against the numpy oracles: odd and round sizes, batches, vectors, integers."""

from typing import Any

import numpy as np
import pytest
from support.graphs import Builder
from support.kernels import check

from tlite_vk.device import Device


@pytest.mark.parametrize("size", [(1, 1, 1), (3, 5, 2), (127, 3, 65), (1, 257, 64), (64, 64, 1), (33, 0, 4)])
def test_sizes(any_device: Device, size: tuple[int, int, int]) -> None:
    m, k, n = size
    b = Builder()
    check(any_device, b.graph(b.node("MatMul", b.input("a", m, k), b.input("b", k, n))), tolerance=4e-6)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((5,), (5, 3)),
        ((4, 5), (5,)),
        ((5,), (5,)),
        ((2, 3, 4, 5), (5, 6)),
        ((2, 1, 4, 5), (3, 5, 6)),
        ((5,), (2, 5, 3)),
    ],
)
def test_vectors_and_batches(device: Device, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    b = Builder()
    check(device, b.graph(b.node("MatMul", b.input("a", *left), b.input("b", *right))))


def test_symbolic_lengths(device: Device) -> None:
    b = Builder()
    keys = b.node("Transpose", b.input("k", "B", 2, "S", 8), perm=[0, 1, 3, 2])
    graph = b.graph(b.node("MatMul", b.input("q", "B", 2, "T", 8), keys))
    check(device, graph, [{"B": 1, "T": 1, "S": 1}, {"B": 2, "T": 5, "S": 67}], dispatches=1)


def test_integers(device: Device) -> None:
    b = Builder()
    graph = b.graph(b.node("MatMul", b.input("a", 5, 9, dtype="int32"), b.input("b", 9, 6, dtype="int32")))
    check(device, graph, highest=1000)


@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_gemm(device: Device, trans_a: int, trans_b: int) -> None:
    b = Builder()
    a, w = b.input("a", *((7, 5) if trans_a else (5, 7))), b.input("b", *((6, 7) if trans_b else (7, 6)))
    node = b.node("Gemm", a, w, b.input("c", 5, 1), alpha=0.5, beta=-2.0, transA=trans_a, transB=trans_b)
    check(device, b.graph(node))


@pytest.mark.parametrize(
    "equation", ["ij,jk->ik", "bij,bjk->bik", "i,i->", "ij->ji", "ij->i", "bhtd,bhsd->bhts", "ii->i", "ij,jk"]
)
def test_einsum(device: Device, equation: str) -> None:
    sizes = dict(zip("ijkbhtsd", (3, 4, 5, 2, 3, 6, 7, 8), strict=True))
    b = Builder()
    terms = equation.split("->")[0].split(",")
    inputs = [
        b.input(f"x{n}", *(sizes["i"] if term == "ii" else sizes[c] for c in term)) for n, term in enumerate(terms)
    ]
    check(device, b.graph(b.node("Einsum", *inputs, equation=equation)))


@pytest.mark.parametrize("activation", ["", "swiglu", "geglu_tanh", "geglu", "silu", "gelu", "gelu_tanh", "relu"])
@pytest.mark.parametrize("norm", [False, True])
def test_projections_without_a_packed_weight(device: Device, activation: str, norm: bool) -> None:
    """13 columns do not divide into chunks: the generic product takes over."""
    rng = np.random.default_rng(3)
    b = Builder()
    x, rows = b.input("x", "T", 13), 6
    outputs = rows // 2 if "glu" in activation else rows
    weight, bias, scale = (b.constant(rng.standard_normal(s).astype(np.float32)) for s in ((rows, 13), rows, 13))
    extra: dict[str, Any] = {"norm_epsilon": 1e-5} if norm else {}
    inputs = [x, weight, bias, b.input("r", "T", outputs), *([scale] if norm else [])]
    check(
        device, b.graph(b.node("Linear", *inputs, domain="tlite", activation=activation, **extra)), [{"T": 1}, {"T": 9}]
    )


def test_embeddings_and_norms_of_odd_widths(device: Device) -> None:
    b = Builder()
    table = b.constant(np.random.default_rng(1).standard_normal((11, 7)).astype(np.float32))
    x = b.node("Embedding", b.input("ids", 1, "T", dtype="int64"), table, domain="tlite")
    normed = b.node("RMSNorm", x, b.constant(np.arange(7, dtype=np.float32)), domain="tlite", epsilon=1e-5)
    check(device, b.graph(x, normed), [{"T": 1}, {"T": 9}], highest=11)
