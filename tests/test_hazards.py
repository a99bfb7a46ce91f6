"""Every barrier of a plan is needed, and the checker notices each that is missing; so does the Khronos layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Kind
from support.gguf_models import write_llama
from support.plans import CHAIN, HAZARDS, engine_plan, link, run_chain, stray_writes, without_one_barrier

from tlite_vk.binding import Buffers, Pipelines, record_steps
from tlite_vk.convert import convert
from tlite_vk.device import Device
from tlite_vk.generate import Model
from tlite_vk.hazards import Barrier, find_hazards, schedule
from tlite_vk.loading import load

LAYER_SAYS = {"RAW": "READ_AFTER_WRITE", "WAR": "WRITE_AFTER_READ"}
"""The layer of Debian 12 (1.3.239) is silent about a write after a write of two dispatches: our own checker is not."""
TOKENS = 16


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    source = write_llama(folder, kind=Kind.Q4_1, vocab=288, context=128)
    return convert(source, folder / "model" / "model.onnx").model


@pytest.fixture(scope="module")
def model(device: Device, path: Path) -> Model:
    return load(path, device=device, chunk=TOKENS)


@pytest.mark.parametrize("kind", HAZARDS)
def test_two_dispatches_with_one_hazard(kind: str) -> None:
    steps = schedule([link(ends[0], ends[1]) for ends in HAZARDS[kind]], {})
    assert [isinstance(step, Barrier) for step in steps] == [False, True, False]
    assert find_hazards(steps, {}) == []
    (bare,) = without_one_barrier(steps)
    (hazard,) = find_hazards(bare, {})
    assert hazard.kind == kind and f"{kind} hazard on" in str(hazard)


def test_what_does_not_meet_needs_no_barrier() -> None:
    assert schedule([link("a", "b"), link("a", "c")], {}) == [link("a", "b"), link("a", "c")]


@pytest.mark.parametrize("entry", ["prefill", "decode"])
def test_every_barrier_of_a_model_is_needed(model: Model, entry: str) -> None:
    steps, symbols = engine_plan(model.engine, entry, TOKENS if entry == "prefill" else 1)
    assert find_hazards(steps, symbols) == []
    missing = [{hazard.kind for hazard in find_hazards(bare, symbols)} for bare in without_one_barrier(steps)]
    assert len(missing) > 8 and all(missing)
    if entry == "prefill":
        assert {"RAW", "WAR"} <= set().union(*missing)


@pytest.mark.parametrize("kind", LAYER_SAYS)
def test_the_layer_sees_each_kind(open_driver: Callable[..., Device], main_driver: str, kind: str) -> None:
    device = open_driver(main_driver, validation=True)
    steps = schedule([link(ends[0], ends[1]) for ends in HAZARDS[kind]], {})
    run_chain(device, steps)
    assert device.validation_messages() == []
    run_chain(device, next(without_one_barrier(steps)))
    assert any(LAYER_SAYS[kind] in message for message in device.validation_messages())


def test_the_layer_sees_barriers_missing_from_a_model(
    open_driver: Callable[..., Device], main_driver: str, path: Path
) -> None:
    """Without any one of them: it judges by what descriptors bind, as our own checker does."""
    device = open_driver(main_driver, validation=True)
    with load(path, device=device, chunk=TOKENS) as model:
        steps, symbols = engine_plan(model.engine, "prefill", TOKENS)
        model.prefill(list(range(1, TOKENS)), pick=False)
        assert device.validation_messages() == []
        buffers = model.engine.bound("prefill")
        pipelines = Pipelines(device, model.program)
        for bare in without_one_barrier(steps):
            kinds = {hazard.kind for hazard in find_hazards(bare, symbols)}
            recording = device.recording()
            record_steps(recording, bare, symbols, buffers, pipelines)
            recording.end()
            recording.run()
            seen = "\n".join(device.validation_messages())
            assert any(LAYER_SAYS[kind] in seen for kind in kinds & LAYER_SAYS.keys()), kinds
            device.clear_validation_messages()


def test_a_write_beyond_its_window_is_caught(swiftshader: Device) -> None:
    """SwiftShader writes where it is told to, so the bytes around the window show it."""
    buffers = Buffers({name: swiftshader.buffer(2048) for name in "abc"}, {})
    for buffer in buffers.named.values():
        buffer.write(bytes(2048))
    honest, stray = link("a", "b"), link("a", "c", count=65)
    assert stray_writes(swiftshader, CHAIN, [honest, stray], {}, buffers) == ["a to c"]


@pytest.mark.parametrize("entry", ["prefill", "decode"])
def test_no_dispatch_of_a_model_writes_where_it_does_not_say_so(swiftshader: Device, path: Path, entry: str) -> None:
    with load(path, device=swiftshader, chunk=TOKENS) as model:
        tokens = TOKENS - 3 if entry == "prefill" else 1  # three padded rows
        model.prefill(list(range(1, 20)), pick=False)
        model.engine.feed(19, list(range(20, 20 + tokens)))
        padded = TOKENS if entry == "prefill" else 1
        dispatches = model.program.entries[entry].dispatches
        buffers, symbols = model.engine.bound(entry), model.engine.symbols(padded)
        assert stray_writes(swiftshader, model.program, dispatches, symbols, buffers) == []
