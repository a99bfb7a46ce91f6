"""Exported decoders generate: greedy tokens equal to those of torch's forward pass over all tokens, without a cache.

A sliding window is the same band mask in that pass, so that a wrapped ring is tested against the whole text."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from exporting.architectures import ARCHITECTURES, DECODERS
from support.exports import OTHER_FORMS, Greedy, Variant, greedy, variants

from tlite_vk.device import Device
from tlite_vk.graph.errors import GraphError
from tlite_vk.loading import load
from tlite_vk.session import Session

LENGTHS = (1, 63, 64, 65, 200)
WINDOW = ARCHITECTURES["mistral"].settings["sliding_window"]


def reference(name: str, length: int) -> Greedy:
    """What torch says. Its choices must be clear ones: ten times what outputs may differ by (test_stateless)."""
    found = greedy(name, length)
    assert found.margin > 2e-3, f"{name}, {length} tokens: the answer is ambiguous or dull; change the prompts"
    return found


@pytest.mark.parametrize("name", DECODERS)
def test_references_are_clear(name: str) -> None:
    for length in LENGTHS:
        reference(name, length)


@pytest.mark.parametrize("variant", [*variants(DECODERS), *OTHER_FORMS], ids=str)
def test_greedy_tokens_are_torchs(device: Device, exported: Callable[..., Path], variant: Variant) -> None:
    with load(exported(variant), device=device, precision="fp32") as model:
        for length in LENGTHS:
            want = reference(variant.name, length)
            assert list(model.generate_tokens(want.prompt, max_tokens=32)) == want.tokens, f"{length} tokens"


@pytest.mark.parametrize("variant", list(variants(("mistral",))), ids=str)
def test_a_ring_that_wraps(device: Device, exported: Callable[..., Path], variant: Variant) -> None:
    """In the answer (40 and 32 tokens in 39 slots), and many times over in the prompt."""
    with load(exported(variant), device=device, precision="fp32", chunk=8) as model:
        assert model.engine.capacity == WINDOW + 8 - 1
        for length in (1, 20, 40, 200):
            want = reference(variant.name, length)
            assert list(model.generate_tokens(want.prompt, max_tokens=32)) == want.tokens, f"{length} tokens"


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_a_session_over_a_growing_text(device: Device, exported: Callable[..., Path], exporter: str) -> None:
    """What a graph without a cache can always do."""
    session, want = Session(exported(Variant("gpt2", exporter, False)), device), reference("gpt2", 63)
    ids = list(want.prompt)
    for _ in range(32):
        inputs = {
            "input_ids": np.array([ids]),
            "attention_mask": np.ones((1, len(ids)), np.int64),
            "position_ids": np.arange(len(ids))[None],
        }
        ids.append(int(session.run(inputs)["logits"][0, -1].argmax()))
    assert ids[63:] == want.tokens


@pytest.mark.parametrize(("name", "reason"), [("bert", "it is not causal"), ("vit", "no integer input")])
def test_what_cannot_generate_says_why(device: Device, exported: Callable[..., Path], name: str, reason: str) -> None:
    with pytest.raises(GraphError, match=reason):
        load(exported(Variant(name, "torchscript", False)), device=device)
