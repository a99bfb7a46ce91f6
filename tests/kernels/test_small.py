"""Norms, embeddings, the last row and the greedy choice against numpy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.weights import make_weight

from tlite_vk import spirv
from tlite_vk.device import Device
from tlite_vk.graph.evaluate import evaluate
from tlite_vk.graph.infer import make_node
from tlite_vk.graph.ir import Graph, Value, constant
from tlite_vk.graph.shape import symbol
from tlite_vk.graph.weights import AffineWeight
from tlite_vk.session import Session
from tlite_vk.step import PICKED
from tlite_vk.target import Target


@pytest.mark.parametrize("columns", [2, 6, 64, 254, 576])
def test_rms_norm(any_device: Device, columns: int) -> None:
    rng = np.random.default_rng(columns)
    scale = constant("scale", rng.uniform(0.5, 2, columns).astype(np.float32))
    x = Value("x", "float32", (symbol("T"), columns))
    node = make_node("RMSNorm", [x, scale], "y", {"epsilon": 1e-5})
    graph = Graph("norm", [x], [node], [node.output])
    for rows in (1, 3, 65):
        data = (rng.standard_normal((rows, columns)) * 100).astype(np.float32)
        for cpu in (True, False):
            session = Session(graph, any_device, target=replace(Target.of(any_device.info), cpu=cpu))
            want = evaluate(graph, {"x": data})["y"]
            np.testing.assert_allclose(session.run({"x": data})["y"], want, rtol=3e-6, atol=3e-6)


@pytest.mark.parametrize(
    "form",
    ["e0m4_affine", "e0m4_symmetric", "int8", "int8_f32", "float16", "float32", "e0m4_affine_group64", "int8_group64"],
)
@pytest.mark.parametrize("limit", [1 << 27, 1500])
def test_embedding_is_exact_and_splits_large_tables(any_device: Device, form: str, limit: int) -> None:
    weight = make_weight(form, 97, 64, np.random.default_rng(3))
    ids = Value("ids", "int64", (1, symbol("T")))
    node = make_node("Embedding", [ids, weight], "y")
    graph = Graph("embedding", [ids], [node], [node.output])
    target = replace(Target.of(any_device.info), max_storage_range=limit)
    picked = np.array([[0, 96, 5, 5, 50, 33]])
    got = Session(graph, any_device, target=target).run({"ids": picked})["y"]
    source = weight.constant
    table = source.dequantize() if isinstance(source, AffineWeight) else np.asarray(weight.array(), np.float32)
    tolerance = 0 if form.startswith(("int8", "float")) else 3e-7  # codes are in [1, 2): d * 16 h + (m - 16 d) rounds
    np.testing.assert_allclose(got[0], table[picked[0]], atol=tolerance * float(np.abs(table).max()), rtol=0)


def choose(device: Device, logits: np.ndarray[Any, Any], lanes: int, groups: int = 1) -> tuple[int, list[int], int]:
    """Run argmax on logits; returns (the next token id, step parameters, what was appended to the list)."""
    rows = len(logits)
    x, step = device.buffer(4 * rows), device.buffer(256)
    ids, picked = device.buffer(256), device.buffer(4 * PICKED)
    x.write(logits.astype(np.float32))
    step.write(np.array([10, 3, 2, 0], np.uint32))
    found, tickets = device.buffer(256), device.buffer(256)
    tickets.write(np.zeros(64, np.uint32))
    kinds = ["storage"] * 6
    pipeline = device.pipeline(spirv.load("argmax"), kinds, specialization={0: lanes}, push_bytes=8)
    recording = device.recording()
    windows = [(x, 0, 4 * rows), (ids, 0, 4), (picked, 0, 4 * PICKED), (step, 0, 16), (found, 0, 256), (tickets, 0, 4)]
    recording.dispatch(pipeline, windows, (groups, 1, 1), np.array([rows, PICKED], np.uint32).tobytes())
    recording.end()
    recording.run()
    assert not tickets.read(4).any()
    parameters = step.read(16).view(np.uint32).tolist()
    return int(ids.read(4).view(np.uint32)[0]), parameters, int(picked.read(12).view(np.uint32)[2])


@pytest.mark.parametrize("rows", [1, 2, 7, 255, 1000])
@pytest.mark.parametrize(("lanes", "groups"), [(1, 1), (5, 1), (64, 1), (4, 3), (64, 32)])
def test_argmax_takes_the_first_of_the_largest_and_advances(
    any_device: Device, rows: int, lanes: int, groups: int
) -> None:
    logits = np.round(np.random.default_rng(rows).standard_normal(rows) * 2)  # many equal ones
    token, step, appended = choose(any_device, logits, lanes, groups)
    assert token == appended == int(np.argmax(logits))
    assert step == [13, 1, 3, 0]


def test_argmax_reports_logits_without_a_finite_value(any_device: Device) -> None:
    assert choose(any_device, np.full(9, np.nan), 4)[0] == 0xFFFFFFFF
    assert choose(any_device, np.array([np.nan, 1.0, np.nan]), 4)[0] == 1


def test_last_valid_row(any_device: Device) -> None:
    x, y, step = any_device.buffer(4 * 5 * 70), any_device.buffer(4 * 70), any_device.buffer(256)
    data = np.random.default_rng(0).standard_normal((5, 70)).astype(np.float32)
    x.write(data)
    pipeline = any_device.pipeline(spirv.load("last_row"), ["storage"] * 3, specialization={0: 64}, push_bytes=4)
    for count in (1, 4, 5):
        step.write(np.array([0, count, 0, 0], np.uint32))
        recording = any_device.recording()
        recording.dispatch(
            pipeline, [(x, 0, data.nbytes), (y, 0, 280), (step, 0, 16)], (2, 1, 1), np.array([70], np.uint32).tobytes()
        )
        recording.end()
        recording.run()
        np.testing.assert_array_equal(y.read(280).view(np.float32), data[count - 1])
