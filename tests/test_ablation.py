"""Ablations are honest: what takes an idea's place gives the same results, and differs in what it is said to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGMLQuantizationType as Kind
from support.gguf_models import write_llama
from support.plain_llama import PlainLlama
from support.weights import make_weight

from tlite_vk import spirv
from tlite_vk.ablation import AblationPlan, Row, ablate
from tlite_vk.ablation.programs import GROUPS, int4, int4_shader
from tlite_vk.ablation.report import IDEAS
from tlite_vk.ablation.sides import Side, compiler, variant_of
from tlite_vk.convert import convert
from tlite_vk.device import Device
from tlite_vk.engine import Engine
from tlite_vk.errors import InputError
from tlite_vk.graph.evaluate import evaluate
from tlite_vk.graph.infer import make_node
from tlite_vk.graph.ir import Graph, Value
from tlite_vk.graph.weights import AffineWeight
from tlite_vk.hazards import find_hazards, schedule
from tlite_vk.loading import load
from tlite_vk.session import Session
from tlite_vk.target import Target, has_half_arithmetic

LAYERS, CHUNK, PROMPT = 2, 16, 40


@pytest.fixture(scope="module", params=[Kind.Q4_0, Kind.Q4_1], ids=lambda k: k.name)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A GGUF and what it was converted to: 4-bit layers, an 8-bit embedding that is the head as well."""
    folder = tmp_path_factory.mktemp("ablation")
    source = write_llama(folder, kind=request.param, embedding=Kind.Q8_0, layers=LAYERS)
    return source, convert(source, folder / "model.onnx").model


def kernels_of(engine: Engine, entry: str = "decode") -> list[str]:
    return [engine.program.kernels[d.kernel].shader for d in engine.program.entries[entry].dispatches]


@pytest.fixture
def side(files: tuple[Path, Path], device: Device) -> Iterator[Callable[..., tuple[Side, Side]]]:
    """A function (name of an idea, GPU kernels?) -> (baseline, variant), in fp32 unless GPU kernels are asked for."""
    engines: list[Engine] = []

    def made(name: str) -> tuple[Side, Side]:
        model = load(files[1], device=device, precision="fp32", chunk=CHUNK)
        variant = variant_of(name, model.engine, compiler(files[1], 128))
        engines.extend({model.engine, variant.engine})
        return Side(model.engine), variant

    yield made
    for engine in engines:
        engine.close()


def ids_of(count: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(3).integers(0, 288, count)]


