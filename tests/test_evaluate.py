"""Perplexity against a plain Llama in numpy, over windows and chunks of odd sizes."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from support.gguf_models import write_llama
from support.plain_llama import PlainLlama

from tlite_vk.convert import convert
from tlite_vk.device import Device
from tlite_vk.errors import InputError
from tlite_vk.evaluate import perplexity, read_text
from tlite_vk.generate import Model
from tlite_vk.loading import load

TEXT = "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse."


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("evaluate"), kind=Kind.Q4_1, context=64, tokenizer=True)


@pytest.fixture(scope="module")
def model(gguf: Path, device: Device) -> Model:
    file = convert(gguf, gguf.parent / "model.onnx").model
    return load(file, device=device, precision="fp32", scoring=True, chunk=16)


def expected(gguf: Path, ids: list[int], window: int, windows: int) -> float:
    """By the definition, in float64."""
    llama, losses = PlainLlama(gguf), []
    for first in range(0, window * windows, window):
        part = ids[first : first + window]
        logits = llama(part)
        total = np.log(np.exp(logits).sum(axis=1))
        losses += [total[i] - logits[i, token] for i, token in enumerate(part[1:])]
    return float(np.exp(np.mean(losses)))


@pytest.mark.parametrize(("window", "windows"), [(2, 1), (16, 2), (17, 3), (33, 2), (64, 1)])
def test_perplexity_is_what_its_definition_says(gguf: Path, model: Model, window: int, windows: int) -> None:
    assert model.tokenizer is not None
    ids = model.tokenizer.encode(TEXT, special=False)
    assert len(ids) == len(TEXT) + 1  # a token a byte, a space before it all, and no BOS
    seen: list[tuple[int, int]] = []
    found = perplexity(model, TEXT, window=window, windows=windows, progress=lambda d, t: seen.append((d, t)))
    assert found.perplexity == pytest.approx(expected(gguf, ids, window, windows), rel=1e-4)
    assert (found.predictions, found.tokens) == ((window - 1) * windows, len(ids))
    assert seen == sorted(set(seen)) and seen[-1] == (window * windows, window * windows)


@pytest.mark.parametrize(
    ("window", "windows", "message"),
    [
        (1, 1, "at least 2 tokens"),
        (2, 0, "at least 1 window"),
        (65, 1, "does not fit a context of 64"),
        (64, 2, "choose fewer --windows"),
    ],
)
def test_what_cannot_be_scored(model: Model, window: int, windows: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        perplexity(model, TEXT, window=window, windows=windows)


def test_scoring_needs_a_model_loaded_for_it(gguf: Path, device: Device, model: Model) -> None:
    with load(model.path, device=device) as other, pytest.raises(InputError, match="scoring=True"):
        perplexity(other, TEXT, window=8, windows=1)
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        perplexity(Model(model.engine, None, model.path), TEXT, window=8, windows=1)


def test_texts_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"ok \xff")
    for path, message in (
        (tmp_path / "a.txt", r"not UTF-8 text \(byte 3\)"),
        (tmp_path / "b.txt", "no such file"),
        (tmp_path, "cannot read"),
    ):
        with pytest.raises(InputError, match=message):
            read_text(path)


def test_a_short_text_after_a_long_one(gguf: Path, model: Model) -> None:
    """Scores do not depend on what the model scored before, however long that was."""
    with load(model.path, device=model.device, precision="fp32", scoring=True, chunk=32) as fresh:
        short, long = [3, 7, 11, 20], list(range(40))
        first = fresh.score(short)
        fresh.score(long)
        assert fresh.score(short).tolist() == first.tolist()
        logits = PlainLlama(gguf)(short)
        want = logits[range(3), short[1:]] - np.log(np.exp(logits[:3]).sum(axis=1))
        np.testing.assert_allclose(first, want, rtol=1e-4)
