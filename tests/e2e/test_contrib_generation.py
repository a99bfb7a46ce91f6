"""Models as onnxruntime's model builder writes them, generating with the KV ring, against onnxruntime."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.builder_llama import BuilderLlama, build_builder_llama
from support.onnx_models import Array, onnxruntime_session

from tlite_vk.device import Device
from tlite_vk.generate import load
from tlite_vk.graph.onnx_load import from_proto
from tlite_vk.graph.pipeline import optimize

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


class Reference:
    """Greedy decoding by onnxruntime, with the caches that the graph gives out."""

    def __init__(self, model: onnx.ModelProto, config: BuilderLlama) -> None:
        self.session, self.config = onnxruntime_session(model), config
        self.inputs = {v.name for v in model.graph.input}

    def tokens(self, ids: list[int]) -> Iterator[tuple[int, float]]:
        """Each next token with its margin over the second best."""
        c, past = self.config, 0
        shape = (1, c.kv_heads, 0, c.head_dim)
        caches = {n: np.zeros(shape, np.float32) for n in self.inputs if n.startswith("past")}
        names = [v.name for v in self.session.get_outputs()]
        while True:
            total = past + len(ids)
            feeds: dict[str, Array] = {
                "input_ids": np.array([ids]),
                "attention_mask": np.ones((1, total), np.int64),
                "position_ids": np.arange(past, total)[None],
                "seqlens_k": np.array([total - 1], np.int32),
                "total_sequence_length": np.array(total, np.int32),
                **caches,
            }
            feeds = {n: a for n, a in feeds.items() if n in self.inputs}
            found = dict(zip(names, self.session.run(None, feeds), strict=True))
            caches = {n: found[n.replace("past_key_values", "present")] for n in caches}
            low, high = np.sort(found["logits.0"][0, -1])[-2:]
            past, ids = total, [int(found["logits.0"][0, -1].argmax())]
            yield ids[0], float(high - low)


@pytest.mark.parametrize("form", FORMS)
def test_greedy_tokens_are_those_of_onnxruntime(device: Device, tmp_path: Path, form: str) -> None:
    config = FORMS[form]
    model = build_builder_llama(config)
    onnx.save_model(model, tmp_path / "model.onnx")
    reference = Reference(model, config)
    with load(tmp_path / "model.onnx", device=device, precision="fp32", chunk=64) as ours:
        for count in (1, 63, 65, 200):
            prompt = [int(i) for i in np.random.default_rng(count).integers(0, config.vocabulary, count)]
            expected = [pair for pair, _ in zip(reference.tokens(prompt), range(TOKENS), strict=False)]
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
