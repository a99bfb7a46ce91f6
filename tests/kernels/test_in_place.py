"""Kernels that write where they read: the plan uses it, and results stay right."""

import numpy as np
import pytest
from support.graphs import Builder
from support.kernels import check

from tlite_vk.device import Device
from tlite_vk.session import Session


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 7), (5, 129), (2, 1000)])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_takes_the_place_of_its_input(any_device: Device, op: str, rows: int, columns: int) -> None:
    b = Builder()
    scores = b.node("MatMul", b.input("x", rows, 24), b.input("w", 24, columns))
    graph = b.graph(b.node("MatMul", b.node(op, scores, axis=-1), b.input("v", columns, 5)))
    check(any_device, graph)
    session = Session(graph, any_device)
    rng = np.random.default_rng(0)
    session.run({v.name: rng.normal(size=tuple(map(int, v.dims))).astype(np.float32) for v in session.inputs})
    plan = session._lowered.plan
    assert plan is not None and len(plan.sizes) == 2
    assert plan.bytes({}) == max(plan.sizes.values()) == plan.without_reuse({}) // 2


def test_what_is_read_again_keeps_its_place(any_device: Device) -> None:
    b = Builder()
    scores = b.node("MatMul", b.input("x", 3, 24), b.input("w", 24, 7))
    weights = b.node("Softmax", scores, axis=-1)
    graph = b.graph(b.node("MatMul", weights, b.node("Transpose", scores, perm=[1, 0])))
    check(any_device, graph)


def test_softmax_along_another_axis_reads_rows_that_lie_apart(any_device: Device) -> None:
    b = Builder()
    scores = b.node("MatMul", b.input("x", 9, 24), b.input("w", 24, 70))
    check(any_device, b.graph(b.node("MatMul", b.node("Softmax", scores, axis=0), b.input("v", 70, 5))))
