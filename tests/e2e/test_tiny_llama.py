"""Whole models of random weights against a float64 Llama that reads the GGUF itself: every storage type, chunks of
every size, decoding, the ring past its wrap, and what generation promises."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from gguf import GGMLQuantizationType as Kind
from support.gguf_models import write_llama
from support.plain_llama import PlainLlama

from tlite_vk.convert import convert
from tlite_vk.device import Device
from tlite_vk.errors import InputError, ModelError
from tlite_vk.generate import Model
from tlite_vk.loading import load
from tlite_vk.target import Target, has_half_arithmetic

Make = Callable[..., tuple[Path, Path]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A function (**options of write_llama) -> (GGUF, converted ONNX)."""

    def made(**options: Any) -> tuple[Path, Path]:
        source = write_llama(tmp_path, **options)
        return source, convert(source, tmp_path / "model" / "model.onnx").model

    return made


def logits_of(model: Model, ids: list[int], chunks: list[int]) -> npt.NDArray[np.float32]:
    """The last row's logits after each chunk: [len(chunks), V]."""
    rows, at = [], 0
    for count in chunks:
        model.prefill(ids[at : at + count], start=at, pick=False)
        rows.append(model.engine.logits()[0].copy())
        at += count
    return np.array(rows)


def random_ids(count: int, vocab: int = 288) -> list[int]:
    return [int(i) for i in np.random.default_rng(11).integers(0, vocab, count)]


def check(model: Model, source: Path, chunks: list[int], window: int = 0, tolerance: float = 2e-3) -> None:
    ids = random_ids(sum(chunks))
    want = PlainLlama(source, window)(ids)[np.cumsum(chunks) - 1]
    got = logits_of(model, ids, chunks)
    assert np.abs(got - want).max() < tolerance


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0], ids=lambda k: k.name)
def test_storage_types(device: Device, make: Make, kind: Kind) -> None:
    source, path = make(kind=kind)
    with load(path, device=device, precision="fp32", chunk=16) as model:
        check(model, source, [5, 1, 1, 16, 1])


@pytest.mark.parametrize("kind", [Kind.Q4_K, Kind.Q6_K], ids=lambda k: k.name)
def test_k_types(device: Device, make: Make, kind: Kind) -> None:
    source, path = make(kind=kind, hidden=256, ffn=256, heads=4, kv_heads=1)
    with load(path, device=device, precision="fp32", chunk=16) as model:
        check(model, source, [9, 1])


@pytest.mark.parametrize(
    "options",
    [
        {"heads": 9, "kv_heads": 3, "head_dim": 32, "hidden": 96},
        {"heads": 4, "kv_heads": 4, "output": Kind.Q8_0},
        {"head_dim": 64, "kv_heads": 1},
        {"rotary_dim": 8},
        {"biases": True},
        {"linear_factor": 4.0},
        {"vocab": 301, "layers": 3},
    ],
    ids=str,
)
def test_shapes(any_device: Device, make: Make, options: dict[str, Any]) -> None:
    source, path = make(kind=Kind.Q4_0, embedding=Kind.Q8_0, **options)
    with load(path, device=any_device, precision="fp32", chunk=16) as model:
        check(model, source, [7, 1, 1])


def test_chunks_of_every_size_give_the_same(device: Device, make: Make) -> None:
    source, path = make(kind=Kind.Q4_1)
    with load(path, device=device, precision="fp32", chunk=32) as model:
        for count in (1, 2, 7, 8, 9, 31, 32, 33, 64, 65, 100):
            check(model, source, [count, 1])


@pytest.mark.parametrize("chunks", [[8, 8, 8, 8, 1, 1, 8, 3, 1], [1] * 60, [40, 1, 1]], ids=len)
def test_the_ring_past_its_wrap(any_device: Device, make: Make, chunks: list[int]) -> None:
    source, path = make(kind=Kind.Q4_1, context=128)
    with load(path, device=any_device, precision="fp32", chunk=8, window=16) as model:
        assert model.engine.capacity == 16 + 8 - 1 < sum(chunks)
        check(model, source, chunks, window=16)


