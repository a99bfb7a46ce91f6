"""Products with packed weights against the numpy oracle, over formats, odd sizes, epilogues and both kernels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.weights import make_weight

from tlite_vk.book import Book
from tlite_vk.device import Device
from tlite_vk.graph.evaluate import evaluate
from tlite_vk.graph.infer import make_node
from tlite_vk.graph.ir import Graph, Value, constant
from tlite_vk.graph.shape import symbol
from tlite_vk.lower import Lowering
from tlite_vk.session import Session
from tlite_vk.target import Target, has_half_arithmetic

Array = npt.NDArray[Any]
FORMATS = (
    "e0m4_affine",
    "e0m4_symmetric",
    "e0m4_signed",
    "e0m4_zero_point",
    "e0m4_affine_group64",
    "e0m4_affine_group128",
    "e0m4_symmetric_group64",
    "e0m4_symmetric_group128",
    "int8_group64",
    "int8_group128",
    "int8",
    "int8_f32",
    "int8_unsigned",
    "float16",
    "bfloat16",
    "float32",
)


def linear_graph(
    weight: Value, *, activation: str = "", extras: bool = False, norm: bool = False, tokens: int | None = None
) -> Graph:
    """x [T or `tokens`, K] -> Linear, with bias and residual as `extras`."""
    rows, columns = (int(d) for d in weight.dims)
    outputs = rows // 2 if activation in ("swiglu", "geglu", "geglu_tanh") else rows
    rng = np.random.default_rng(5)
    length = tokens or symbol("T")
    x = Value("x", "float32", (length, columns))
    residual = Value("residual", "float32", (length, outputs))
    bias = constant("bias", rng.standard_normal(rows).astype(np.float32)) if extras else None
    scale = constant("scale", rng.uniform(0.5, 2, columns).astype(np.float32)) if norm else None
    attributes: dict[str, Any] = {"activation": activation} | ({"norm_epsilon": 1e-5} if norm else {})
    node = make_node("Linear", [x, weight, bias, residual if extras else None, scale], "y", attributes)
    return Graph("linear", [x, residual] if extras else [x], [node], [node.output])


def check(
    device: Device, graph: Graph, tokens: int, tolerance: float = 3e-6, *, target: Target | None = None, **changes: Any
) -> None:
    rng = np.random.default_rng(tokens)
    inputs = {v.name: rng.standard_normal((tokens, int(v.dims[1]))).astype(np.float32) for v in graph.inputs}
    target = replace(target or Target.of(device.info, "fp32"), **changes)
    got = Session(graph, device, target=target).run(inputs)["y"]
    want = evaluate(graph, inputs)["y"]
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= tolerance * max(1.0, float(np.abs(want).max()))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("cpu", [True, False])
def test_formats(any_device: Device, form: str, cpu: bool) -> None:
    weight = make_weight(form, 65, 128, np.random.default_rng(1))
    check(any_device, linear_graph(weight), 3, cpu=cpu)
    check(any_device, linear_graph(weight, tokens=1), 1, cpu=cpu)


@pytest.mark.parametrize("texel", [True, False])
@pytest.mark.parametrize(("rows", "columns"), [(1, 32), (3, 64), (127, 96), (257, 32), (64, 1024)])
def test_sizes(any_device: Device, rows: int, columns: int, texel: bool) -> None:
    weight = make_weight("e0m4_affine", rows, columns, np.random.default_rng(2))
    for tokens in (1, 2, 8, 9, 31):
        check(
            any_device,
            linear_graph(weight),
            tokens,
            texel=texel and any_device.info.limits["max_texel_buffer_elements"] >= 1 << 24,
        )


@pytest.mark.parametrize("cpu", [True, False])
@pytest.mark.parametrize("activation", ["", "swiglu", "geglu_tanh", "geglu", "silu", "gelu", "gelu_tanh", "relu"])
def test_epilogues(any_device: Device, activation: str, cpu: bool) -> None:
    weight = make_weight("e0m4_symmetric", 70, 64, np.random.default_rng(3))
    check(any_device, linear_graph(weight, activation=activation, extras=True), 5, cpu=cpu)
    check(any_device, linear_graph(weight, activation=activation, extras=True, tokens=1), 1, cpu=cpu)


@pytest.mark.parametrize("cpu", [True, False])
def test_norm_prologue(any_device: Device, cpu: bool) -> None:
    weight = make_weight("int8", 33, 160, np.random.default_rng(4))
    check(any_device, linear_graph(weight, norm=True, tokens=1), 1, cpu=cpu)
    check(any_device, linear_graph(weight, norm=True), 11, cpu=cpu)


@pytest.mark.parametrize("activation", ["", "swiglu"])
def test_a_weight_larger_than_a_storage_range_is_split(any_device: Device, activation: str) -> None:
    weight = make_weight("e0m4_affine", 90, 64, np.random.default_rng(6))
    check(any_device, linear_graph(weight, activation=activation, extras=True), 4, max_storage_range=600)
    check(any_device, linear_graph(weight, activation=activation, extras=True, tokens=1), 1, max_storage_range=600)


def half_target(device: Device) -> Target:
    """A GPU's target with half arithmetic, on whatever device is at hand; skips where it has none."""
    if not has_half_arithmetic(device.info):
        pytest.skip("this device has no half arithmetic")
    return replace(Target.of(device.info, "fp32"), cpu=False, texel=False, half=True)


