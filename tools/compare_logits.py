#!/usr/bin/env python3
"""Compare the logits of a model with those of onnxruntime in fp32, on the same ONNX file and the same tokens.

    tools/compare_logits.py smollm2-135m/model.onnx
    tools/compare_logits.py smollm2-135m/model.onnx --precision fp32
    tools/compare_logits.py smollm2-135m/model.onnx --half-activations

onnxruntime answers each prompt greedily; its tokens are given to both sides, whatever ours would have chosen. Reported
are the largest difference of any logit and how many greedy choices differ: in all, and where the reference's first two
lie further apart than twice that difference, which would be an error. See docs/adr/0003-activations-in-fp32.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from tlite_vk.compile import compile_model
from tlite_vk.device import open_device
from tlite_vk.engine import Engine
from tlite_vk.generate import Model
from tlite_vk.target import Target, has_half_arithmetic
from tlite_vk.tokenizer import Tokenizer

PROMPTS = (
    "What is the capital of France?",
    "Write a short poem about the sea.",
    "Explain how a bicycle stays upright.",
)
CAPACITY = 512
CHUNK = 64
Row = npt.NDArray[np.float32]


def arguments() -> argparse.Namespace:
    """The command line."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="an ONNX file that `tlite-vk convert` wrote, with its tokenizer")
    parser.add_argument("--prompt", action="append", help="a chat message; may be repeated (default: three of ours)")
    parser.add_argument("--tokens", type=int, default=200, help="tokens in all, shared by the prompts (default 200)")
    parser.add_argument("--precision", choices=("fp16", "fp32"), default="fp16", help="of the KV cache (default fp16)")
    parser.add_argument("--half-activations", action="store_true", help="store inputs of matrix products as halves too")
    parser.add_argument("--gpu-kernels", action="store_true", help="on a CPU driver: the kernels that GPUs run")
    parser.add_argument("--device", help="an index or a part of the device's name")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    chosen = parser.parse_args()
    if not chosen.model.is_file():
        parser.error(f"no such file: {chosen.model}")
    return chosen


class Reference:
    """The model in onnxruntime, token by token after the prompt."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.add_session_config_entry("session.disable_quant_qdq", "1")  # weights are dequantized once, to fp32
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._caches: dict[str, Any] = {}
        self._position = 0

    def start(self) -> None:
        """Forget what was cached."""
        self._position = 0
        self._caches = {
            value.name: np.zeros((1, CAPACITY, value.shape[2]), np.float32)
            for value in self._session.get_inputs()
            if value.name.startswith("past_key_values.")
        }

    def step(self, ids: list[int]) -> Row:
        """The logits [V] after these tokens, which follow those given before."""
        end = self._position + len(ids)
        feeds = self._caches | {
            "input_ids": np.array([ids], np.int64),
            "position_ids": np.arange(self._position, end, dtype=np.int64)[None],
            "write_indices": np.array([self._position], np.int64),
            "nonpad_kv_seqlen": np.array([end], np.int64),
        }
        found = dict(zip(self._outputs, self._session.run(None, feeds), strict=True))
        self._caches = {name: found[name.replace("past_key_values", "present")] for name in self._caches}
        self._position = end
        row: Row = np.asarray(found["logits"], np.float32)[0, -1]
        return row


class Ours:
    """The model on a device, fed the same tokens."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        device = open_device(chosen.device)
        target = replace(Target.of(device.info, chosen.precision), half_activations=chosen.half_activations)
        if chosen.gpu_kernels:
            half = chosen.precision == "fp16" and has_half_arithmetic(device.info)
            target = replace(target, cpu=False, texel=False, half=half)
        program = compile_model(chosen.model, target, ("decode", "prefill"))
        engine = Engine(device, program, target, capacity=CAPACITY, window=0, chunk=CHUNK)
        self.tokenizer = Tokenizer.load(chosen.model)
        self._model = Model(engine, self.tokenizer, chosen.model)
        self.device = device.info.name
        self._position = 0

    def encode(self, prompt: str) -> list[int]:
        return self._model.encode([{"role": "user", "content": prompt}])

    def start(self) -> None:
        self._position = 0

    def step(self, ids: list[int]) -> Row:
        """As Reference.step."""
        self._model.prefill(ids, start=self._position, pick=False)
        self._position += len(ids)
        return np.array(self._model.engine.logits()[0])


@dataclass(frozen=True)
class Compared:
    """One pair of logits: their largest difference, whether the choices agree, and the reference's margin."""

    difference: float
    same: bool
    margin: float


def compare(ours: Ours, reference: Reference, prompt: str, tokens: int) -> Iterator[Compared]:
    """Teacher-forced over `tokens` tokens of the reference's answer, its end token included."""
    ids = ours.encode(prompt)
    ours.start()
    reference.start()
    for _ in range(tokens):
        got, want = ours.step(ids), reference.step(ids)
        second, first = np.partition(want, -2)[-2:]
        yield Compared(float(np.abs(got - want).max()), int(got.argmax()) == int(want.argmax()), float(first - second))
        ids = [int(want.argmax())]


def main() -> None:
    """Compare and print."""
    chosen = arguments()
    prompts = chosen.prompt or list(PROMPTS)
    ours, reference = Ours(chosen), Reference(chosen.model)
    found: list[Compared] = []
    for number, prompt in enumerate(prompts):
        share = chosen.tokens * (number + 1) // len(prompts) - chosen.tokens * number // len(prompts)
        found += compare(ours, reference, prompt, share)
        print(f"{prompt}: {len(found)} tokens so far", file=sys.stderr, flush=True)
    worst = max(c.difference for c in found)
    differ = [c.margin for c in found if not c.same]
    result = {
        "device": ours.device, "precision": chosen.precision, "half_activations": chosen.half_activations,
        "tokens": len(found), "largest_difference": worst, "choices_that_differ": len(differ),
        "choices_that_differ_beyond_twice_it": sum(margin > 2 * worst for margin in differ),
    }  # fmt: skip
    if chosen.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name.replace('_', ' '):36} {value}")


if __name__ == "__main__":
    main()
