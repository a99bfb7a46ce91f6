"""Compiled models on devices: the same tokens as from the ONNX file, whatever the device, and what is refused."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tlite_vk
from tlite_vk.cache import replacing
from tlite_vk.compile import compile_variants
from tlite_vk.compiled.reader import CompiledFile
from tlite_vk.compiled.variants import standard_targets
from tlite_vk.compiled.writer import write
from tlite_vk.device import Device, open_device
from tlite_vk.errors import InputError, ModelError
from tlite_vk.graph.errors import GraphError
from tlite_vk.limits import profile_names
from tlite_vk.stored import StoredWeight
from tlite_vk.weight_bytes import fill

IDS = [int(i) for i in np.random.default_rng(3).integers(3, 255, 37)]


def tokens(path: Path, device: Device, **options: Any) -> list[int]:
    with tlite_vk.load(path, device=device, **options) as model:
        return list(model.generate_tokens(IDS, max_tokens=12))


@pytest.mark.parametrize("options", [{}, {"precision": "fp32"}, {"window": 24, "chunk": 16}], ids=str)
def test_the_tokens_are_those_of_the_onnx_file(
    any_device: Device, tiny_onnx: Path, tiny_compiled: Path, options: dict[str, Any]
) -> None:
    assert tokens(tiny_compiled, any_device, **options) == tokens(tiny_onnx, any_device, **options)


@pytest.mark.parametrize("profile", [name for name in profile_names() if name != "vulkan-1.1"])
def test_poorer_devices_give_the_same_tokens(
    device: Device, lavapipe_file: str, monkeypatch: pytest.MonkeyPatch, tiny_compiled: Path, profile: str
) -> None:
    monkeypatch.setenv("VK_DRIVER_FILES", lavapipe_file)
    poorer = open_device(limits=profile)
    assert tokens(tiny_compiled, poorer, precision="fp32") == tokens(tiny_compiled, device, precision="fp32")


def test_a_device_that_none_fits_is_refused(
    lavapipe_file: str, monkeypatch: pytest.MonkeyPatch, tiny_compiled: Path
) -> None:
    monkeypatch.setenv("VK_DRIVER_FILES", lavapipe_file)
    with pytest.raises(ModelError, match="none of the programs in the file runs on"):
        tlite_vk.load(tiny_compiled, device=open_device(limits="vulkan-1.1"))


def test_scores_and_text_are_the_same(device: Device, tiny_onnx: Path, tiny_compiled: Path) -> None:
    scores, texts, answers = [], [], []
    for path in (tiny_onnx, tiny_compiled):
        with tlite_vk.load(path, device=device, precision="fp32", scoring=True) as model:
            scores.append(model.score(IDS))
        with tlite_vk.load(path, device=device) as model:
            texts.append("".join(model.generate("hello", max_tokens=8)))
            answers.append(list(model.generate_tokens([{"role": "user", "content": "hi"}], max_tokens=8, seed=2)))
            assert model.stop_ids == {2}
    assert np.array_equal(scores[0], scores[1]) and texts[0] == texts[1] and answers[0] == answers[1]


def test_it_carries_licence_and_source(tiny_compiled: Path) -> None:
    file = CompiledFile(tiny_compiled)
    assert (file.facts["license"], file.facts["source"]) == ("none", "a test")
    assert file.texts("licence/") == {"LICENSE.txt": "Do as you like.\n"}
    assert {"tokenizer.json", "tokenizer_config.json"} <= file.texts("tokenizer/").keys()


def test_a_copied_file_may_have_any_name(device: Device, tiny_compiled: Path, tmp_path: Path) -> None:
    other = tmp_path / "weights.bin"
    other.write_bytes(tiny_compiled.read_bytes())
    assert tokens(other, device) == tokens(tiny_compiled, device)


def test_weights_that_a_target_cuts_are_parts_of_one_section(tiny_onnx: Path, tmp_path: Path) -> None:
    """Row blocks are derived from the whole matrix, and are the bytes that packing them one by one gives."""
    whole = standard_targets()[-1]
    cut = replace(whole, max_storage_range=1 << 11)
    targets = [whole, cut]
    programs = compile_variants(tiny_onnx, targets, ("decode", "prefill"), positions=512)
    path = tmp_path / "cut.tlvk"
    with replacing(path) as out:
        write(out, targets, programs, {"facts": {}, "stop_ids": None}, {})
    file = CompiledFile(path)
    assert len(programs[1].weights) > len(programs[0].weights)
    assert path.stat().st_size < 1.3 * programs[0].weight_bytes + 200_000
    parts = 0
    for number, program in enumerate(programs):
        stored = {w.name: w for w in file.programs(number).weights}
        for plan in program.weights:
            want, got = np.zeros(plan.size, np.uint8), np.zeros(plan.size, np.uint8)
            fill(want, plan)
            source = stored[plan.name].source
            assert isinstance(source, StoredWeight)
            source.fill(got)
            assert np.array_equal(want, got), plan.name
            parts += not source.whole
    assert parts > 10


def test_staged_uploads_come_in_pieces(
    lavapipe_file: str, monkeypatch: pytest.MonkeyPatch, device: Device, tiny_compiled: Path
) -> None:
    """A device whose memory is never mapped, and pieces so small that there are many."""
    monkeypatch.setenv("VK_DRIVER_FILES", lavapipe_file)
    monkeypatch.setattr("tlite_vk.upload.PIECE_BYTES", 1 << 13)
    monkeypatch.setattr("tlite_vk.upload.POOL_BYTES", 1 << 15)
    seen: list[tuple[int, int]] = []
    with tlite_vk.load(tiny_compiled, device=open_device(staging=True), progress=lambda *n: seen.append(n)) as model:
        assert list(model.generate_tokens(IDS, max_tokens=12)) == tokens(tiny_compiled, device)
    assert seen[-1][0] == seen[-1][1] and len(seen) == len(model.program.weights)


def test_a_damaged_file_is_refused_wherever_the_damage_is(device: Device, tiny_compiled: Path, tmp_path: Path) -> None:
    content, path = tiny_compiled.read_bytes(), tmp_path / "damaged.tlvk"
    gc.collect()
    before = device.memory_used
    for at in np.linspace(0, len(content) - 1, 40).astype(int):
        changed = bytearray(content)
        changed[at] ^= 0x10
        path.write_bytes(changed)
        with pytest.raises(ModelError) as caught:
            tlite_vk.load(path, device=device)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="truncated or damaged"):
        tlite_vk.load(path, device=device)
    gc.collect()
    assert device.memory_used == before


def test_arguments_that_do_not_fit(device: Device, tiny_onnx: Path, tiny_compiled: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the model knows 512 positions"):
        tlite_vk.load(tiny_compiled, device=device, context=4096)
    with pytest.raises(ModelError, match="compiled already"):
        tlite_vk.compile_to_file(tiny_compiled, tmp_path / "again.tlvk")
    for own in (tiny_onnx, tiny_onnx.with_name("model.onnx.data")):
        with pytest.raises(InputError, match="is the model itself"):
            tlite_vk.compile_to_file(tiny_onnx, own)
    with pytest.raises(InputError, match="is a folder"):
        tlite_vk.compile_to_file(tiny_onnx, tmp_path)
    with pytest.raises(InputError, match="context must be positive"):
        tlite_vk.compile_to_file(tiny_onnx, tmp_path / "m.tlvk", context=0)
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(GraphError):
        tlite_vk.compile_to_file(tmp_path / "bad.onnx", tmp_path / "m.tlvk")
    assert [file.name for file in tmp_path.iterdir()] == ["bad.onnx"]