def test_the_kernels_of_gpus(any_device: Device, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half arithmetic where there is, attention in shares, the choice of a token by several workgroups."""
    own = Target.of(any_device.info, "fp16")
    gpu = replace(own, cpu=False, texel=False, half=has_half_arithmetic(any_device.info))
    monkeypatch.setattr(Target, "of", staticmethod(lambda info, precision="fp16": gpu))
    source, path = make(kind=Kind.Q4_0, embedding=Kind.Q8_0, vocab=2600)
    ids = random_ids(20, 2600)
    with load(path, device=any_device, chunk=16) as model:
        check(model, source, [20, 1, 1, 1], tolerance=0.03)
        chosen = list(model.generate_tokens(ids, max_tokens=6))
        model.prefill(ids, pick=False)
        for position, token in enumerate(chosen, len(ids)):
            assert token == int(model.engine.logits()[0].argmax())
            model.prefill([token], start=position, pick=False)


def test_half_cache_stays_close(device: Device, make: Make) -> None:
    source, path = make(kind=Kind.Q4_1)
    with load(path, device=device) as model:
        check(model, source, [20, 1, 1, 1], tolerance=0.03)


@pytest.fixture(scope="module")
def model(device: Device, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("tiny")
    source = write_llama(folder, kind=Kind.Q4_1, vocab=261, context=128, tokenizer=True)
    return load(convert(source, folder / "model.onnx").model, device=device, context=96, chunk=16)


def test_greedy_tokens_are_the_argmax_of_the_logits(model: Model) -> None:
    ids = [1, *random_ids(20, 261)]
    tokens = list(model.generate_tokens(ids, max_tokens=24))
    rows = logits_of(model, ids + tokens, [len(ids), *[1] * len(tokens)])
    stops = model.tokenizer.stop_ids if model.tokenizer else frozenset()
    assert tokens == [int(t) for t in rows.argmax(1)[: len(tokens)]]
    assert len(tokens) == 24 or int(rows[len(tokens)].argmax()) in stops


def test_one_or_several_tokens_per_submission_are_the_same(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = [1, 40, 50, 60]
    found = []
    for seconds in (0.0, 1e9):
        monkeypatch.setattr("tlite_vk.decoding.SUBMISSION_SECONDS", seconds)
        found.append(list(model.generate_tokens(prompt, max_tokens=40)))
    assert found[0] == found[1]


def test_the_same_seed_gives_the_same_tokens(model: Model) -> None:
    def draw(seed: int) -> list[int]:
        return list(model.generate_tokens([1, 99], max_tokens=20, temperature=1.5, top_k=50, top_p=0.95, seed=seed))

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_greedy_on_the_device_and_on_the_host_agree(model: Model) -> None:
    prompt = [1, 7, 8, 9]
    on_host = list(model.generate_tokens(prompt, max_tokens=16, repetition_penalty=1.0000001))
    assert list(model.generate_tokens(prompt, max_tokens=16)) == on_host


def test_generation_ends_where_the_context_does(model: Model) -> None:
    ids = random_ids(90, 261)
    tokens = list(model.generate_tokens(ids))
    assert len(tokens) <= 96 - 90 + 1
    assert model.stats.finish == ("context" if len(tokens) == 96 - 90 + 1 else "stop")
    with pytest.raises(InputError, match=r"97 tokens.*96.*--context"):
        model.encode(random_ids(97, 261))


def test_text_and_stop_texts(model: Model) -> None:
    text = "".join(model.generate("hello", max_tokens=30))
    assert text
    cut = text[len(text) // 2 : len(text) // 2 + 2]
    assert "".join(model.generate("hello", max_tokens=30, stop=[cut])) == text[: text.index(cut)]
    assert model.stats.finish == "stop"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": ""}, None),
        ({"prompt": []}, "empty"),
        ({"prompt": [999]}, r"\[0, 261\)"),
        ({"prompt": [-1]}, r"\[0, 261\)"),
        ({"prompt": "a", "temperature": -1.0}, "temperature"),
        ({"prompt": "a", "colour": 3}, "unknown option"),
    ],
)
def test_wrong_arguments(model: Model, arguments: dict[str, Any], message: str | None) -> None:
    if message is None:
        assert model.encode("") == [1]  # the beginning of a text is a prompt
        return
    with pytest.raises(InputError, match=message):
        model.generate(**arguments)


def test_one_generation_at_a_time_and_an_abandoned_one_frees_the_model(model: Model) -> None:
    first = model.generate_tokens([1, 2, 3], max_tokens=5)
    next(first)
    with pytest.raises(InputError, match="generating already"):
        next(model.generate_tokens([1], max_tokens=1))
    first.close()  # type: ignore[attr-defined]
    assert len(list(model.generate_tokens([1, 5], max_tokens=2))) <= 2


def test_two_models_in_two_threads(device: Device, model: Model) -> None:
    results: dict[int, list[int]] = {}
    with load(model.path, device=device, context=96, chunk=16) as second:
        expected = list(model.generate_tokens([1, 30, 31], max_tokens=20))

        def work(number: int, own: Model) -> None:
            results[number] = list(own.generate_tokens([1, 30, 31], max_tokens=20))

        threads = [threading.Thread(target=work, args=(i, m)) for i, m in enumerate((model, second))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == {0: expected, 1: expected}


def test_a_closed_model_says_so_and_gives_its_memory_back(device: Device, model: Model) -> None:
    before = device.memory_used
    second = load(model.path, device=device)
    list(second.generate_tokens([1, 2], max_tokens=3))
    assert device.memory_used > before
    second.close()
    assert device.memory_used == before
    with pytest.raises(InputError, match="closed"):
        next(second.generate_tokens([1]))


def test_scores_are_log_likelihoods(device: Device, make: Make) -> None:
    source, path = make(kind=Kind.Q4_1)
    ids = random_ids(50)
    logits = PlainLlama(source)(ids)
    logits -= logits.max(1, keepdims=True)
    want = (logits - np.log(np.exp(logits).sum(1, keepdims=True)))[np.arange(49), ids[1:]]
    with load(path, device=device, precision="fp32", chunk=16, scoring=True) as scorer:
        np.testing.assert_allclose(scorer.score(ids), want, atol=2e-3)


def behind_the_head(path: Path, op: str, **attributes: Any) -> None:
    """Put an operator behind the logits of a model."""
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        node.output[:] = ["raw" if name == "logits" else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node(op, ["raw"], ["logits"], name="behind", **attributes))
    onnx.save(model, path)


def test_a_soft_cap_behind_the_head_changes_no_greedy_token(device: Device, make: Make) -> None:
    _, path = make(kind=Kind.F32)
    ids = random_ids(20)
    with load(path, device=device) as model:
        want = list(model.generate_tokens(ids, max_tokens=8))
    behind_the_head(path, "Tanh")
    with load(path, device=device) as model:
        assert list(model.generate_tokens(ids, max_tokens=8)) == want


def test_a_head_that_cannot_be_cut_to_the_last_row_is_refused(device: Device, make: Make) -> None:
    _, path = make(kind=Kind.F32)
    behind_the_head(path, "LogSoftmax", axis=-1)
    with pytest.raises(ModelError, match="last row"):
        load(path, device=device)
