"""Tiny GGUF models, written with the `gguf` package: an implementation other than the reader under test."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFWriter

WriteModel = Callable[..., Path]
"""`write_llama` for a folder that a fixture chose."""
CHAT_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"

# Where the fp16 factors of a block stand, for types that the gguf package can read but not write.
_K_FACTORS = {Kind.Q4_K: (0, 2), Kind.Q5_K: (0, 2), Kind.Q6_K: (208,), Kind.IQ4_NL: (0,)}


def stored(values: npt.NDArray[np.float32], kind: Kind, rng: np.random.Generator) -> npt.NDArray[Any]:
    """[N, K] values in the storage type `kind`; for K types any blocks of about the same size of values."""
    if kind == Kind.F32:
        return values
    if kind not in _K_FACTORS:
        return gguf.quants.quantize(values, kind)
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (values.size // block, block_bytes), np.uint8)
    for at in _K_FACTORS[kind]:
        factors = rng.uniform(1e-5, 1e-4, len(blocks)).astype("<f2")
        blocks[:, at : at + 2] = factors.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(values.shape[0], -1)


def add_tokenizer(writer: GGUFWriter) -> None:
    """A tokenizer of bytes: <unk>, <s>, </s>, the 256 bytes, a space and the letter a; and a chat template."""
    tokens = [b"<unk>", b"<s>", b"</s>", *(b"<0x%02X>" % i for i in range(256)), "\u2581".encode(), b"a"]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([2, 3, 3, *[6] * 256, 1, 1])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(CHAT_TEMPLATE)


def write_llama(
    folder: Path,
    *,
    name: str = "tiny.gguf",
    kind: Kind = Kind.F32,  # of the matrices in the layers
    embedding: Kind | None = None,  # same as `kind` unless given
    output: Kind | None = None,  # None: the embedding is the head
    layers: int = 2,
    hidden: int = 64,
    ffn: int = 96,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int | None = None,
    value_dim: int | None = None,
    rotary_dim: int | None = None,
    vocab: int = 288,
    context: int = 128,
    biases: bool = False,
    rope_factors: Sequence[float] | None = None,
    linear_factor: float | None = None,
    architecture: str = "llama",
    add: Callable[[GGUFWriter], None] | None = None,  # more metadata
    tensors: Mapping[str, npt.NDArray[np.float32]] | None = None,  # more F32 tensors
    without: Sequence[str] = (),  # tensors left out
    tokenizer: bool = False,  # one of 261 tokens, see `add_tokenizer`
) -> Path:
    """Write a Llama model of random weights, the same for the same arguments; returns its path."""
    rng = np.random.default_rng(7)
    d = head_dim or hidden // heads
    dv = value_dim or d
    path = folder / name
    writer = GGUFWriter(str(path), architecture)
    writer.add_name("Tiny")
    writer.add_license("apache-2.0")
    writer.add_context_length(context)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(d)
    writer.add_value_length(dv)
    writer.add_rope_dimension_count(rotary_dim or d)
    writer.add_rope_freq_base(1000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocab)
    if linear_factor is not None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(linear_factor)
    if tokenizer:
        add_tokenizer(writer)
    if add is not None:
        add(writer)

    def matrix(tensor: str, n: int, k: int, stored_as: Kind) -> None:
        values = (rng.standard_normal((n, k)) / np.sqrt(k)).astype(np.float32)
        if tensor not in without:
            writer.add_tensor(tensor, stored(values, stored_as, rng), raw_dtype=stored_as)

    def vector(tensor: str, values: npt.NDArray[np.floating]) -> None:
        if tensor not in without:
            writer.add_tensor(tensor, values.astype(np.float32))

    def linear(tensor: str, n: int, k: int) -> None:
        matrix(f"{tensor}.weight", n, k, kind)
        if biases:
            vector(f"{tensor}.bias", rng.standard_normal(n))

    matrix("token_embd.weight", vocab, hidden, embedding or kind)
    for block in (f"blk.{i}" for i in range(layers)):
        vector(f"{block}.attn_norm.weight", 1 + 0.1 * rng.standard_normal(hidden))
        linear(f"{block}.attn_q", heads * d, hidden)
        linear(f"{block}.attn_k", kv_heads * d, hidden)
        linear(f"{block}.attn_v", kv_heads * dv, hidden)
        linear(f"{block}.attn_output", hidden, heads * dv)
        vector(f"{block}.ffn_norm.weight", 1 + 0.1 * rng.standard_normal(hidden))
        linear(f"{block}.ffn_gate", ffn, hidden)
        linear(f"{block}.ffn_up", ffn, hidden)
        linear(f"{block}.ffn_down", hidden, ffn)
    vector("output_norm.weight", 1 + 0.1 * rng.standard_normal(hidden))
    if output is not None:
        matrix("output.weight", vocab, hidden, output)
    if rope_factors is not None:
        vector("rope_freqs.weight", np.array(rope_factors))
    for tensor, values in (tensors or {}).items():
        writer.add_tensor(tensor, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
