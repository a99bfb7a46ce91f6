#!/usr/bin/env python3
"""How far the outputs of quantized encoders lie from the original's, on sentences of a text.

    tools/compare_quantized.py original/model.onnx persuasion.txt e0m4-32/model.onnx e0m4-64/model.onnx

All models run in onnxruntime on the same sentences, one at a time; a tokenizer.json lies beside the original, and its
inputs are input_ids and attention_mask. For each quantized model are printed the mean angle between its first output
and the original's, in degrees, and the mean length of their difference over that of the original.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import tokenizers

Array = npt.NDArray[Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("original", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("quantized", type=Path, nargs="+")
    parser.add_argument("--sentences", type=int, default=200)
    options = parser.parse_args()
    inputs = sentences(options.text, options.original.parent / "tokenizer.json", options.sentences)
    want = outputs(options.original, inputs)
    for path in options.quantized:
        got = outputs(path, inputs)
        norms = np.linalg.norm(got, axis=-1), np.linalg.norm(want, axis=-1)
        cosine = np.clip((got * want).sum(-1) / (norms[0] * norms[1]), -1, 1)
        found = {
            "model": str(path),
            "sentences": len(inputs),
            "degrees": float(np.degrees(np.arccos(cosine)).mean()),
            "relative": float((np.linalg.norm(got - want, axis=-1) / norms[1]).mean()),
        }
        print(json.dumps(found), flush=True)
    return 0


def sentences(text: Path, tokenizer: Path, count: int) -> list[Array]:
    """Token ids [1, T] of the first `count` sentences of at least 20 characters, cut off at 128 tokens."""
    words = " ".join(text.read_text(encoding="utf-8").split())
    found = [s for s in re.split(r"(?<=[.!?]) ", words) if len(s) >= 20][:count]
    core = tokenizers.Tokenizer.from_file(str(tokenizer))
    core.no_padding()
    return [np.array([core.encode(s).ids[:128]], np.int64) for s in found]


def outputs(path: Path, inputs: list[Array]) -> Array:
    """The first output for each input, flattened to its last axis: [sum of rows, K]."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_outputs()[0].name
    found = [session.run([name], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0] for ids in inputs]
    rows = [np.asarray(array, np.float64) for array in found]
    return np.concatenate([array.reshape(-1, array.shape[-1]) for array in rows])


if __name__ == "__main__":
    sys.exit(main())
