"""Every choice that tuning may make is right: products and attention, by every kernel, on small shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from kernels.test_attention import Case, Ring, reference
from kernels.test_linear import check, half_target, linear_graph
from support.weights import make_weight

from tlite_vk.book import Book
from tlite_vk.choices import Attention, Choice, Product, Task, text_of
from tlite_vk.device import Device
from tlite_vk.kernels import split_attention, tiles
from tlite_vk.lower import Lowering
from tlite_vk.target import Target

SMALL = (258, 128)
"""Rows and columns of the weights."""


def product(kernel: str, *, one: bool, gated: bool, form: str) -> Product:
    rows, columns = (288, 160) if kernel == "linear_matrix" else SMALL
    return Product(form, rows // 2 if gated else rows, columns, one, gated, normed=one)


def check_choice(device: Device, target: Target, kernel: str, task: Product, choice: Choice, tolerance: float) -> None:
    weight = make_weight(task.format, task.outputs * (2 if task.gated else 1), task.columns, np.random.default_rng(3))
    activation = "swiglu" if task.gated else ""
    tokens = 1 if task.one else 48 if kernel == "linear_matrix" else 11
    graph = linear_graph(weight, activation=activation, norm=task.one, tokens=tokens)
    chosen = replace(target, tuning=text_of({(task, kernel): choice}))
    low = Lowering(graph, chosen, Book(False), {}, {}, {graph.inputs[0]: "x"}, multiple=chosen.bucket)
    low.run()
    assert list(low.tasks) == [(task, kernel)] and tiles.choice(chosen, task, kernel) == choice
    check(device, graph, tokens, tolerance, target=chosen)


def every_choice(device: Device, target: Target, kernel: str, task: Product, tolerance: float = 3e-6) -> None:
    choices = tiles.candidates(target, task, kernel)
    assert len(choices) == len(set(choices)) > 1
    for choice in choices:
        check_choice(device, target, kernel, task, choice, tolerance)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates that only a product of many outputs has."""
    monkeypatch.setattr(tiles, "LEAST_GROUPS", 1)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("one", [True, False])
def test_register_tiles(any_device: Device, one: bool, gated: bool) -> None:
    target = replace(Target.of(any_device.info, "fp32"), cpu=True)
    every_choice(any_device, target, "linear_tile", product("linear_tile", one=one, gated=gated, form="e0m4_affine"))


@pytest.mark.parametrize("gated", [False, True])
def test_split_reductions(any_device: Device, gated: bool, small_groups: None) -> None:
    target = replace(Target.of(any_device.info, "fp32"), cpu=False, texel=False, half=False)
    every_choice(any_device, target, "linear_split", product("linear_split", one=True, gated=gated, form="int8"))


@pytest.mark.parametrize("gated", [False, True])
def test_half_arithmetic(any_device: Device, gated: bool, small_groups: None) -> None:
    target = half_target(any_device)
    task = replace(product("linear_half", one=True, gated=gated, form="e0m4_symmetric"), outputs=66)
    every_choice(any_device, target, "linear_half", task, 4e-3)


@pytest.mark.parametrize("gated", [False, True])
def test_cooperative_matrices(device: Device, gated: bool) -> None:
    """Where the device has them (a GPU: TLITE_VK_TEST_DRIVER=system)."""
    target = Target.of(device.info, "fp16")
    if not target.matrix:
        pytest.skip("this device has no cooperative matrices")
    task = product("linear_matrix", one=False, gated=gated, form="e0m4_affine")
    every_choice(device, target, "linear_matrix", task, 4e-3)


def test_attention_in_shares(any_device: Device) -> None:
    target = replace(Target.of(any_device.info, "fp32"), cpu=False, texel=False)
    if not target.subgroup:
        pytest.skip("this device cannot be asked for full subgroups")
    case = Case(heads=2, kv_heads=1, head_dim=16, capacity=400)
    task = Attention(2, 1, 16, half_cache=False)
    qkv = np.random.default_rng(9).standard_normal((300, case.columns)).astype(np.float32)
    want = reference(qkv, case)[-1:]
    filled = Ring(any_device, case, replace(target, cpu=True))  # the rows before, by the faster kernel
    for at in range(0, 299, 64):
        filled.step(qkv[at : min(at + 64, 299)], at, 64)
    choices = split_attention.candidates(target, task)
    assert len(choices) > 1
    for choice in choices:
        chosen = replace(target, tuning=text_of({(task, split_attention.KERNEL): choice}))
        ring = Ring(any_device, case, chosen)
        ring.named |= {name: filled.named[name] for name in ("state:k", "state:v")}
        assert np.abs(ring.step(qkv[-1:], 299, 1) - want).max() < 2e-5


GPU = Product("e0m4_symmetric", 4096, 4096, True)


@pytest.mark.parametrize(
    ("task", "kernel", "choice"),
    [(GPU, "linear_half", (7, 1, 256)), (GPU, "linear_half", (8, 1)), (GPU, "linear_split", (8, 1, 256))],
)
def test_what_is_no_candidate_does_not_count(device: Device, task: Task, kernel: str, choice: Any) -> None:
    target = replace(Target.of(device.info, "fp16"), cpu=False, half=True)
    chosen = replace(target, tuning=text_of({(task, kernel): choice}))
    assert tiles.choice(chosen, GPU, "linear_half") == tiles.default(target, GPU, "linear_half")


@pytest.mark.parametrize("shared", [16384, 49152])
@pytest.mark.parametrize("columns", [2048, 5632, 16384])
@pytest.mark.parametrize("normed", [False, True])
def test_choices_fit_shared_memory(device: Device, shared: int, columns: int, normed: bool) -> None:
    """The sums of all slices, a segment of the inputs, and what measures them."""
    target = replace(Target.of(device.info, "fp16"), cpu=False, half=True, max_shared_bytes=shared)
    for form in ("e0m4_affine", "e0m4_symmetric"):
        task = Product(form, 8192, columns, True, gated=True, normed=normed)
        for choice in tiles.candidates(target, task, "linear_half"):
            tile = tiles.tile(
                replace(target, tuning=text_of({(task, "linear_half"): choice})), task, "linear_half", 1, 16384
            )
            spec = tile.specialization
            eighths = spec[13] // 8
            used = 8 * spec[12] + 16 * eighths + 4 * (eighths if form == "e0m4_affine" else 1)
            assert used + 4 * (spec[15] if normed else 1) <= shared and spec[13] > 0
