"""Models as onnxruntime's model builder writes them, generating with the KV ring, against onnxruntime."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.builder_llama import BuilderLlama, build_builder_llama
from support.greedy import OnnxruntimeGreedy

from tlite_vk.device import Device
from tlite_vk.graph.onnx_load import from_proto
from tlite_vk.graph.pipeline import optimize
from tlite_vk.loading import load

TOKENS, MARGIN = 32, 1e-3
FORMS = {
    "4-bits": BuilderLlama(),
    "4-bits-zero-128": BuilderLlama(block=128, hidden=128, heads=8, zero="packed", packed=True),
    "ragged": BuilderLlama(hidden=80, inner=104, block=32),
    "8-bits-tied": BuilderLlama(bits=8, table="tied", bias=True, seed=7),
    "head-norms": BuilderLlama(head_norms="nodes", table="codes", seed=7),
    "interleaved-nodes": BuilderLlama(turn="nodes", interleaved=1, lengths="inputs"),
    "positions-given": BuilderLlama(turn="given", zero="packed", seed=7),
    "partial-floats": BuilderLlama(bits=0, head_dim=32, rotary=16),
    "window": BuilderLlama(window=24, open_size=True),
}
STRUCTURES = {
    "norms-inside": BuilderLlama(head_norms="attention", packed=True)
}  # onnxruntime's CPU has no kernel for it


@pytest.mark.parametrize("form", FORMS)
def test_greedy_tokens_are_those_of_onnxruntime(device: Device, tmp_path: Path, form: str) -> None:
    config = FORMS[form]
    model = build_builder_llama(config)
    onnx.save_model(model, tmp_path / "model.onnx")
    reference = OnnxruntimeGreedy(tmp_path / "model.onnx", config.kv_heads, config.head_dim)
    with load(tmp_path / "model.onnx", device=device, precision="fp32", chunk=64) as ours:
        for count in (1, 63, 65, 200):
            prompt = [int(i) for i in np.random.default_rng(count).integers(0, config.vocabulary, count)]
            expected = reference.tokens(prompt, TOKENS)
            assert min(margin for _, margin in expected) > MARGIN, count
            assert len({token for token, _ in expected}) > 4, count
            assert list(ours.generate_tokens(prompt, max_tokens=TOKENS)) == [token for token, _ in expected], count


@pytest.mark.parametrize("form", FORMS | STRUCTURES)
@pytest.mark.parametrize("tokens", [1, None])
def test_a_layer_takes_five_nodes_at_decode(form: str, tokens: int | None) -> None:
    config = (FORMS | STRUCTURES)[form]
    graph, _ = optimize(from_proto(build_builder_llama(config)), generate=True, tokens=tokens)
    assert [v.name for v in graph.inputs] == [
        "input_ids",
        *(f"past_key_values.{i}.{s}" for i in range(config.layers) for s in ("key", "value")),
    ]
    if tokens == 1 and form != "ragged":  # inputs of ragged weights are padded first
        assert len(graph.nodes) == 5 * config.layers + 2
