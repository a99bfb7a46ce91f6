"""The real model through the whole stack: the exact answer on both drivers, and the logits of onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from tlite_vk.convert import convert
from tlite_vk.device import Device
from tlite_vk.fetch import fetch
from tlite_vk.generate import Model
from tlite_vk.loading import load
from tlite_vk.target import Precision

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
PROMPTS: tuple[Any, ...] = (QUESTION, "The history of the steam engine begins", "def fibonacci(n):\n")
ANSWERED = 67
"""Tokens per prompt: three prompts make a little over 200."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(fetch("smollm2-135m"), tmp_path_factory.mktemp("smollm2") / "model.onnx").model


def test_the_exact_answer(any_device: Device, path: Path) -> None:
    with load(path, device=any_device) as model:
        assert "".join(model.generate(QUESTION)) == "The capital of France is Paris."
        assert model.stats.finish == "stop"


def test_the_exact_tokens(device: Device, path: Path) -> None:
    with load(path, device=device) as model:
        assert list(model.generate_tokens(QUESTION)) == [504, 3575, 282, 4649, 314, 7042, 30]
        once = list(model.generate_tokens("Once upon a time", max_tokens=24))
        assert model.tokenizer is not None
        assert model.tokenizer.decode(once).startswith(", the city of Nova Haven was a thriving metropolis")


def test_a_chat_computes_what_is_new(device: Device, path: Path) -> None:
    with load(path, device=device) as model:
        chat = model.chat(ring=model.engine.main)
        assert "".join(chat.send("What is the capital of France?")) == "The capital of France is Paris."
        known = chat.conversation.ids
        assert "".join(chat.send("And of Italy?")) == "The capital of Italy is Rome."
        assert chat.stats.cached_tokens == len(known)  # all that the first turn left, the end of its answer included
        assert chat.stats.prompt_tokens - chat.stats.cached_tokens < 20


def reference(path: Path, ids: list[int]) -> npt.NDArray[np.float32]:
    """onnxruntime's logits [T, V] for all rows in one fp32 pass over the same file."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed: dict[str, Any] = {
        value.name: np.zeros((1, len(ids), value.shape[2]), np.float32)
        for value in session.get_inputs()
        if value.name.startswith("past_key_values.")
    }
    feed |= {"input_ids": np.array([ids]), "position_ids": np.arange(len(ids))[None]}
    feed |= {"write_indices": np.array([0]), "nonpad_kv_seqlen": np.array([len(ids)])}
    logits: npt.NDArray[np.float32] = np.asarray(session.run(["logits"], feed)[0])[0]
    return logits


def own(model: Model, prompt: list[int]) -> tuple[list[int], npt.NDArray[np.float32]]:
    """Greedy tokens and the logits [n, V] that each was chosen from: one prefill, then steps of one token."""
    tokens = list(prompt)
    rows: list[npt.NDArray[np.float32]] = []
    while len(rows) < ANSWERED:
        start = len(tokens) - 1 if rows else 0
        model.prefill(tokens[start:], start=start, pick=False)
        rows.append(model.engine.logits()[0].copy())
        tokens.append(int(rows[-1].argmax()))
    return tokens[:-1], np.array(rows)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 0.01), ("fp16", 0.1)])
def test_logits_against_onnxruntime(device: Device, path: Path, precision: Precision, tolerance: float) -> None:
    with load(path, device=device, precision=precision) as model:
        for text in PROMPTS:
            prompt = model.encode(text)
            tokens, got = own(model, prompt)
            want = reference(path, tokens)[len(prompt) - 1 :]
            assert np.abs(got - want).max() <= tolerance
            top = np.sort(want, axis=1)
            certain = top[:, -1] - top[:, -2] > 2 * tolerance
            assert certain.mean() > 0.5
            assert (got.argmax(1) == want.argmax(1))[certain].all()


def test_no_dispatch_copies_the_cached_past(device: Device, path: Path) -> None:
    """A step writes its own rows into the ring: no dispatch of decoding reads one cache and writes another."""
    with load(path, device=device) as model:
        for entry in model.program.entries.values():
            for dispatch in entry.dispatches:
                states = [w for w in dispatch.windows if w.buffer.startswith("state:")]
                read = {w.buffer for w in states if w.access in ("read", "update")}
                written = {w.buffer for w in states if w.access in ("write", "update")}
                assert not (read and written - read)
        assert model.program.entries["decode"].dispatches[-1].label == "pick"
        assert len(model.program.entries["decode"].dispatches) <= 30 * 5 + 6
