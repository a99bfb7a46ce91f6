"""Models as onnxruntime's model builder writes them, through a Session, against onnxruntime."""

import numpy as np
import pytest
from support.builder_llama import BuilderLlama, build_builder_llama, step_inputs
from support.onnx_models import Array, run_onnxruntime

from tlite_vk.device import Device
from tlite_vk.graph.onnx_load import from_proto
from tlite_vk.session import Session

FORMS = {
    "4-bits-32": BuilderLlama(),
    "4-bits-32-zero": BuilderLlama(zero="packed"),
    "4-bits-128": BuilderLlama(block=128, hidden=128),
    "4-bits-128-zero": BuilderLlama(block=128, hidden=128, inner=256, zero="packed"),
    "4-bits-16": BuilderLlama(block=16),
    "8-bits": BuilderLlama(bits=8),
    "8-bits-zero": BuilderLlama(bits=8, zero="packed"),
    "floats": BuilderLlama(bits=0, table="floats"),
    "packed": BuilderLlama(packed=True, bias=True),
    "window": BuilderLlama(window=4),
    "interleaved": BuilderLlama(interleaved=1),
    "partial": BuilderLlama(head_dim=32, rotary=16),
    "rotation-nodes": BuilderLlama(turn="nodes", interleaved=1),
    "positions-given": BuilderLlama(turn="given"),
    "no-rotation": BuilderLlama(turn=""),
    "head-norms": BuilderLlama(head_norms="nodes", bias=True),
    "quantized-table": BuilderLlama(table="codes"),
    "tied-table": BuilderLlama(table="tied", bits=8),
    "lengths-as-inputs": BuilderLlama(lengths="inputs"),
    "open-size": BuilderLlama(open_size=True, packed=True),
    "half": BuilderLlama(dtype=np.float16),
    "half-zero": BuilderLlama(dtype=np.float16, zero="packed", table="codes"),
}
STEPS = ((1, 0, [1]), (7, 0, [7]), (7, 0, [7, 4]), (1, 6, [7]), (1, 6, [7, 3]), (5, 9, [14]))
"""Tokens, past, and valid tokens of each sequence afterwards: padding is on the right. onnxruntime takes several rows
of several sequences only where there is no past."""


def share(got: Array, expected: Array) -> float:
    """Largest difference over largest value."""
    wide = expected.astype(np.float32)
    return float(np.abs(got - wide).max() / np.abs(wide).max())


@pytest.mark.parametrize("form", FORMS)
def test_a_step_gives_what_onnxruntime_gives(device: Device, form: str) -> None:
    config = FORMS[form]
    model = build_builder_llama(config)
    tolerance = 2e-4 if config.dtype == np.float32 else 5e-3  # onnxruntime rounds to halves between operators
    session = Session(from_proto(model), device)
    for tokens, past, valid in STEPS:
        inputs = step_inputs(model, config, tokens, past, valid)
        expected, got = run_onnxruntime(model, inputs), session.run(inputs)
        for name, array in expected.items():
            for b, count in enumerate(valid):
                rows = min(count, tokens) if name.startswith("logits") else count
                where = np.s_[b, :rows] if array.ndim == 3 else np.s_[b, :, :rows]
                assert share(got[name][where], array[where]) < tolerance, (name, tokens, past, b)
