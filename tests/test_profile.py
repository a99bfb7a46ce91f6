"""What a dispatch costs at least, against what a step costs; rows and traces of a profile. No time is judged."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gguf import GGMLQuantizationType as Kind
from support.gguf_models import write_llama

from tlite_vk import profile as module
from tlite_vk import roofline
from tlite_vk.compile import compile_model
from tlite_vk.convert import convert
from tlite_vk.device import Device
from tlite_vk.errors import DeviceError, InputError
from tlite_vk.loading import load
from tlite_vk.profile import Profile, Slice, Step, profile, require_timestamps
from tlite_vk.roofline import Roofline
from tlite_vk.target import Target
from tlite_vk.workload import Lengths, Workload

LAYERS, HEADS, KV, D = 3, 4, 2, 16
LIMITS = Roofline({"command": 1e9}, 2e9)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WARM_UP", 0.0)
    monkeypatch.setattr(roofline, "COPY_BYTES", 1 << 20)
    monkeypatch.setattr(roofline, "RUNS", 1)
    monkeypatch.setattr(roofline, "MIN_SECONDS", 0.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profile")
    source = write_llama(folder, kind=Kind.Q4_1, embedding=Kind.Q8_0, layers=LAYERS, context=4096)
    return convert(source, folder / "model.onnx").model


def check_trace(found: Profile, shaders: set[str]) -> None:
    """Complete events, one per dispatch, that do not overlap and that name kernels of the program."""
    events = json.loads(json.dumps(found.as_trace(), allow_nan=False))["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    assert {event["ph"] for event in events} == {"X", "M"}
    assert len(slices) == sum(len(step.slices) for step in found.steps)
    assert {event["name"] for event in slices} <= shaders
    end = 0
    for event in slices:
        start, duration = round(event["ts"] * 1000), round(event["dur"] * 1000)
        assert start >= end and duration >= 0
        end = start + duration
        assert event["args"]["label"] and len(event["args"]["groups"]) == 3 and event["args"]["bytes"] > 0
    tracks = {event["tid"] for event in events if event["name"] == "thread_name"}
    assert tracks == {event["tid"] for event in slices} and len(tracks) == len(found.steps)


@pytest.mark.parametrize("prompt", [1, 9, 129, 200])
def test_the_steps_of_a_profile(device: Device, model: Path, prompt: int) -> None:
    reported: list[tuple[str, int, int]] = []
    found = profile(model, prompt=prompt, repeat=2, device=device, progress=lambda *step: reported.append(step))
    with load(model, device=device) as loaded:
        program = loaded.program
    work = Workload(program)
    prefill, decode = found.steps
    assert [(s.name, s.tokens, s.position) for s in found.steps] == [("prefill", prompt, 0), ("decode", 1, prompt)]
    assert sum(s.multiply_adds for s in prefill.slices) == work.prefill_multiply_adds(prompt)
    # A token behind others costs what the first one does, and a query over more keys.
    more = 2 * LAYERS * HEADS * D * prompt
    assert sum(s.multiply_adds for s in decode.slices) == work.prefill_multiply_adds(1) + more
    for step in found.steps:
        rows = step.rows(found.limits)
        assert sum(row.share for row in rows) + step.gaps_s / step.seconds == pytest.approx(1.0)
        assert sum(row.dispatches for row in rows) == len(step.slices)
        assert [row.seconds for row in rows] == sorted((row.seconds for row in rows), reverse=True)
        assert step.gaps_s >= -1e-9 and step.as_run_s > 0
    check_trace(found, {kernel.shader for kernel in program.kernels})
    assert {label for label, _, _ in reported} == {"load", "run", "measure the device"}


def test_bytes_of_a_decode_step(device: Device, model: Path) -> None:
    """Weights and cache, as a step counts them, and beside them only activations and rows of tables."""
    with load(model, device=device) as loaded:
        program, symbols = loaded.program, loaded.engine.symbols(1)
    work = Workload(program)
    for position in (0, 100):
        at = Lengths(symbols, position, 1)
        found = sum(work.bytes_of(d, at) for d in program.entries["decode"].dispatches)
        least = work.decode_bytes(position + 1)
        assert least <= found <= least + 40_000


def test_attention_moves_the_same_bytes_by_all_kernels(device: Device, model: Path) -> None:
    """q, k, v and the output, the step's parameters, a row of the rotary table, and the rows of the ring."""
    own = Target.of(device.info, "fp32")
    found: dict[str, set[int]] = {}
    for target in (own, replace(own, cpu=False, texel=False), replace(own, cpu=False, texel=False, subgroup=0)):
        program = compile_model(model, target, ("decode",))
        at = Lengths({"T": 1, "C": 512, "W": 0}, 100, 1)
        for dispatch in program.entries["decode"].dispatches:
            shader = program.kernels[dispatch.kernel].shader
            if shader.startswith("attention"):
                found.setdefault(shader, set()).add(Workload(program).bytes_of(dispatch, at))
    ring = 2 * KV * D * 4 * (101 + 1)  # seen, and written
    expected = ring + 4 * (HEADS + 2 * KV) * D + 4 * HEADS * D + 16 + 4 * D
    assert len(found) == 3 and set.union(*found.values()) == {expected}


