#!/usr/bin/env python3
"""Exports a small model with random weights from transformers to ONNX, as a user would: DIR/model.onnx.

    tools/export_model.py llama -o exported/llama
    tools/export_model.py qwen2 -o exported/qwen2 --exporter torchscript --no-past

Decoders take input_ids [B, T], attention_mask [B, P + T] and position_ids [B, T], with --past also
past_key_values.N.key and .value [B, KV, P, D]; they give logits [B, T, V] and, with --past, present.N.key and .value
[B, KV, P + T, D]: the names that Hugging Face Optimum uses. Needs torch and transformers: pip install -e '.[dev]'.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from exporting.architectures import ARCHITECTURES, DECODERS
from exporting.export import EXPORTER_FAULTS, EXPORTERS, export


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architecture", choices=sorted(ARCHITECTURES))
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--exporter", choices=EXPORTERS, default="dynamo")
    parser.add_argument("--past", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--opset", type=int, help="default: the exporter's own")
    parser.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    past = options.past and options.architecture in DECODERS
    fault = EXPORTER_FAULTS.get((options.architecture, options.exporter, past))
    if fault:
        parser.error(f"not with {options.exporter}: {fault}")
    path = export(
        options.architecture,
        options.output,
        exporter=options.exporter,
        past=past,
        opset=options.opset,
        layers=options.layers,
        seed=options.seed,
        attention=options.attention,
    )
    print(path)


if __name__ == "__main__":
    main()
