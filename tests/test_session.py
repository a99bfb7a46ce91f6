"""Any graph through a Session: models as exporters write them, with several symbolic lengths, against the oracles."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.graphs import Builder, random_inputs
from support.kernels import check

from tlite_vk.device import Device
from tlite_vk.errors import InputError, ModelError
from tlite_vk.graph.evaluate import evaluate
from tlite_vk.graph.ir import Graph, Value
from tlite_vk.session import Session

Array = npt.NDArray[Any]
WIDTH, HEADS, HEAD = 48, 3, 16
RNG = np.random.default_rng(7)


def weight(b: Builder, *shape: int) -> Value:
    return b.constant((RNG.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32))


def ints(b: Builder, *values: int) -> Value:
    return b.constant(np.array(values, np.int64))


def dense(b: Builder, x: Value, outputs: int) -> Value:
    return b.node("Add", b.node("MatMul", x, weight(b, WIDTH, outputs)), weight(b, outputs))


def layer_norm(b: Builder, x: Value) -> Value:
    """As older exporters write it: means, differences, powers."""
    centred = b.node("Sub", x, b.node("ReduceMean", x, ints(b, -1)))
    variance = b.node("ReduceMean", b.node("Pow", centred, b.constant(np.float32(2))), ints(b, -1))
    root = b.node("Sqrt", b.node("Add", variance, b.constant(np.float32(1e-5))))
    return b.node("Add", b.node("Mul", b.node("Div", centred, root), weight(b, WIDTH)), weight(b, WIDTH))


def split_heads(b: Builder, x: Value, perm: list[int]) -> Value:
    return b.node("Transpose", b.node("Reshape", x, ints(b, 0, 0, HEADS, HEAD)), perm=perm)


def attention(b: Builder, x: Value, mask: Value | None) -> Value:
    q, k, v = (dense(b, x, WIDTH) for _ in range(3))
    q, k, v = split_heads(b, q, [0, 2, 1, 3]), split_heads(b, k, [0, 2, 3, 1]), split_heads(b, v, [0, 2, 1, 3])
    scores = b.node("Div", b.node("MatMul", q, k), b.constant(np.float32(np.sqrt(HEAD))))
    if mask is not None:
        scores = b.node("Add", scores, mask)
    mixed = b.node("Transpose", b.node("MatMul", b.node("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    return dense(b, b.node("Reshape", mixed, ints(b, 0, 0, WIDTH)), WIDTH)


def gelu(b: Builder, x: Value) -> Value:
    erf = b.node("Erf", b.node("Div", x, b.constant(np.float32(np.sqrt(2)))))
    return b.node("Mul", b.node("Mul", x, b.node("Add", erf, b.constant(np.float32(1)))), b.constant(np.float32(0.5)))


def layer(b: Builder, x: Value, mask: Value | None) -> Value:
    x = layer_norm(b, b.node("Add", x, attention(b, x, mask)))
    hidden = gelu(b, dense(b, x, 4 * WIDTH))
    back = b.node("Add", b.node("MatMul", hidden, weight(b, 4 * WIDTH, WIDTH)), weight(b, WIDTH))
    return layer_norm(b, b.node("Add", x, back))


def encoder() -> Graph:
    """Like BERT: word, position and type embeddings, a padding mask, layers, a pooled first token."""
    b = Builder()
    ids, kinds, seen = (b.input(n, "B", "T", dtype="int64") for n in ("input_ids", "token_type_ids", "attention_mask"))
    length = b.node("Gather", b.node("Shape", ids), b.constant(np.array(1)))
    positions = b.node("Range", b.constant(np.array(0)), length, b.constant(np.array(1)))
    words = b.node("Add", b.node("Gather", weight(b, 30, WIDTH), ids), b.node("Gather", weight(b, 4, WIDTH), kinds))
    x = layer_norm(b, b.node("Add", words, b.node("Gather", weight(b, 200, WIDTH), positions)))
    open_mask = b.node("Unsqueeze", b.node("Cast", seen, to=1), ints(b, 1, 2))
    mask = b.node("Mul", b.node("Sub", b.constant(np.float32(1)), open_mask), b.constant(np.float32(-3.4e38)))
    for _ in range(2):
        x = layer(b, x, mask)
    return b.graph(x, b.node("Tanh", dense(b, b.node("Gather", x, b.constant(np.array(0)), axis=1), WIDTH)))


def vision() -> Graph:
    """Like ViT: patches by convolution, a class token in front, learned positions."""
    b = Builder()
    pixels = b.input("pixels", "B", 3, 32, 32)
    filters = b.constant(RNG.standard_normal((WIDTH, 3, 8, 8)).astype(np.float32) / 14)
    patches = b.node("Conv", pixels, filters, strides=[8, 8])
    flat = b.node("Transpose", b.node("Reshape", patches, ints(b, 0, WIDTH, -1)), perm=[0, 2, 1])
    batch = b.node("Gather", b.node("Shape", pixels), ints(b, 0))
    token = b.node("Expand", weight(b, 1, 1, WIDTH), b.node("Concat", batch, ints(b, 1, WIDTH), axis=0))
    x = b.node("Add", b.node("Concat", token, flat, axis=1), weight(b, 1, 17, WIDTH))
    for _ in range(2):
        x = layer(b, x, None)
    return b.graph(dense(b, b.node("Gather", layer_norm(b, x), b.constant(np.array(0)), axis=1), 10))


def test_an_encoder_with_two_symbolic_lengths(any_device: Device) -> None:
    cases = [{"B": 1, "T": 1}, {"B": 3, "T": 7}, {"B": 2, "T": 65}]
    check(any_device, encoder(), cases, tolerance=2e-4, highest=2)


def test_an_encoder_takes_few_kernels(device: Device) -> None:
    session = Session(encoder(), device)
    assert session.dispatches <= 55 and len(session.program.kernels) <= 25


def test_a_vision_model(device: Device) -> None:
    check(device, vision(), [{"B": 1}, {"B": 2}], tolerance=2e-4)


def test_outputs_that_are_inputs_constants_or_shapes(device: Device) -> None:
    b = Builder()
    x = b.input("x", "T", 3)
    same = b.node("Identity", x)
    fixed = b.node("Identity", b.constant(np.arange(5)))
    check(device, b.graph(same, fixed, b.node("Shape", x)), [{"T": 1}, {"T": 4}], dispatches=0)


def test_empty_tensors(device: Device) -> None:
    b = Builder()
    x = b.input("x", 0, 3)
    check(device, b.graph(b.node("Exp", x), b.node("ReduceSum", x, ints(b, 0)), b.node("MatMul", x, weight(b, 3, 2))))


def test_some_outputs_only(device: Device) -> None:
    b = Builder()
    x = b.input("x", 3)
    session = Session(b.graph(b.node("Exp", x, name="e"), b.node("Neg", x, name="n")), device)
    assert list(session.run({"x": np.zeros(3, np.float32)}, ["n"])) == ["n"]


def test_half_and_double_inputs_are_computed_in_single(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    for dtype in ("float16", "bfloat16", "float64"):
        b = Builder()
        with caplog.at_level("INFO"):
            check(
                device,
                b.graph(b.node("Tanh", b.input("x", 300, dtype=dtype))),
                tolerance=1e-2 if dtype == "bfloat16" else 1e-3,
            )
        assert ("computed in float32" in caplog.text) == (dtype != "float16")
        caplog.clear()


def test_constants_beyond_32_bits_are_refused_by_name(device: Device) -> None:
    b = Builder()
    graph = b.graph(b.node("Add", b.input("x", 2, dtype="int64"), b.constant(np.array([2**40, 0]), name="far")))
    with pytest.raises(ModelError, match=r"far.*int64 values outside"):
        Session(graph, device)


def test_inputs_that_do_not_fit(device: Device) -> None:
    b = Builder()
    session = Session(b.graph(b.node("Exp", b.input("x", "T", 3))), device)
    for given, text in (
        ({}, "'x' float32 is missing"),
        ({"y": np.zeros(1)}, "no input 'y'"),
        ({"x": np.zeros((2, 3), np.int64)}, "must be float32"),
        ({"x": np.zeros((2, 4), np.float32)}, "extent 4"),
        ({"x": np.zeros(3, np.float32)}, "rank 1"),
    ):
        with pytest.raises(InputError, match=re.escape(text)):
            session.run(given)


def test_an_operand_whose_length_may_be_1_is_broadcast(any_device: Device) -> None:
    """Its extent is Min(S, T) to the compiler; a graph that is right has T there, or 1."""
    b = Builder()
    x, m = b.input("x", "B", "T", 4), b.input("m", "B", "S")
    length = b.node("Slice", b.node("Shape", x), b.constant(np.asarray([1])), b.constant(np.asarray([2])))
    cut = b.node("Slice", m, b.constant(np.asarray([0])), length, b.constant(np.asarray([1])))
    graph = b.graph(b.node("Add", b.node("ReduceSum", x, b.constant(np.asarray([2])), keepdims=0), cut, name="y"))
    session = Session(graph, any_device)
    for rows, columns in ((3, 5), (4, 4), (5, 1)):
        inputs = random_inputs(graph, {"B": 2, "T": rows, "S": columns})
        np.testing.assert_allclose(session.run(inputs)["y"], evaluate(graph, inputs)["y"], rtol=1e-6)
