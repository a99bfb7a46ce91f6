"""Which chains of operators become one kernel, and that the results stay the same."""

from pathlib import Path

import numpy as np
import pytest
from support.graphs import Builder
from support.kernels import check, targets
from support.modules import validate

from tlite_vk.book import Book
from tlite_vk.device import Device
from tlite_vk.errors import ModelError
from tlite_vk.graph.ir import Graph, Value
from tlite_vk.kernels.generated.fusion import MAX_NODES
from tlite_vk.lower import Lowering
from tlite_vk.session import Session
from tlite_vk.target import Target

CASES = [{"T": 1}, {"T": 7}, {"T": 130}]


def rotated(b: Builder, x: Value, cos: Value, sin: Value) -> Value:
    """x * cos + concat(-x2, x1) * sin, as exporters write it."""
    first, second = (
        b.node("Slice", x, *(b.constant(np.array([v])) for v in (start, start + 4, 3))) for start in (0, 4)
    )
    turned = b.node("Concat", b.node("Neg", second), first, axis=-1)
    return b.node("Add", b.node("Mul", x, cos), b.node("Mul", turned, sin))


def test_a_rotary_embedding_is_one_kernel(device: Device) -> None:
    b = Builder()
    x, cos, sin = b.input("x", 1, 3, "T", 8), b.input("cos", 1, 1, "T", 8), b.input("sin", 1, 1, "T", 8)
    check(device, b.graph(rotated(b, x, cos, sin)), CASES, dispatches=1)


def test_a_decomposed_gelu_is_one_kernel(device: Device) -> None:
    b = Builder()
    x = b.node("Add", b.input("x", "T", 12), b.input("bias", 12))  # read three times, by what ends in one node
    cubed = b.node("Mul", b.node("Mul", x, x), x)
    inner = b.node("Tanh", b.node("Mul", b.node("Add", x, cubed), b.constant(np.float32(0.8))))
    graph = b.graph(b.node("Mul", x, b.node("Add", inner, b.constant(np.float32(1)))))
    check(device, graph, CASES, dispatches=1)


def test_a_value_with_readers_that_do_not_meet_is_written_once(device: Device) -> None:
    b = Builder()
    x = b.node("Exp", b.input("x", "T", 5))
    graph = b.graph(b.node("Neg", x), b.node("Tanh", x))
    check(device, graph, CASES, dispatches=3)


def test_a_graph_output_within_a_chain_is_written(device: Device) -> None:
    b = Builder()
    middle = b.node("Exp", b.input("x", "T", 5))
    check(device, b.graph(middle, b.node("Neg", middle)), CASES, dispatches=2)


def test_views_cost_no_kernel(device: Device) -> None:
    b = Builder()
    x = b.input("x", "T", 3, 4)
    flat = b.node("Reshape", x, b.constant(np.array([-1, 12])))
    turned = b.node("Transpose", b.node("Unsqueeze", flat, b.constant(np.array([0]))), perm=[0, 2, 1])
    check(device, b.graph(b.node("Relu", turned)), CASES, dispatches=1)
    check(device, b.graph(flat), CASES, dispatches=0)


def test_a_view_with_two_readers_is_computed_in_both(device: Device) -> None:
    b = Builder()
    turned = b.node("Transpose", b.input("x", "T", 5), perm=[1, 0])
    check(device, b.graph(b.node("Exp", turned), b.node("Neg", turned)), CASES, dispatches=2)


def test_costly_chains_are_not_repeated_for_every_broadcast_element(device: Device) -> None:
    b = Builder()
    scale = b.input("s", "T", 1)
    for _ in range(8):
        scale = b.node("Tanh", scale)
    check(device, b.graph(b.node("Mul", b.input("x", "T", 64), scale)), CASES, dispatches=2)
    b = Builder()
    cheap = b.node("Sqrt", b.input("s", "T", 1))
    assert Session(b.graph(b.node("Mul", b.input("x", "T", 64), cheap)), device).dispatches == 1


