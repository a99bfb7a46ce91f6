"""How much of an exported Llama-like decoder fuses: at most 5 dispatches a layer and 6 more in a decode step."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.exports import Variant

from tlite_vk.compile import compile_model
from tlite_vk.device import Device
from tlite_vk.target import Target

LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3", "gemma", "glm", "phi3")
SPLIT = 1  # more per layer, where attention over a long cache is split


@pytest.mark.parametrize("name", LLAMA_LIKE)
def test_dispatches_of_a_decode_step(device: Device, exported: Callable[..., Path], name: str) -> None:
    paths = [exported(Variant(name, "dynamo", True), layers) for layers in (2, 3)]
    for cpu, most in ((True, 5), (False, 5 + SPLIT)):
        target = replace(Target.of(device.info), cpu=cpu)
        counts = [len(compile_model(path, target, ("decode",)).entries["decode"].dispatches) for path in paths]
        assert counts[1] - counts[0] <= most, f"cpu={cpu}: {counts}"
        assert counts[0] <= most * 2 + 6, f"cpu={cpu}: {counts}"


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("past", [True, False], ids=["past", "no_past"])
def test_every_form_of_one_model_fuses_alike(
    device: Device, exported: Callable[..., Path], exporter: str, past: bool
) -> None:
    path = exported(Variant("llama", exporter, past))
    found = compile_model(path, Target.of(device.info), ("decode",)).entries["decode"].dispatches
    assert len(found) <= 5 * 2 + 6
