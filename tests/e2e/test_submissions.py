"""A bound on how long a submission lasts cuts the steps of a model: the results are the same, and the plan is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from support.gguf_models import write_llama

from tlite_vk.convert import convert
from tlite_vk.device import Device
from tlite_vk.engine import Engine, Variant
from tlite_vk.errors import InputError
from tlite_vk.generate import Model
from tlite_vk.loading import load
from tlite_vk.submissions import Submissions

BOUND_MS = 10.0
PER_DISPATCH = 0.003
"""Made-up seconds of every dispatch; two of them fit into three quarters of 10 ms, which a submission is cut at."""
PROMPT = 64


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    source = write_llama(folder, kind=Kind.Q4_1, vocab=288, context=256)
    return convert(source, folder / "model" / "model.onnx").model


@pytest.fixture
def model(any_device: Device, path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """Bounded, on a device whose dispatches all take the same time."""

    def made_up(self: Submissions, part: int, repeat: int) -> float:
        self.recordings[part].run(repeat)
        return repeat * PER_DISPATCH * len(self.parts[part])

    monkeypatch.setattr(Submissions, "_run", made_up)
    with load(path, device=any_device, precision="fp32", chunk=PROMPT, submission_ms=BOUND_MS) as loaded:
        yield loaded


def ids(count: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(5).integers(1, 288, count)]


def lengths(engine: Engine, variant: Variant) -> list[int]:
    """Dispatches of each submission that a variant takes now."""
    return [len(part) for part in engine.submissions(variant).parts]


def test_a_long_prefill_is_cut_by_what_was_measured(model: Model) -> None:
    engine, variant = model.engine, Variant("prefill", PROMPT, read=True)
    engine.feed(0, ids(PROMPT))
    count = sum(lengths(engine, variant))
    assert lengths(engine, variant) == [1] * count  # nothing is known yet
    engine.run(variant)
    assert engine.longest_submission_s == pytest.approx(PER_DISPATCH)
    whole, rest = divmod(count, 2)
    assert lengths(engine, variant) == [2] * whole + [1] * rest
    engine.run(variant)
    assert engine.longest_submission_s <= BOUND_MS / 1000
    for part in engine.submissions(variant).parts:
        works = engine.submissions(variant).works[part.start : part.stop]
        expected = engine.pace.seconds(works)
        assert expected is not None and expected <= BOUND_MS / 1000


@pytest.mark.parametrize("read", [True, False])
def test_the_results_are_the_same_bit_for_bit(model: Model, any_device: Device, path: Path, read: bool) -> None:
    prompt = ids(50)
    with load(path, device=any_device, precision="fp32", chunk=PROMPT, submission_ms=0) as whole:
        assert whole.engine.pace.bound == 0
        found = []
        for each in (whole, model):
            each.engine.feed(0, prompt)
            each.engine.run(Variant("prefill", 56, read=read, pick=not read))
            found.append(each.engine.logits() if read else np.array(each.engine.picked(0, 1)))
            assert (len(each.engine.submissions(Variant("prefill", 56)).parts) > 1) == (each is model)
        np.testing.assert_array_equal(found[0], found[1])


def test_generation_is_the_same(model: Model, any_device: Device, path: Path) -> None:
    with load(path, device=any_device, precision="fp32", chunk=PROMPT) as whole:
        for count in (1, 40, 130):
            expected = list(whole.generate_tokens(ids(count), max_tokens=12))
            assert list(model.generate_tokens(ids(count), max_tokens=12)) == expected


def test_a_dispatch_that_is_too_long_alone_makes_the_chunks_shorter(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time grows with its workgroups; at half the tokens it keeps to the bound."""

    def slow(self: Submissions, part: int, repeat: int) -> float:
        self.recordings[part].run(repeat)
        return repeat * sum(15e-3 if w.groups > 1 else 1e-6 for w in self.works[self.parts[part].start :][:1])

    assert model.engine.step_tokens() == min(PROMPT, 4 * model.engine.target.bucket)  # nothing is known yet
    model.prefill(ids(PROMPT), pick=False)
    assert model.engine.step_tokens() == PROMPT
    monkeypatch.setattr(Submissions, "_run", slow)
    for _ in range(4):
        model.prefill(ids(PROMPT), pick=False)
    assert model.engine.step_tokens() < PROMPT


def test_the_bound_of_each_kind_of_device(any_device: Device, path: Path) -> None:
    with load(path, device=any_device) as model:
        assert model.engine.pace.bound == (0 if any_device.info.device_type == "cpu" else 0.05)
    for wrong in (-1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="submission_ms must be 0"):
            load(path, device=any_device, submission_ms=wrong)


def test_timestamps_measure_what_was_cut(device: Device, path: Path) -> None:
    """Real times: only that there are some, and that the longest is one of them."""
    with load(path, device=device, submission_ms=1e-3) as model:
        model.prefill(ids(PROMPT), pick=False)
        variant = Variant("prefill", 32, head=False)
        engine = model.engine
        engine.feed(0, ids(32))
        engine.run(variant)
        assert engine.longest_submission_s > 0
        assert all(len(part) == 1 for part in engine.submissions(variant).parts)  # none is under a microsecond
