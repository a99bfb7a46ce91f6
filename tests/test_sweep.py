"""A sweep's structure, its fits against curves that are known, its memory against what is allocated; the plot."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from support.gguf_models import write_llama

from tlite_vk.convert import convert
from tlite_vk.device import Device
from tlite_vk.errors import InputError
from tlite_vk.loading import load
from tlite_vk.sweep import (
    DECODE_POWERS,
    FILLING,
    PREFILL_POWERS,
    Memory,
    Point,
    SweepPlan,
    SweepReport,
    growth,
    memory,
    sweep,
)
from tlite_vk.sweep_plot import check, draw
from tlite_vk.target import Precision
from tlite_vk.workload import Workload

NAN = 0x7E007E00  # two halves; a float of 4e37
LENGTHS = (64, 128, 256, 512)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three layers, 200 positions."""
    folder = tmp_path_factory.mktemp("sweep")
    source = write_llama(folder, kind=Kind.Q4_1, embedding=Kind.Q8_0, layers=3, context=200)
    return convert(source, folder / "model.onnx").model


def curve(powers: tuple[int, int], factors: tuple[float, float], lengths: tuple[int, ...] = LENGTHS) -> list[Point]:
    """Points on the sum of factors[i] x^powers[i]."""
    ms = [sum(f * n**p for f, p in zip(factors, powers, strict=True)) for n in lengths]
    return [Point(n, y, [y], Memory(1000, 10 * n, 50)) for n, y in zip(lengths, ms, strict=True)]


@pytest.mark.parametrize(
    ("powers", "factors"), [(DECODE_POWERS, (30.0, 0.02)), (DECODE_POWERS, (0.5, 4.0)), (PREFILL_POWERS, (7.0, 0.003))]
)
def test_a_fit_finds_what_a_curve_was_made_of(powers: tuple[int, int], factors: tuple[float, float]) -> None:
    found = growth(curve(powers, factors), powers)
    assert found.factors == pytest.approx(factors)
    assert found.exponent == pytest.approx(found.allowed)
    assert found.at(300) == pytest.approx(factors[0] * 300 ** powers[0] + factors[1] * 300 ** powers[1])
    assert not found.faster


@pytest.mark.parametrize(("powers", "grown"), [(DECODE_POWERS, (0, 2)), (PREFILL_POWERS, (1, 3))])
def test_what_grows_faster_than_attention_is_seen(powers: tuple[int, int], grown: tuple[int, int]) -> None:
    found = growth(curve(grown, (0.0, 0.01)), powers)
    assert found.exponent == pytest.approx(grown[1])
    assert found.allowed is not None and found.allowed <= powers[1] + 1e-9
    assert found.faster


def test_no_factor_is_negative_and_one_point_has_no_exponent() -> None:
    falling = growth(curve(DECODE_POWERS, (100.0, -0.1)), DECODE_POWERS)
    assert falling.factors[1] == 0 < falling.factors[0] and not falling.faster
    single = growth(curve(DECODE_POWERS, (30.0, 0.0), (128,)), DECODE_POWERS)
    assert single.factors == pytest.approx((30.0, 0.0))
    assert (single.exponent, single.allowed, single.faster) == (None, None, False)


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_the_structure_of_a_sweep(device: Device, model: Path, precision: Precision) -> None:
    steps: list[tuple[str, int, int]] = []
    plan = SweepPlan(cached=(1, 33, 200, 201), prompts=(1, 9, 150, 300), gen=2, repeat=3)
    report = sweep(model, plan, device=device, precision=precision, progress=lambda *step: steps.append(step))
    assert [p.tokens for p in report.decode] == [1, 33, 200]
    assert [p.tokens for p in report.prefill] == [1, 9, 150]
    assert (report.positions, report.left_out) == (200, [201, 300])
    for point in report.decode + report.prefill:
        assert len(point.repetitions) == 3 and min(point.repetitions) > 0
        assert point.ms == np.median(point.repetitions)
    row = 3 * 2 * 2 * 16 * (2 if precision == "fp16" else 4)
    assert report.ring_bytes_per_token == row
    assert [p.memory.ring for p in report.decode] == [row, 33 * row, 200 * row]
    assert {p.memory.weights for p in report.prefill} == {report.decode[0].memory.weights}
    assert report.peak_device_bytes >= report.decode[-1].memory.total
    assert list(dict.fromkeys(label for label, _, _ in steps)) == ["load", "run"]
    assert steps[-1] == ("run", 18, 18)
    found = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert found["decode"][1]["memory"]["total"] == report.decode[1].memory.total
    assert found["decode_growth"]["faster"] == report.decode_growth.faster


