"""Files that onnxruntime's own model builder writes generate what onnxruntime does with them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exporting.architectures import VOCABULARY, build
from support.greedy import OnnxruntimeGreedy
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from tlite_vk.device import Device
from tlite_vk.loading import load

TOKENS, MARGIN, STOP = 24, 1e-3, 2
FORMS = {
    "llama-int4": ("llama", "int4", ["is_symmetric=false"]),
    "qwen2-int8": ("qwen2", "int8", []),
    "qwen3-int4-64": ("qwen3", "int4", ["block_size=64"]),
    "gemma-int4-tied": ("gemma", "int4", ["shared_embeddings=true"]),
}


def save(name: str, folder: Path) -> tuple[int, int]:
    """A model and a tokenizer as Hugging Face keeps them. Returns its key heads and their size."""
    model: Any = build(name)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({f"t{i}": i for i in range(VOCABULARY)}, unk_token="t0"))
    wrap: Any = PreTrainedTokenizerFast
    wrapped = wrap(tokenizer_object=tokenizer, pad_token="t0", unk_token="t0", bos_token="t1", eos_token="t2")
    wrapped.save_pretrained(folder)
    config = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(config.num_key_value_heads), int(width)


def run_builder(source: Path, out: Path, precision: str, options: list[str]) -> Path:
    """accuracy_level 1: onnxruntime does not quantize activations either."""
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", source, "-o", out, "-p", precision]
    command += ["-e", "cpu", "-c", out.parent / "cache", "--extra_options", "accuracy_level=1", *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "model.onnx"


@pytest.mark.parametrize("form", FORMS)
def test_greedy_tokens_are_those_of_onnxruntime(device: Device, tmp_path: Path, form: str) -> None:
    name, precision, options = FORMS[form]
    heads = save(name, tmp_path / "model")
    path = run_builder(tmp_path / "model", tmp_path / "built", precision, options)
    reference = OnnxruntimeGreedy(path, *heads)
    with load(path, device=device, precision="fp32", chunk=64) as ours:
        for count in (1, 65, 200):
            prompt = [int(i) for i in np.random.default_rng(1000 + count).integers(3, VOCABULARY, count)]
            expected = reference.tokens(prompt, TOKENS)
            tokens = [token for token, _ in expected]
            tokens = tokens[: tokens.index(STOP)] if STOP in tokens else tokens
            assert min(margin for _, margin in expected[: len(tokens) + 1]) > MARGIN, count
            assert list(ours.generate_tokens(prompt, max_tokens=TOKENS)) == tokens, count