def test_keys_that_queries_see() -> None:
    for position, count, window in ((0, 5, 0), (7, 3, 0), (0, 5, 2), (7, 3, 4), (1, 4, 3)):
        seen = [range(max(0, p + 1 - window) if window else 0, p + 1) for p in range(position, position + count)]
        at = Lengths({}, position, count)
        assert at.seen(window) == sum(map(len, seen))
        assert at.span(window) == len({row for rows in seen for row in rows})


def a_slice(shader: str, label: str, start: float, seconds: float, moved: int, multiplied: int) -> Slice:
    return Slice(shader, label, (1, 1, 1), start, seconds, moved, multiplied)


def test_rows_of_a_step() -> None:
    slices = [
        a_slice("mul", "layer.0.ffn.down", 0.0, 1.0, 10**8, 10**9),
        a_slice("norm", "layer.0/norm", 1.25, 0.5, 10**8, 0),
        a_slice("mul", "layer.11.ffn.down", 2.0, 2.0, 2 * 10**8, 2 * 10**9),
    ]
    step = Step("prefill", 4, 0, 4.0, 3.5, slices)
    first, second = step.rows(LIMITS)
    assert (first.shader, first.place, first.dispatches, first.seconds) == ("mul", "layer.*.ffn.down", 2, 3.0)
    assert (first.share, first.bytes_per_s, first.share_of_copy) == (0.75, 1e8, 0.1)
    assert (first.multiply_adds_per_s, first.share_of_multiply_adds) == (1e9, 0.5)
    assert (first.nearer_limit, second.nearer_limit) == ("multiply-adds", "bandwidth")
    assert (second.place, second.share_of_copy, second.multiply_adds_per_s) == ("layer.*.norm", 0.2, 0.0)
    assert step.gaps_s == 0.5
    found = Profile("m", "d", "v", "fp16", 4, 1, LIMITS, [step, Step("decode", 1, 4, 4.0, 4.0, slices)])
    check_trace(found, {"mul", "norm"})


def test_a_device_without_timestamps_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info: Any = SimpleNamespace(name="Old GPU", limits={"timestamp_valid_bits": 0})
    with pytest.raises(DeviceError, match="Old GPU has no timestamps"):
        require_timestamps(info)
    monkeypatch.setattr(module, "open_device", lambda _: SimpleNamespace(info=info))
    with pytest.raises(DeviceError, match="choose another --device"):
        profile(model)


def test_profiles_of_nothing_and_of_too_much(device: Device, model: Path) -> None:
    for prompt, repeat in ((0, 1), (1, 0)):
        with pytest.raises(InputError, match="at least 1"):
            profile(model, device=device, prompt=prompt, repeat=repeat)
    with pytest.raises(InputError, match="17 positions are needed, the context holds 16"):
        profile(model, device=device, prompt=16, context=16)
