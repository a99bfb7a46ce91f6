#!/usr/bin/env python3
"""Exports a model from transformers to ONNX, as a user would: DIR/model.onnx.

    tools/export_model.py llama -o exported/llama
    tools/export_model.py qwen2 -o exported/qwen2 --exporter torchscript --no-past
    tools/export_model.py "$(tlite-vk fetch smollm2-135m)" -o exported/smollm2

MODEL is the name of an architecture, for a small model with random weights; or a trained model: a folder of
transformers, or a GGUF file that it reads. A trained model's tokenizer is written beside it.

Decoders take input_ids [B, T], attention_mask [B, P + T] and position_ids [B, T], with --past also
past_key_values.N.key and .value [B, KV, P, D]; they give logits [B, T, V] and, with --past, present.N.key and .value
[B, KV, P + T, D]: the names that Hugging Face Optimum uses. Needs torch and transformers: pip install -e '.[dev]'.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from exporting.architectures import ARCHITECTURES, build
from exporting.checkpoint import load_checkpoint
from exporting.export import EXPORTER_FAULTS, EXPORTERS, export_module


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("model", metavar="MODEL", help=", ".join(ARCHITECTURES) + ", or a path")
    found.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    found.add_argument("--exporter", choices=EXPORTERS, default="dynamo")
    found.add_argument("--past", action=argparse.BooleanOptionalAction, default=True, help="for decoders")
    found.add_argument("--opset", type=int, help="default: the exporter's own")
    random = found.add_argument_group("of random weights")
    random.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa")
    random.add_argument("--layers", type=int, default=2)
    random.add_argument("--seed", type=int, default=0)
    return found


def main() -> None:
    parsing = parser()
    options = parsing.parse_args()
    tokenizer = None
    if options.model in ARCHITECTURES:
        fault = EXPORTER_FAULTS.get((options.model, options.exporter, options.past))
        if fault:
            parsing.error(f"{options.model}: {fault}")
        model = build(options.model, options.layers, options.seed, options.attention)
    elif Path(options.model).exists():
        model, tokenizer = load_checkpoint(Path(options.model))
    else:
        parsing.error(f"{options.model} is neither a path nor one of {', '.join(ARCHITECTURES)}")
    path = export_module(model, options.output, exporter=options.exporter, past=options.past, opset=options.opset)
    if tokenizer is not None:
        tokenizer.save_pretrained(options.output)
    print(path)


if __name__ == "__main__":
    main()
