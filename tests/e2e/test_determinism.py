"""The same prompt, options and seed give the same tokens: again and again, across restarts, on each driver, and however
many tokens go out in one submission."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from support.gguf_models import write_llama

from tlite_vk.convert import convert
from tlite_vk.device import Device
from tlite_vk.fetch import fetch
from tlite_vk.generate import Model
from tlite_vk.host_sampler import Sampler
from tlite_vk.loading import load
from tlite_vk.sampling import SamplingOptions

PROMPT = [1, *(int(i) for i in np.random.default_rng(5).integers(0, 2600, 20))]
TOKENS = 24
OPTIONS: tuple[dict[str, Any], ...] = (
    {"temperature": 1.5, "seed": 3},
    {"temperature": 1.0, "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.2, "seed": 2**64 - 1},
    {"temperature": 0.0, "repetition_penalty": 1.3},
    {},
)
RESTARTED = """
import json, sys
from tlite_vk.device import open_device
from tlite_vk.loading import load
path, prompt, count, options = json.loads(sys.argv[1])
with load(path, device=open_device(), context=96, chunk=16) as model:
    print(json.dumps([list(model.generate_tokens(prompt, max_tokens=count, **o)) for o in options]))
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    source = write_llama(folder, kind=Kind.Q4_1, vocab=2600, context=128)
    return convert(source, folder / "model.onnx").model


def drawn(model: Model, options: dict[str, Any]) -> list[int]:
    return list(model.generate_tokens(PROMPT, max_tokens=TOKENS, **options))


def test_twenty_times_in_a_row(any_device: Device, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with load(path, device=any_device, context=96, chunk=16) as model:
        for options in OPTIONS:
            first = drawn(model, options)
            assert len(first) == TOKENS
            for turn in range(20):
                # Never more than one token in a submission; as many as there may be; what the clock says.
                monkeypatch.setattr("tlite_vk.decoding.SUBMISSION_SECONDS", (0.0, 1e9, 0.05)[turn % 3])
                assert drawn(model, options) == first
        assert drawn(model, {**OPTIONS[0], "seed": 4}) != drawn(model, OPTIONS[0])


def test_across_restarts(any_device: Device, path: Path, driver_variables: dict[str, str]) -> None:
    with load(path, device=any_device, context=96, chunk=16) as model:
        expected = [drawn(model, options) for options in OPTIONS]
    request = json.dumps([str(path), PROMPT, TOKENS, OPTIONS])
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", RESTARTED, request],
            env=driver_variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == expected


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_device_draws_from_the_logits_what_the_host_would(
    any_device: Device, path: Path, options: dict[str, Any]
) -> None:
    with load(path, device=any_device, context=96, chunk=16) as model:
        tokens = drawn(model, options)
        sampler, seen = Sampler(SamplingOptions(**options)), list(PROMPT)
        model.prefill(PROMPT, pick=False)
        for token in tokens:
            assert token == sampler(model.engine.logits()[0], seen)
            model.prefill([token], start=len(seen), pick=False)
            seen.append(token)


def test_a_fresh_seed_is_told_and_repeats(device: Device, path: Path) -> None:
    with load(path, device=device, context=96, chunk=16) as model:
        first, seed = drawn(model, {"temperature": 2.0}), model.stats.seed
        other = drawn(model, {"temperature": 2.0})
        assert first != other and seed != model.stats.seed
        assert drawn(model, {"temperature": 2.0, "seed": seed}) == first
        drawn(model, {})
        assert model.stats.seed is None


def test_the_real_model(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = convert(fetch("smollm2-135m"), tmp_path / "smollm2" / "model.onnx").model
    with load(path, device=device) as model:
        found = []
        for seconds in (0.0, 1e9):
            monkeypatch.setattr("tlite_vk.decoding.SUBMISSION_SECONDS", seconds)
            tokens = model.generate_tokens(
                "Once upon a time", max_tokens=12, temperature=0.9, top_k=60, top_p=0.95, repetition_penalty=1.1, seed=8
            )
            found.append(list(tokens))
        assert found[0] == found[1] and len(found[0]) == 12
