"""What a step costs, counted by hand; the shaders that measure a device against numpy."""

import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from support.gguf_models import write_llama

from tlite_vk import roofline, spirv
from tlite_vk.bench import Plan, bench
from tlite_vk.compile import compile_model
from tlite_vk.convert import convert
from tlite_vk.device import Device
from tlite_vk.errors import InputError
from tlite_vk.target import Precision, Target
from tlite_vk.workload import Workload

LAYERS, HIDDEN, FFN, HEADS, KV, D, VOCABULARY = 3, 64, 96, 4, 2, 16, 288
QKV, REST = HIDDEN * (HEADS + 2 * KV) * D, HEADS * D * HIDDEN + 3 * HIDDEN * FFN
MATRICES = LAYERS * (QKV + REST)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Q4_1 layers and a Q8_0 embedding that is the head as well."""
    folder = tmp_path_factory.mktemp("bench")
    source = write_llama(folder, kind=Kind.Q4_1, embedding=Kind.Q8_0, layers=LAYERS)
    return convert(source, folder / "model.onnx").model


@pytest.mark.parametrize(("precision", "item"), [("fp16", 2), ("fp32", 4)])
def test_bytes_and_multiply_adds_of_a_step(device: Device, model: Path, precision: Precision, item: int) -> None:
    program = compile_model(model, Target.of(device.info, precision), ("decode", "prefill"))
    work = Workload(program)
    weights = MATRICES * 5 // 8 + VOCABULARY * HIDDEN * 17 // 16 + (2 * LAYERS + 1) * HIDDEN * 4
    assert work.weight_bytes == weights
    row = LAYERS * 2 * KV * D * item
    assert work.cache_row_bytes == row
    assert work.decode_bytes(10) == weights + 10 * row
    assert work.decode_bytes(10, window=4) == weights + 4 * row
    width = LAYERS * HEADS * D
    once = REST + VOCABULARY * HIDDEN  # after the last attention only the last token goes on
    assert work.prefill_multiply_adds(1) == MATRICES - REST + 2 * width + once
    assert work.prefill_multiply_adds(5) == 5 * (MATRICES - REST) + 2 * width * (1 + 2 + 3 + 4 + 5) + once
    assert work.prefill_multiply_adds(5, window=2) == 5 * (MATRICES - REST) + 2 * width * (1 + 2 + 2 + 2 + 2) + once


def test_repetitions_are_kept_and_the_warm_up_is_not(
    device: Device, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roofline, "COPY_BYTES", 1 << 20)
    steps: list[tuple[str, int, int]] = []
    plan = Plan(prompt=9, gen=1, repeat=2)
    report = bench(model, plan, device=device, progress=lambda *step: steps.append(step))
    assert [len(values) for values in vars(report.repetitions).values()] == [2, 2, 2, 0]
    assert report.generate_tokens_per_s is None  # one token is no rate
    assert report.prefill_tokens_per_s == pytest.approx(9 / np.median(report.repetitions.prefill_s))
    assert report.peak_host_bytes > report.weight_bytes
    assert report.peak_device_bytes >= report.weight_bytes
    assert list(dict.fromkeys(label for label, _, _ in steps)) == ["load", "run", "measure the device"]
    assert all(0 < done <= total for _, done, total in steps)


def test_plans_that_measure_nothing() -> None:
    for plan in ({"prompt": 0}, {"gen": 0}, {"repeat": 0}, {"depth": -1}):
        with pytest.raises(InputError, match="at least"):
            Plan(**plan)


def test_the_limits_of_a_device(any_device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "COPY_BYTES", 1 << 20)
    before = any_device.memory_used
    found = roofline.measure(any_device)
    assert {"command", "storage"} <= found.copies.keys()
    assert found.copy_bytes_per_s == max(found.copies.values()) > 0
    assert found.multiply_adds_per_s > 0
    assert any_device.memory_used == before


@pytest.mark.parametrize(("shader", "kind"), [("roofline_copy", "storage"), ("roofline_copy_t", "texel_rgba32ui")])
def test_the_copy_shader_copies_everything(any_device: Device, shader: str, kind: str) -> None:
    values = np.arange(64 * 3 * 4, dtype=np.uint32)
    source, target = any_device.buffer(values.nbytes), any_device.buffer(values.nbytes)
    source.write(values)
    pipeline = any_device.pipeline(spirv.load(shader), [kind, "storage"], specialization=[64])
    recording = any_device.recording()
    recording.dispatch(pipeline, [(source, 0, values.nbytes), (target, 0, values.nbytes)], (3, 1, 1))
    recording.end()
    recording.run()
    assert np.array_equal(target.read().view(np.uint32), values)


def test_the_multiply_add_shader_multiplies_and_adds(any_device: Device) -> None:
    lanes, groups, rounds, factor, term = 64, 2, 3, np.float32(0.5), np.float32(1.25)
    result = any_device.buffer(4 * lanes * groups)
    pipeline = any_device.pipeline(
        spirv.load("roofline_multiply_add"), ["storage"], specialization=[lanes], push_bytes=12
    )
    recording = any_device.recording()
    push = struct.pack("<Iff", rounds, factor, term)
    recording.dispatch(pipeline, [(result, 0, result.nbytes)], (groups, 1, 1), push)
    recording.end()
    recording.run()
    chains = np.arange(12, dtype=np.float32)[None] + np.arange(lanes, dtype=np.float32)[:, None]
    for _ in range(rounds * roofline.MULTIPLY_ADDS // 12):
        chains = chains * factor + term
    expected = np.tile(chains.sum(axis=1), groups)
    assert np.allclose(result.read().view(np.float32), expected, rtol=1e-6)