def test_chains_end_at_the_number_of_buffers_that_every_device_has(device: Device) -> None:
    b = Builder()
    total = b.input("x0", "T", 3)
    for i in range(1, 16):
        total = b.node("Add", total, b.input(f"x{i}", "T", 3))
    session = Session(b.graph(total), device)
    check(device, b.graph(total), CASES)
    assert session.dispatches == 3  # 7 values come in at a time, one goes out
    assert all(len(kernel.bindings) <= 8 for kernel in session.program.kernels)


def test_long_chains_are_cut(device: Device) -> None:
    b = Builder()
    x = b.input("x", "T", 3)
    for _ in range(3 * MAX_NODES):
        x = b.node("Add", x, b.constant(np.float32(0.25)))
    session = Session(b.graph(x), device)
    check(device, b.graph(x), CASES)
    assert 2 < session.dispatches < 8


def test_equal_layers_share_their_kernels(device: Device) -> None:
    b = Builder()
    x = b.input("x", "T", 6)
    for _ in range(5):
        x = b.node("Softmax", b.node("Mul", x, b.input(f"w{len(b.inputs)}", 6)), axis=-1)
    session = Session(b.graph(x), device)
    assert session.dispatches == 5 and len(session.program.kernels) == 1


def test_concatenations_of_many_values(device: Device) -> None:
    b = Builder()
    parts = [b.input(f"x{i}", "T", i % 3 + 1, 2) for i in range(11)]
    check(device, b.graph(b.node("Concat", *parts, axis=1)), CASES)


def test_shape_arithmetic_reaches_a_kernel_as_numbers(device: Device) -> None:
    b = Builder()
    x = b.input("x", "T", 5)
    length = b.node("Gather", b.node("Shape", x), b.constant(np.array(0)), axis=0)
    graph = b.graph(b.node("Div", x, b.node("Cast", length, to=1)), b.node("Shape", x))
    check(device, graph, CASES, dispatches=1)


def test_what_has_no_kernel_is_refused_by_name(device: Device) -> None:
    b = Builder()
    odd = b.node("RandomThing", b.input("x", 3))
    graph_inputs, node = b.inputs, b.nodes[0]
    odd.dtype, odd.shape = "float32", (3,)
    graph = Graph("g", graph_inputs, [node], [odd])
    low = Lowering(graph, Target.of(device.info, "fp32"), Book(False), {}, {}, {})
    with pytest.raises(ModelError, match=r"RandomThing node .* no kernel"):
        low.run()


def test_every_kind_of_kernel_is_valid(device: Device, tmp_path: Path) -> None:
    b = Builder(26)
    x, y, i = b.input("x", 4, "T"), b.input("y", "T", 200), b.input("i", 4, 1, dtype="int64")
    product = b.node("MatMul", x, y)
    top = b.nodes_of("TopK", product, b.constant(np.array([3])), outputs=2)
    outputs = [
        b.node("Softmax", product),
        b.node("ArgMax", product, axis=1),
        b.node("LayerNormalization", b.node("Pow", product, x_of(b, 200)), x_of(b, 200)),
        b.node("ScatterND", product, i, product, reduction="add"),
        b.node("CumSum", product, b.constant(np.array(1))),
        b.node("Mod", b.node("Cast", product, to=3), b.constant(np.int8(3))),
        b.node("Conv", b.node("Reshape", product, b.constant(np.array([1, 4, 10, 20]))), b.input("w", 2, 4, 3, 3)),
        *top,
    ]
    for target in targets(device):
        session = Session(b.graph(*outputs), device, target=target)
        assert len(session.program.modules) >= 8
        for module in session.program.modules.values():
            validate(module, tmp_path)


def x_of(b: Builder, size: int) -> Value:
    return b.constant(np.linspace(0.5, 2, size).astype(np.float32))
