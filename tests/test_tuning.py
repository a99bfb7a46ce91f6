"""What tuning measures, keeps and gives back; how fast anything is decides nothing here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Kind
from support.gguf_models import write_llama

from tlite_vk import tuned as store
from tlite_vk import tuning
from tlite_vk.choices import Attention, Product, choices_in, driver_of, text_of
from tlite_vk.convert import convert
from tlite_vk.device import Device
from tlite_vk.errors import InputError
from tlite_vk.kernels import tiles
from tlite_vk.loading import load
from tlite_vk.target import Target, has_half_arithmetic

TASK = Product("e0m4_affine", 64, 64, one=True)
SHADER = "linear_tile_e0m4_affine"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("TLITE_VK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return convert(write_llama(tmp_path, kind=Kind.Q4_1), tmp_path / "model" / "model.onnx").model


@pytest.mark.parametrize("gpu", [False, True])
def test_every_task_of_a_model_is_measured_and_kept(
    device: Device, model: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool
) -> None:
    monkeypatch.setattr(tiles, "LEAST_GROUPS", 1)  # the model is small
    own = Target.of(device.info, "fp16")
    if gpu:
        own = replace(own, cpu=False, texel=False, half=has_half_arithmetic(device.info))
        monkeypatch.setattr(Target, "of", staticmethod(lambda info, precision="fp16": own))
    done: list[tuple[str, int, int]] = []
    found = tuning.tune(model, device, seconds=0.1, progress=lambda *step: done.append(step))
    products = [f.task for f in found if isinstance(f.task, Product)]
    assert {product.one for product in products} == {True, False}
    if gpu:
        assert any(isinstance(f.task, Attention) for f in found) or not own.subgroup
    assert [(number, len(done)) for number in range(len(done))] == [step[1:] for step in done]
    for f in found:
        choices = tuning.candidates(own, f.task, f.kernel)
        assert f.default == choices[0] and f.best in choices and len(f.seconds) + f.left == len(choices)
        assert f.ratio == 1.0 if f.best == f.default else f.ratio > 1 / tuning.WORTH
    target = store.tuned(own, device.info)
    assert choices_in(target.tuning) == {(f.task, f.kernel): f.best for f in found}


def test_a_tuned_model_gives_the_same_tokens(device: Device, model: Path) -> None:
    ids = [5, 9, 40, 7, 100, 3]
    with load(model, device=device, chunk=16) as plain:
        want = list(plain.generate_tokens(ids, max_tokens=8))
    tasks = {}
    for f in tuning.tune(model, device, seconds=0.1, save=False):
        tasks[f.task, f.kernel] = (f.shader, tuning.candidates(Target.of(device.info), f.task, f.kernel)[-1])
    store.keep(device.info, tasks)
    with load(model, device=device, chunk=16) as model_tuned:
        assert choices_in(model_tuned.engine.target.tuning) == {key: choice for key, (_, choice) in tasks.items()}
        assert list(model_tuned.generate_tokens(ids, max_tokens=8)) == want


def test_loading_measures_only_when_asked(device: Device, model: Path) -> None:
    with load(model, device=device, chunk=16) as plain:
        assert plain.engine.target.tuning == "" and not store.cache_file(device.info).exists()
    with load(model, device=device, chunk=16, tune=True) as measured:
        assert measured.engine.target.tuning and store.cache_file(device.info).exists()


def test_what_is_kept_joins_what_was_known(device: Device) -> None:
    other = replace(TASK, outputs=128)
    for task, choice in ((TASK, (16, 1)), (other, (4, 1)), (TASK, (8, 1))):
        store.keep(device.info, {(task, "linear_tile"): (SHADER, choice)})
    found = choices_in(store.tuned(Target.of(device.info), device.info).tuning)
    assert found == {(TASK, "linear_tile"): (8, 1), (other, "linear_tile"): (4, 1)}


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b'"version": 1', b'"version": 9'),
        lambda data: data[: len(data) // 2],
        lambda data: b"\xff\x00" + data,
        lambda data: data.replace(b'"sha256": "', b'"sha256": "0'),
        lambda data: data.replace(SHADER.encode(), b"no_such_shader"),
        lambda data: data.replace(b'"outputs"', b'"inputs"'),
        lambda data: data.replace(b'"choice"', b'"other"'),
        lambda data: json.dumps({"version": 1, "entries": [1, None, {}]}).encode(),
        lambda data: b"[]",
    ],
)
def test_a_damaged_or_foreign_file_does_not_count(device: Device, damage: object) -> None:
    store.keep(device.info, {(TASK, "linear_tile"): (SHADER, (8, 1))})
    file = store.cache_file(device.info)
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    target = Target.of(device.info)
    assert store.tuned(target, device.info) == target


def test_another_choice_is_another_program(device: Device) -> None:
    """The cache of compiled programs tells targets apart by their text."""
    target = Target.of(device.info)
    assert replace(target, tuning=text_of({(TASK, "linear_tile"): (4, 1)})) != target
    assert driver_of(device.info) == target.driver
    assert tiles.choice(target, TASK, "linear_tile") == tiles.default(target, TASK, "linear_tile")


def test_a_time_that_is_not_positive_is_refused(device: Device, model: Path) -> None:
    with pytest.raises(InputError, match="must be positive"):
        tuning.tune(model, device, seconds=0)
