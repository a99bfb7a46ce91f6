"""Whole models under each profile: SmolLM2's exact answer, a tiny Llama's logits, and which modules they run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from support.gguf_models import write_llama
from support.graphs import Builder
from support.plain_llama import PlainLlama
from support.spirv import capabilities

from tlite_vk import spirv
from tlite_vk.compile import compile_model
from tlite_vk.convert import convert
from tlite_vk.device import Device, choose_device
from tlite_vk.errors import DeviceError
from tlite_vk.fetch import fetch
from tlite_vk.loading import load
from tlite_vk.program import Program
from tlite_vk.session import Session
from tlite_vk.target import Target

OpenDriver = Callable[..., Device]
PROFILES = ("adreno-old", "adreno-7xx", "mali", "least")
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
EXTRAS = {"Float16", "StorageBuffer16BitAccess", "StorageBuffer8BitAccess", "Int16", "Int8", "Int64", "DotProduct"}
"""Capabilities of optional features, beside those of subgroups and matrices, which are found by their names."""


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(fetch("smollm2-135m"), tmp_path_factory.mktemp("smollm2") / "model.onnx").model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(GGUF, converted ONNX)"""
    folder = tmp_path_factory.mktemp("tiny")
    source = write_llama(folder, kind=Kind.Q4_0, embedding=Kind.Q8_0, vocab=301, context=128)
    return source, convert(source, folder / "model" / "model.onnx").model


@pytest.mark.parametrize("profile", PROFILES)
def test_smollm2_gives_the_same_tokens(open_driver: OpenDriver, main_driver: str, smollm2: Path, profile: str) -> None:
    with load(smollm2, device=open_driver(main_driver, limits=profile)) as model:
        assert list(model.generate_tokens(QUESTION, max_tokens=4)) == [504, 3575, 282, 4649]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("driver", ["lavapipe", "swiftshader"])
def test_a_tiny_llama_gives_the_same_logits(
    open_driver: OpenDriver, tiny: tuple[Path, Path], driver: str, profile: str
) -> None:
    source, path = tiny
    ids = [int(i) for i in np.random.default_rng(3).integers(0, 301, 23)]
    want = PlainLlama(source)(ids)
    with load(path, device=open_driver(driver, limits=profile), chunk=16) as model:
        model.prefill(ids[:21], pick=False)
        got = [model.engine.logits()[0].copy()]
        for position in (21, 22):
            model.prefill([ids[position]], start=position, pick=False)
            got.append(model.engine.logits()[0].copy())
    assert np.abs(np.array(got) - want[20:]).max() < 0.03


def modules(program: Program) -> dict[str, bytes]:
    """The SPIR-V of a program's kernels by name."""
    return {k.shader: program.modules.get(k.shader) or spirv.load(k.shader) for k in program.kernels}


def optional(module: bytes) -> set[str]:
    """Capabilities that not every device of Vulkan 1.1 has."""
    found = capabilities(module)
    return {name for name in found if name in EXTRAS or "NonUniform" in name or "Cooperative" in name}


@pytest.mark.parametrize("profile", ["adreno-old", "least", "mali"])
def test_no_kernel_declares_what_the_profile_leaves_out(
    monkeypatch: pytest.MonkeyPatch, lavapipe: None, tiny: tuple[Path, Path], profile: str
) -> None:
    info = choose_device(limits=profile)
    program = compile_model(tiny[1], Target.of(info))
    assert {name: optional(module) for name, module in modules(program).items() if optional(module)} == {}
    rich = compile_model(tiny[1], Target.of(choose_device(limits="adreno-7xx")))
    declared = set().union(*(optional(module) for module in modules(rich).values()))
    assert {"Float16", "GroupNonUniformArithmetic"} <= declared  # the test sees them where they are


def test_a_device_with_four_storage_buffers_is_refused_at_once(
    open_driver: OpenDriver, main_driver: str, tiny: tuple[Path, Path]
) -> None:
    device = open_driver(main_driver, limits="vulkan-1.1")
    before = device.memory_used
    with pytest.raises(
        DeviceError, match=r"takes 4 storage buffers in a shader, and .* needs 7; choose another device"
    ):
        load(tiny[1], device=device)
    assert device.memory_used == before


def test_a_device_with_four_storage_buffers_runs_a_graph(open_driver: OpenDriver, main_driver: str) -> None:
    """Chains of elementwise operators are cut where a shader has no more buffers."""
    b = Builder()
    inputs = [b.input(f"x{i}", "T", 5) for i in range(9)]
    total = inputs[0]
    for value in inputs[1:]:
        total = b.node("Add", total, value)
    session = Session(b.graph(total), open_driver(main_driver, limits="vulkan-1.1"))
    data: dict[str, Any] = {v.name: np.full((3, 5), 1 << i, np.float32) for i, v in enumerate(inputs)}
    assert session.dispatches > 1
    np.testing.assert_array_equal(next(iter(session.run(data).values())), np.full((3, 5), 511, np.float32))


def test_a_ring_that_no_window_can_see_is_refused_with_the_context_that_fits(
    open_driver: OpenDriver, main_driver: str, tiny: tuple[Path, Path], tmp_path: Path
) -> None:
    profile = tmp_path / "narrow.toml"
    profile.write_text("[limits]\nmax_storage_buffer_range = 8192")
    device = open_driver(main_driver, limits=profile)
    with pytest.raises(DeviceError, match=r"ring of 128 positions takes \d+ bytes, .* a context of at most 64"):
        load(tiny[1], device=device, chunk=8, context=128, precision="fp32")
    with load(tiny[1], device=device, chunk=8, context=64, precision="fp32") as model:
        assert len(list(model.generate_tokens([1, 2, 3], max_tokens=4))) == 4
