"""Long generations: the ring wraps many times, prompts come in between, and memory stays where it was."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Kind
from support import soak
from support.gguf_models import write_llama

from tlite_vk.convert import convert
from tlite_vk.device import Device
from tlite_vk.loading import load

VOCABULARY = 288
CLOSE = 2e-3
"""Tokens whose logits differ by less may be chosen either way: sums of floats are ordered differently."""
CONTEXT = 4
"""Positions of the model for each generated token: prompts take some too."""
FLAT = 0.01
"""What memory may grow by after it has warmed up, as a share."""


def check(device: Device, folder: Path, *, generate: int, window: int, chunk: int, points: int) -> soak.Soak:
    source = write_llama(folder, kind=Kind.Q4_1, vocab=VOCABULARY, context=CONTEXT * generate)
    path = convert(source, folder / "model" / "model.onnx").model
    with load(path, device=device, precision="fp32", window=window, chunk=chunk) as model:
        found = soak.run(
            model, generate, vocabulary=VOCABULARY, longest_prompt=chunk, longest_answer=max(16, window // 2)
        )
    assert 8 * window < len(found.tokens) < CONTEXT * generate
    soak.compare(found, source, window, points)
    wrong = [point for point in found.points if point[1] != point[2] and point[3] > CLOSE]
    assert wrong == [] and sum(point[1] == point[2] for point in found.points) > 0.9 * points
    assert found.growth(found.device) <= FLAT
    return found


def test_a_window_of_32(device: Device, tmp_path: Path) -> None:
    check(device, tmp_path, generate=600, window=32, chunk=16, points=30)


@pytest.mark.soak
def test_20000_tokens_through_a_window_of_512(device: Device, tmp_path: Path) -> None:
    started = time.perf_counter()
    found = check(device, tmp_path, generate=20_000, window=512, chunk=128, points=100)
    host, there = found.growth(found.host), found.growth(found.device)
    equal = sum(point[1] == point[2] for point in found.points)
    print(
        f"\n{len(found.answered)} tokens generated and {len(found.tokens) - len(found.answered)} of prompts in "
        f"{len(found.host)} turns, {time.perf_counter() - started:.0f} s\n"
        f"memory of the host within {100 * host:.2f} % of {found.host[-1] / 1e6:.1f} MB, "
        f"of the device within {100 * there:.2f} % of {found.device[-1] / 1e6:.2f} MB\n"
        f"{equal} of {len(found.points)} sampled tokens equal"
    )
    assert host <= FLAT
