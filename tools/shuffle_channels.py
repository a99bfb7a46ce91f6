#!/usr/bin/env python3
"""Reorder the channels of a Llama in fp16 at random, so that it computes the same with its weights in other places.

The weights of the only small model at hand were distributed in 4 bits, in groups of 32 neighbours. Quantized anew in
the same groups they fall on the same grid, which tells nothing of a quantizer. After a shuffle, neighbours come from
different groups, with steps of their own. Shuffled are the hidden channels of the whole model, those of each
feed-forward layer, and those of the values within each head; queries and keys stay: their rotation couples channels.

Takes a folder that `tlite-vk convert --weights float16` wrote.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

Array = npt.NDArray[Any]
_TYPES: dict[int, Any] = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of a converted model, its matrices in float16")
    parser.add_argument("output", type=Path, help="folder to write; must not exist")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shutil.copytree(options.source, options.output)
    model = onnx.load(str(options.output / "model.onnx"), load_external_data=False)
    weights = mapped(model, options.output)
    heads = next((n for n in model.graph.node if n.op_type == "Attention"), None)
    if heads is None or "token_embd.weight" not in weights:
        print(f"error: {options.source} is no Llama that `tlite-vk convert` wrote", file=sys.stderr)
        return 2
    counts = {a.name: int(a.i) for a in heads.attribute if a.name.endswith("num_heads")}
    shuffle(weights, counts["q_num_heads"], counts["kv_num_heads"], np.random.default_rng(options.seed))
    return 0


def mapped(model: onnx.ModelProto, folder: Path) -> dict[str, Array]:
    """The large initializers by name, without `.stored`, as views of the file that can be written to."""
    found: dict[str, Array] = {}
    for tensor in model.graph.initializer:
        entry = {e.key: e.value for e in tensor.external_data}
        if tensor.data_type in _TYPES and entry:
            path, offset = folder / entry["location"], int(entry.get("offset", 0))
            shape = tuple(tensor.dims)
            name = tensor.name.removesuffix(".stored")
            found[name] = np.memmap(path, _TYPES[tensor.data_type], "r+", offset, shape)
    return found


def shuffle(weights: dict[str, Array], heads: int, kv_heads: int, rng: np.random.Generator) -> None:
    """Reorder in place. Matrices are [rows out, columns in]."""
    hidden = rng.permutation(weights["token_embd.weight"].shape[1])
    layers = sorted({m[1] for m in (re.match(r"(blk\.\d+)\.", name) for name in weights) if m})
    for name, weight in weights.items():
        if re.search(r"(norm|token_embd|^output|attn_[qkv]|ffn_gate|ffn_up)\.weight$", name):
            weight[...] = weight[..., hidden]
        elif re.search(r"(attn_output|ffn_down)\.weight$", name):
            weight[...] = weight[hidden]
    for layer in layers:
        inner = rng.permutation(weights[f"{layer}.ffn_down.weight"].shape[1])
        reorder(weights, layer, ("ffn_gate", "ffn_up"), "ffn_down", inner, inner)
        size = weights[f"{layer}.attn_v.weight"].shape[0] // kv_heads
        within = [rng.permutation(size) for _ in range(kv_heads)]
        rows = np.concatenate([h * size + order for h, order in enumerate(within)])
        columns = np.concatenate([h * size + within[h * kv_heads // heads] for h in range(heads)])
        reorder(weights, layer, ("attn_v",), "attn_output", rows, columns)


def reorder(
    weights: dict[str, Array], layer: str, before: tuple[str, ...], after: str, rows: Array, columns: Array
) -> None:
    """Reorder what some projections give, and what the next one takes, alike."""
    for name in before:
        weight = weights[f"{layer}.{name}.weight"]
        weight[...] = weight[rows]
    weight = weights[f"{layer}.{after}.weight"]
    weight[...] = weight[:, columns]


if __name__ == "__main__":
    sys.exit(main())
