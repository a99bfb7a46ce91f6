"""Attention and RotaryEmbedding of the standard against the numpy oracles (which onnx's own tests check)."""

from typing import Any

import numpy as np
import pytest
from support.graphs import Builder
from support.kernels import check

from tlite_vk.device import Device
from tlite_vk.graph.ir import Value
from tlite_vk.graph.shape import symbol


def inputs(b: Builder, heads: int = 4, kv_heads: int = 2, width: int = 6, flat: bool = True) -> list[Value]:
    """Queries of T tokens, keys and values of S."""
    shapes = [("q", "T", heads), ("k", "S", kv_heads), ("v", "S", kv_heads)]
    return [b.input(n, 2, t, h * width) if flat else b.input(n, 2, h, t, width) for n, t, h in shapes]


HEADS: dict[str, Any] = {"q_num_heads": 4, "kv_num_heads": 2}
LENGTHS = [{"T": 1, "S": 1}, {"T": 5, "S": 5}, {"T": 3, "S": 130}]


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"is_causal": 1}, {"softcap": 2.0, "scale": 0.3}, {"left_window_size": 2, "right_window_size": 1}]
)
def test_plain(any_device: Device, flat: bool, options: dict[str, Any]) -> None:
    b = Builder(26)
    node = b.node("Attention", *inputs(b, flat=flat), **(HEADS if flat else {}), **options)
    check(any_device, b.graph(node), LENGTHS, tolerance=4e-6, dispatches=3)


@pytest.mark.parametrize("shape", [("T", "S"), (1, "T", "S"), (2, 1, 1, "S"), (2, 4, "T", "S")])
def test_masks(device: Device, shape: tuple[int | str, ...]) -> None:
    b = Builder()
    check(device, b.graph(b.node("Attention", *inputs(b), b.input("m", *shape), **HEADS)), LENGTHS, tolerance=4e-6)
    b = Builder()
    mask = b.node("Greater", b.input("m", *shape), b.constant(np.float32(0)))  # some queries see nothing
    check(device, b.graph(b.node("Attention", *inputs(b), mask, **HEADS)), LENGTHS, tolerance=4e-6)


def test_a_mask_that_is_too_short_hides_the_rest(device: Device) -> None:
    b = Builder()
    graph = b.graph(b.node("Attention", *inputs(b), b.input("m", "T", 3), **HEADS))
    check(device, graph, [{"T": 2, "S": 5}, {"T": 3, "S": 9}], tolerance=4e-6)


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_past_present_and_scores(device: Device, mode: int) -> None:
    b = Builder()
    past = [b.input(n, 2, 2, symbol("P", 0), 6) for n in ("pk", "pv")]
    outputs = b.nodes_of(
        "Attention",
        *inputs(b),
        b.input("m", "T", 2),
        *past,
        outputs=4,
        **HEADS,
        is_causal=1,
        softcap=3.0,
        qk_matmul_output_mode=mode,
    )
    check(device, b.graph(*outputs), [{"T": 3, "S": 3, "P": 0}, {"T": 1, "S": 1, "P": 70}], tolerance=4e-6)
    check(device, b.graph(outputs[0]), [{"T": 2, "S": 2, "P": 5}], tolerance=4e-6, dispatches=3)


@pytest.mark.parametrize("causal", [0, 1])
def test_only_the_valid_keys_count(device: Device, causal: int) -> None:
    b = Builder()
    valid = b.input("n", 2, dtype="int64")
    graph = b.graph(b.node("Attention", *inputs(b), None, None, None, valid, **HEADS, is_causal=causal))
    check(device, graph, {"T": 2, "S": 9}, inputs={"n": np.array([9, 2])}, tolerance=4e-6)
    check(device, graph, {"T": 4, "S": 64}, inputs={"n": np.array([33, 4])}, tolerance=4e-6)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("rotary", [0, 4])
@pytest.mark.parametrize("flat", [True, False])
def test_rotary_embedding(device: Device, interleaved: int, rotary: int, flat: bool) -> None:
    columns = (rotary or 8) // 2
    heads: dict[str, Any] = {"num_heads": 3} if flat else {}
    for positions in (True, False):
        b = Builder()
        x = b.input("x", 2, "T", 24) if flat else b.input("x", 2, 3, "T", 8)
        tables = [b.input(n, 50, columns) if positions else b.input(n, 2, "T", columns) for n in ("cos", "sin")]
        where = b.input("p", 2, "T", dtype="int64") if positions else None
        node = b.node(
            "RotaryEmbedding",
            x,
            *tables,
            where,
            interleaved=interleaved,
            rotary_embedding_dim=rotary,
            **heads,
        )
        check(device, b.graph(node), [{"T": 1}, {"T": 13}], highest=50, dispatches=1)