HALF_FORMS = ("e0m4_affine", "e0m4_symmetric", "e0m4_signed", "e0m4_zero_point", "e0m4_group64", "int8")


@pytest.mark.parametrize("form", HALF_FORMS)
@pytest.mark.parametrize(("rows", "columns"), [(1, 64), (65, 128), (258, 1024)])
@pytest.mark.parametrize("norm", [True, False])
def test_half_arithmetic(any_device: Device, form: str, rows: int, columns: int, norm: bool) -> None:
    target = half_target(any_device)
    weight = make_weight(form, rows, columns, np.random.default_rng(11))
    for changes in ({}, {"max_shared_bytes": 4096, "max_invocations": 128}):  # the row in one piece; in several
        check(any_device, linear_graph(weight, extras=True, norm=norm, tokens=1), 1, 4e-3, target=target, **changes)


@pytest.mark.parametrize("form", ["e0m4_affine", "e0m4_symmetric"])
def test_half_arithmetic_gated(any_device: Device, form: str) -> None:
    weight = make_weight(form, 140, 96, np.random.default_rng(12))
    graph = linear_graph(weight, activation="swiglu", extras=True, norm=True, tokens=1)
    check(any_device, graph, 1, 4e-3, target=half_target(any_device))


def test_large_values_do_not_overflow_half_arithmetic(any_device: Device) -> None:
    """An input of 3065, as SmolLM2 has before a down projection, times the largest code, over eight products."""
    weight = make_weight("e0m4_affine", 8, 64, np.random.default_rng(13))
    graph = linear_graph(weight, tokens=1)
    x = np.full((1, 64), 3065.0, np.float32)
    got = Session(graph, any_device, target=half_target(any_device)).run({"x": x})["y"]
    want = evaluate(graph, {"x": x})["y"]
    assert np.abs(got - want).max() <= 2e-3 * np.abs(want).max() + 1.0


def test_half_arithmetic_is_used_only_where_offered(device: Device) -> None:
    for half, form, want in ((True, "int8", True), (True, "float16", False), (False, "int8", False)):
        graph = linear_graph(make_weight(form, 64, 64, np.random.default_rng(8)), tokens=1)
        target = replace(Target.of(device.info, "fp16"), cpu=False, half=half)
        low = Lowering(graph, target, Book(False), {}, {}, {graph.inputs[0]: "x"})
        low.run()
        assert low.book.kernels[0].shader.startswith("linear_half") == want


@pytest.mark.parametrize("form", ["e0m4_affine", "e0m4_symmetric", "int8", "float16"])
@pytest.mark.parametrize("activation", ["", "swiglu"])
@pytest.mark.parametrize(("rows", "columns"), [(288, 160), (4128, 192), (19232, 64)])  # each size of tile
def test_cooperative_matrices(device: Device, form: str, activation: str, rows: int, columns: int) -> None:
    """Where the device has them (a GPU: TLITE_VK_TEST_DRIVER=system); operands are halves: so is the tolerance."""
    target = Target.of(device.info, "fp16")
    if not target.matrix:
        pytest.skip("this device has no cooperative matrices")
    weight = make_weight(form, rows, columns, np.random.default_rng(8))
    for tokens in (16, 48, 144, 272) if rows < 1000 else (144,):
        node = linear_graph(weight, activation=activation, tokens=tokens).nodes[0]
        x = Value("x", "float32", (tokens, columns))
        residual = Value("residual", "float32", node.output.dims)
        fused = make_node("Linear", [x, weight, None, residual], "y", node.attributes)
        check(device, Graph("linear", [x, residual], [fused], [fused.output]), tokens, tolerance=4e-3, target=target)


def test_halves_between_cooperative_matrices(device: Device) -> None:
    """What only matrix products read is stored as halves: norm, gated product, product."""
    target = Target.of(device.info, "fp16")
    if not target.matrix:
        pytest.skip("this device has no cooperative matrices")
    rng = np.random.default_rng(9)
    x = Value("x", "float32", (48, 128))
    scale = constant("scale", rng.uniform(0.5, 2, 128).astype(np.float32))
    norm = make_node("RMSNorm", [x, scale], "n", {"epsilon": 1e-5})
    weight = make_weight("e0m4_affine", 320, 128, rng)
    weight.name = "w_up"
    up = make_node("Linear", [norm.output, weight], "u", {"activation": "swiglu"})
    down = make_node("Linear", [up.output, make_weight("e0m4_symmetric", 64, 160, rng)], "y")
    graph = Graph("mlp", [x], [norm, up, down], [down.output])
    check(device, graph, 48, tolerance=4e-3, target=target)


def test_cooperative_matrices_are_used_only_where_offered(device: Device) -> None:
    own = Target.of(device.info, "fp16")
    weight = make_weight("e0m4_affine", 64, 64, np.random.default_rng(8))
    for matrix, multiple, want in ((True, 16, True), (True, 1, False), (False, 16, False)):
        graph = linear_graph(weight)
        target = replace(own, cpu=False, matrix=matrix)
        low = Lowering(graph, target, Book(False), {}, {}, {graph.inputs[0]: "x"}, multiple=multiple)
        low.run()
        assert low.book.kernels[0].shader.startswith("linear_matrix") == want