Sides = Callable[..., tuple[Side, Side]]


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
@pytest.mark.parametrize("name", IDEAS)
def test_both_sides_are_right(
    side: Sides, files: tuple[Path, Path], device: Device, name: str, gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits of a prompt of several steps and of tokens behind it, against a Llama in float64; tokens chosen."""
    tolerance = 2e-3
    if gpu:
        half, tolerance = has_half_arithmetic(device.info), 0.03
        own = replace(Target.of(device.info, "fp16"), cpu=False, texel=False, half=half)
        monkeypatch.setattr(Target, "of", staticmethod(lambda info, precision="fp16": own))
    baseline, variant = side(name)
    ids = ids_of(PROMPT + 6)
    want = PlainLlama(files[0], 0)(ids)[PROMPT - 1 :]
    for one in (baseline, variant):
        assert np.abs(one.logits(ids, PROMPT) - want).max() < tolerance
    several = baseline.chosen(ids[:PROMPT], 9, 4)[1]
    if name != "concat":  # whose steps take turns, each in a submission of its own
        assert variant.chosen(ids[:PROMPT], 9, 1)[1] == several
    assert np.isfinite([variant.prefill(ids), variant.decode(50, ids[:3])]).all()


def test_int4_kernels_are_those_of_e0m4_but_for_their_name(side: Sides) -> None:
    baseline, variant = side("int4")
    for entry in ("decode", "prefill"):
        names = kernels_of(baseline.engine, entry)
        assert kernels_of(variant.engine, entry) == [int4_shader(n) for n in names]
        assert sum("_int4_" in int4_shader(n) for n in names) == 4 * LAYERS
        assert not any("e0m4" in int4_shader(n) for n in names)
    assert variant.engine.program.entries == baseline.engine.program.entries
    assert variant.engine.program.weights == baseline.engine.program.weights


def test_the_past_is_copied_once_for_each_cache(side: Sides) -> None:
    baseline, variant = side("concat")
    assert variant.cache_bytes == 2 * baseline.cache_bytes
    for entry in ("decode", "prefill"):
        plain = baseline.engine.program.entries[entry]
        for name in (entry, f"{entry}.odd"):
            found = variant.engine.program.entries[name]
            copies = [d for d in found.dispatches if d.label.endswith(".concat")]
            assert len(copies) == 2 * LAYERS == len(found.dispatches) - len(plain.dispatches)
            pairs = {(d.windows[0].buffer, d.windows[1].buffer) for d in copies}
            assert all(a != b and {a, b} == {a.split(".other")[0], a.split(".other")[0] + ".other"} for a, b in pairs)
            rest = [w.buffer for d in found.dispatches if d not in copies for w in d.windows]
            assert {b for b in rest if b.startswith("state:")} == {b for _, b in pairs}
            labels = [d.label for d in plain.dispatches]
            kept = [d.label for d in found.dispatches if d not in copies]
            assert kept == labels and found.dispatches[found.pick].label == labels[plain.pick]
            symbols = variant.engine.symbols(1 if entry == "decode" else CHUNK)
            assert not find_hazards(schedule(found.dispatches, symbols), symbols)


def test_unfused_has_a_kernel_for_each_operator(side: Sides) -> None:
    baseline, variant = side("unfused")
    fused, unfused = kernels_of(baseline.engine), kernels_of(variant.engine)
    assert len(fused) == 5 * LAYERS + 3
    # norm, q, k, v, rotary and cache, attention, output, sum; norm, gate, up, sigmoid, product, product, down, sum
    assert len(unfused) == 16 * LAYERS + 4
    assert unfused.count("rms_norm") == 2 * LAYERS + 1 and unfused.count("rotary_cache") == LAYERS
    for d in variant.engine.program.entries["decode"].dispatches:
        kernel = variant.engine.program.kernels[d.kernel]
        if kernel.shader.startswith("linear"):
            spec = dict(kernel.specialization)
            assert all(spec[i] == 0 for i in (6, 7, 8, 9)), d.label  # residual, norm, activation, gate


def test_unplanned_shares_no_memory(side: Sides) -> None:
    baseline, variant = side("unplanned")
    assert variant.arena_bytes > baseline.arena_bytes
    for name in ("decode", "prefill"):
        entry, plain = (s.engine.program.entries[name] for s in (variant, baseline))
        symbols = variant.engine.symbols(1 if name == "decode" else CHUNK)
        assert [d.label for d in entry.dispatches] == [d.label for d in plain.dispatches]
        written = [w.resolve(symbols)[1:] for d in entry.dispatches for w in d.windows
                   if w.buffer == "arena" and w.access == "write"]  # fmt: skip
        ranges = sorted({(start, start + size) for start, size in written})
        assert len(ranges) == len(written)
        assert all(a[1] <= b[0] for a, b in pairwise(ranges))


Array = npt.NDArray[Any]


def product(form: str, rows: int, columns: int, tokens: int, *, activation: str = "", constant: bool = False) -> Graph:
    weight = make_weight(form, rows, columns, np.random.default_rng(1))
    if constant:  # a group whose codes all stand for its minimum
        assert isinstance(weight.constant, AffineWeight)
        part = weight.constant.parts[0]
        scale = np.array(part.scale)
        scale[::3, 0] = 0
        weight.constant = AffineWeight((replace(part, scale=scale),))
    x = Value("x", "float32", (tokens, columns))
    node = make_node("Linear", [x, weight], "y", {"activation": activation})
    return Graph("product", [x], [node], [node.output])


def check_int4(device: Device, graph: Graph, target: Target, tolerance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The product by INT4 kernels, against the oracle."""
    taken: list[str] = []
    own = spirv.load

    def load_int4(name: str) -> bytes:
        taken.append(int4_shader(name))
        return own(taken[-1])

    x = graph.inputs[0]
    data: Array = np.random.default_rng(2).standard_normal([int(str(d)) for d in x.dims]).astype(np.float32)
    with monkeypatch.context() as patch:
        patch.setattr(spirv, "load", load_int4)
        got = Session(graph, device, target=target).run({"x": data})["y"]
    want = evaluate(graph, {"x": data})["y"]
    assert len(taken) == 1 and "_int4_" in taken[0]
    assert np.abs(got - want).max() <= tolerance * max(1.0, float(np.abs(want).max()))


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("form", ["e0m4_affine", "e0m4_symmetric", "e0m4_affine_group64"])
@pytest.mark.parametrize("cpu", [True, False])
def test_int4_products(
    any_device: Device, form: str, cpu: bool, constant: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = replace(Target.of(any_device.info, "fp32"), cpu=cpu)
    for tokens, activation in ((1, ""), (1, "swiglu"), (9, ""), (9, "swiglu")):
        graph = product(form, 66, 128, tokens, activation=activation, constant=constant)
        check_int4(any_device, graph, target, 6e-6, monkeypatch)


@pytest.mark.parametrize("form", ["e0m4_affine", "e0m4_symmetric"])
def test_int4_products_of_halves(
    open_driver: Callable[..., Device], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = open_driver("lavapipe")
    assert has_half_arithmetic(device.info)
    target = replace(Target.of(device.info, "fp16"), cpu=False, texel=False, half=True, matrix=False)
    for activation in ("", "swiglu"):
        check_int4(device, product(form, 96, 256, 1, activation=activation), target, 4e-3, monkeypatch)


@pytest.mark.parametrize("form", ["e0m4_affine", "e0m4_symmetric"])
def test_int4_products_on_cooperative_matrices(device: Device, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the device has them (a GPU: TLITE_VK_TEST_DRIVER=system)."""
    target = Target.of(device.info, "fp16")
    if not target.matrix:
        pytest.skip("this device has no cooperative matrices")
    check_int4(device, product(form, 288, 160, 48), target, 4e-3, monkeypatch)


def test_a_report(files: tuple[Path, Path], device: Device) -> None:
    steps: list[tuple[str, int, int]] = []
    plan = AblationPlan(prompt=9, gen=3, rounds=2, cached=(8, 64, 999), batch=2)
    report = ablate(files[1], plan, device=device, progress=lambda *step: steps.append(step))
    assert [a.name for a in report.ablations] == list(IDEAS) and report.left_out == [999]
    for ablation in report.ablations:
        assert ablation.same_tokens == ablation.steps > 0 and ablation.logit_difference < 2e-3
        for row in ablation.rows:
            count = 1 if row.what == "memory" else plan.rounds
            assert len(row.baselines) == len(row.variants) == count and min(row.baselines + row.variants) > 0
    decodes = [r.tokens for a in report.ablations if a.name == "concat" for r in a.rows]
    assert decodes == [8, 64, 0]
    assert {label.split(" ")[0] for label, _, _ in steps} == {"load", *IDEAS}
    found = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert found["ablations"][0]["rows"][0]["ratio"] == report.ablations[0].rows[0].ratio


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    row = Row("decode", 1, "ms", [1.0, 8.0, 2.0], [3.0, 4.0, 100.0])
    assert (row.baseline, row.variant) == (2.0, 4.0)
    assert (row.ratios, row.ratio) == ([3.0, 0.5, 50.0], 3.0)


def test_what_cannot_be_ablated(device: Device, tmp_path: Path) -> None:
    bad: list[dict[str, Any]] = [{"rounds": 0}, {"gen": 0}, {"batch": 0}, {"cached": (0,)}]
    for options in bad:
        with pytest.raises(InputError, match="at least 1"):
            AblationPlan(**options)
    with pytest.raises(InputError, match="unknown ablation fused; known: int4, concat"):
        AblationPlan(ideas=("int4", "fused"))
    path = convert(write_llama(tmp_path, kind=Kind.Q8_0, layers=1), tmp_path / "model.onnx").model
    with load(path, device=device) as model, pytest.raises(InputError, match="no products with 4-bit weights"):
        int4(model.program)
    with pytest.raises(InputError, match="200 positions are needed, the context holds 128"):
        ablate(path, AblationPlan(prompt=190, gen=10), device=device)
    assert GROUPS <= 65535