def test_memory_is_what_an_engine_allocates_and_grows_with_the_ring(device: Device, model: Path) -> None:
    used, said = [], []
    for capacity in (40, 80, 160):
        before = device.memory_used
        with load(model, device=device, context=capacity) as opened:
            opened.prefill([1, 2, 3])
            opened.prefill([4], start=3)
            said.append(memory(opened.program, capacity, opened.engine.chunk))
            used.append(device.memory_used - before)
            row = Workload(opened.program).cache_row_bytes
    assert [m.ring for m in said] == [capacity * row for capacity in (40, 80, 160)]
    assert len({m.weights for m in said}) == 1
    for m, allocated in zip(said, used, strict=True):
        assert m.total <= allocated <= m.total + 64 * 1024  # token ids, choices, logits, alignment


def test_the_filling_reaches_the_whole_ring(device: Device, model: Path) -> None:
    with load(model, device=device, context=77) as opened:
        for word, finite in ((NAN, False), (FILLING, True)):
            opened.engine.main.fill(word)
            opened.prefill([5], start=76, pick=False)
            assert bool(np.isfinite(opened.engine.logits()).all()) is finite


def test_no_step_reads_what_is_not_cached_yet(device: Device, model: Path) -> None:
    with load(model, device=device, context=150, chunk=16) as opened:
        opened.engine.main.fill(NAN)
        ids = list(range(40))
        opened.prefill(ids, pick=False)
        for position in range(40, 44):
            assert np.isfinite(opened.engine.logits()).all()
            opened.prefill([position], start=position, pick=False)


def test_plans_that_measure_nothing(device: Device, model: Path) -> None:
    plans: list[dict[str, Any]] = [{"gen": 0}, {"repeat": 0}, {"cached": (0,)}, {"prompts": (4, 0)}]
    for plan in plans:
        with pytest.raises(InputError, match="at least 1"):
            SweepPlan(**plan)
    with pytest.raises(InputError, match="begins with 128 tokens, only 100"):
        SweepPlan().up_to(100)
    with pytest.raises(InputError, match="begins with 300 tokens, only 200"):
        sweep(model, SweepPlan(cached=(300,), prompts=(8,)), device=device)


@pytest.mark.parametrize("lengths", [LENGTHS, (128,)])
def test_the_plot_is_an_image(tmp_path: Path, lengths: tuple[int, ...]) -> None:
    from matplotlib.image import imread

    decode, prefill = curve(DECODE_POWERS, (30, 0.02), lengths), curve(PREFILL_POWERS, (7, 0.003), lengths)
    fits = growth(decode, DECODE_POWERS), growth(prefill, PREFILL_POWERS)
    report = SweepReport("m", "d", "v", "fp16", 32, 3, 8192, [], decode, prefill, *fits, 1)
    draw(report, tmp_path / "out.png")
    image = imread(tmp_path / "out.png")
    assert image.shape[:2] == (540, 1320)
    assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 10


def test_a_plot_that_cannot_be_drawn_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(tmp_path / "out.svg")
    with pytest.raises(InputError, match=r"must end in \.png, \.svg, \.pdf"):
        check(tmp_path / "out.txt")
    with pytest.raises(InputError, match="there is no folder"):
        check(tmp_path / "absent" / "out.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"pip install 'tlite-vk\[plot\]'"):
        check(tmp_path / "out.png")
