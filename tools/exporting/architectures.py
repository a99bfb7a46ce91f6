"""Small models of transformers' architectures with random weights, for tools/export_model.py and the tests.

Sizes are small and not all powers of two; weights are scaled so that every layer, norm and bias matters."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

Settings = dict[str, Any]
VOCABULARY = 320
CONTEXT = 1024


@dataclass(frozen=True)
class Architecture:
    """How transformers names a model (`Llama` has LlamaConfig), its class after that name, and its sizes."""

    name: str
    kind: str  # "ForCausalLM", "LMHeadModel": decoders; "Model", "ForImageClassification": encoders
    settings: Settings = field(default_factory=dict)
    layers: str = "num_hidden_layers"

    @property
    def decoder(self) -> bool:
        return self.kind in ("ForCausalLM", "LMHeadModel")


def _decoder(name: str, hidden: int, gate: int, heads: int, kv_heads: int, **more: Any) -> Architecture:
    settings: Settings = {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "hidden_size": hidden,
        "intermediate_size": gate,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
        **more,
    }
    return Architecture(name, "ForCausalLM", settings)


ARCHITECTURES: dict[str, Architecture] = {
    # grouped queries
    "llama": _decoder("Llama", 128, 256, 8, 2),
    # sliding window
    "mistral": _decoder("Mistral", 72, 136, 4, 2, head_dim=24, sliding_window=32),
    # biases in q, k and v
    "qwen2": _decoder("Qwen2", 96, 160, 6, 3),
    # norms on q and k
    "qwen3": _decoder("Qwen3", 80, 144, 4, 2, head_dim=32),
    # norms times 1 + w, tanh GELU gate, head size 256, scaled embedding that is also the head
    "gemma": _decoder("Gemma", 96, 192, 2, 1, head_dim=256, tie_word_embeddings=True),
    # interleaved rotary embedding of half of each head, fused gate and up
    "glm": _decoder("Glm", 96, 152, 4, 2, head_dim=32, partial_rotary_factor=0.5, attention_bias=True),
    # fused q, k and v
    "phi3": _decoder("Phi3", 96, 168, 4, 2),
    # LayerNorm, learned positions
    "gpt2": Architecture(
        "GPT2",
        "LMHeadModel",
        {
            "vocab_size": VOCABULARY,
            "n_positions": CONTEXT,
            "n_embd": 72,
            "n_head": 3,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "tie_word_embeddings": False,
        },
        layers="n_layer",
    ),
    "bert": Architecture(
        "Bert",
        "Model",
        {
            "vocab_size": VOCABULARY,
            "max_position_embeddings": CONTEXT,
            "hidden_size": 72,
            "intermediate_size": 136,
            "num_attention_heads": 3,
        },
    ),
    # patch convolution, class token
    "vit": Architecture(
        "ViT",
        "ForImageClassification",
        {
            "hidden_size": 72,
            "intermediate_size": 136,
            "num_attention_heads": 3,
            "image_size": 40,
            "patch_size": 8,
            "num_labels": 24,
        },
    ),
}
DECODERS = tuple(name for name, architecture in ARCHITECTURES.items() if architecture.decoder)


def build(name: str, layers: int = 2, seed: int = 0, attention: str = "sdpa") -> torch.nn.Module:
    """A model of `ARCHITECTURES[name]` with random weights, in evaluation mode; its `config` says the rest."""
    architecture = ARCHITECTURES[name]
    settings = {**architecture.settings, architecture.layers: layers}
    config = getattr(transformers, architecture.name + "Config")(**settings)
    config._attn_implementation = attention
    model: torch.nn.Module = getattr(transformers, architecture.name + architecture.kind)(config)
    randomize(model, seed)
    return model.eval()


def randomize(model: Any, seed: int) -> None:
    """Weights that keep the scale of what they multiply; norms around what they start as; biases that can be seen."""
    generator = torch.Generator().manual_seed(seed)
    heads = {id(head.weight) for head in (model.get_output_embeddings(),) if head is not None}
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    transposed = {id(module.weight) for module in model.modules() if type(module).__name__ == "Conv1D"}
    tied = bool(heads & embeddings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.add_(0.2 * noise)
            elif id(parameter) in embeddings or parameter.ndim == 3:  # a class token, positions
                parameter.copy_(noise / math.sqrt(parameter.shape[-1]) if id(parameter) in heads else noise)
            else:
                rows = parameter.shape[0] if id(parameter) in transposed else parameter[0].numel()
                # With one matrix for embedding and head, a model of weak layers only repeats its last token.
                branch = tied and name.endswith(("o_proj.weight", "down_proj.weight"))
                gain = 4.0 if id(parameter) in heads else 10.0 if branch else 1.0
                parameter.copy_(noise * (gain / math.sqrt(rows)))
