"""tokenizer.json, tokenizer_config.json and generation_config.json from the tokenizer inside a GGUF file."""

from __future__ import annotations

import json

from tlite_vk.convert.gguf_reader import GgufFile, shown
from tlite_vk.convert.llama_config import LlamaConfig
from tlite_vk.convert.tokenizer_build import Vocabulary, build_tokenizer
from tlite_vk.errors import ModelError

# Tokens that end an answer in the chat formats of Llama-type models, whatever the file names as its end of sequence.
_ENDS_OF_TURN = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|EOT|>",
)


def tokenizer_files(gguf: GgufFile, config: LlamaConfig) -> dict[str, str]:
    """File name -> JSON text; empty if the GGUF holds no tokenizer. Raises ModelError for an unsupported kind."""
    if "tokenizer.ggml.model" not in gguf.metadata:
        return {}
    vocabulary = _read_vocabulary(gguf, config)
    tokenizer, adds_bos, adds_eos = build_tokenizer(vocabulary, gguf)
    settings = _tokenizer_config(gguf, vocabulary, config, adds_bos, adds_eos)
    return {
        "tokenizer.json": tokenizer.to_str(pretty=False),
        "tokenizer_config.json": json.dumps(settings, ensure_ascii=False, indent=2),
        "generation_config.json": json.dumps(_generation_config(gguf, vocabulary, config), indent=2),
    }


def _read_vocabulary(gguf: GgufFile, config: LlamaConfig) -> Vocabulary:
    tokens = gguf.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens or not all(isinstance(t, str) for t in tokens):
        raise ModelError(f"{gguf.path}: 'tokenizer.ggml.tokens' is missing or is not a list of strings")
    if len(tokens) > config.vocab:
        raise ModelError(f"{gguf.path}: the tokenizer has {len(tokens)} tokens, the embedding only {config.vocab} rows")
    types = gguf.metadata.get("tokenizer.ggml.token_type", [1] * len(tokens))
    scores = gguf.metadata.get("tokenizer.ggml.scores", [0.0] * len(tokens))
    merges = gguf.metadata.get("tokenizer.ggml.merges", [])
    for what, values in (("token_type", types), ("scores", scores)):
        if not isinstance(values, list) or len(values) != len(tokens):
            raise ModelError(f"{gguf.path}: 'tokenizer.ggml.{what}' does not have one entry for each token")
    assert isinstance(types, list) and isinstance(scores, list)
    if not isinstance(merges, list):
        raise ModelError(f"{gguf.path}: 'tokenizer.ggml.merges' is not a list")
    named = {name: _token_id(gguf, key, len(tokens)) for name, key in _NAMED.items()}
    return Vocabulary(
        tokens=[str(token) for token in tokens],
        types=[int(kind) for kind in types],
        scores=[float(score) for score in scores],
        merges=[str(merge) for merge in merges],
        **named,
    )


_NAMED = {"bos": "bos_token_id", "eos": "eos_token_id", "unk": "unknown_token_id", "pad": "padding_token_id"}


def _token_id(gguf: GgufFile, key: str, count: int) -> int | None:
    value = gguf.metadata.get(f"tokenizer.ggml.{key}")
    if value is None or value == 0xFFFFFFFF:  # llama.cpp's "no such token"
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise ModelError(f"{gguf.path}: 'tokenizer.ggml.{key}' is {shown(value)}, outside the vocabulary of {count}")
    return value


def _tokenizer_config(
    gguf: GgufFile, vocabulary: Vocabulary, config: LlamaConfig, adds_bos: bool, adds_eos: bool
) -> dict[str, object]:
    settings: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.context,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": adds_bos,
        "add_eos_token": adds_eos,
    }
    for name in _NAMED:
        token_id = getattr(vocabulary, name)
        if token_id is not None:
            settings[f"{name}_token"] = vocabulary.tokens[token_id]
    template = gguf.metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        settings["chat_template"] = template
    return settings


def _generation_config(gguf: GgufFile, vocabulary: Vocabulary, config: LlamaConfig) -> dict[str, object]:
    ends = [vocabulary.eos]
    ends += [_token_id(gguf, key, len(vocabulary.tokens)) for key in ("eot_token_id", "eom_token_id")]
    ends += [vocabulary.ids.get(text) for text in _ENDS_OF_TURN]
    settings: dict[str, object] = {"max_length": config.context}
    for name in ("bos", "pad"):
        if getattr(vocabulary, name) is not None:
            settings[f"{name}_token_id"] = getattr(vocabulary, name)
    settings["eos_token_id"] = list(dict.fromkeys(end for end in ends if end is not None))
    return settings
