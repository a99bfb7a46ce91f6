"""Exported models through a Session, caches in and caches out, against torch: each architecture and exporter."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from support.exports import OTHER_FORMS, Lengths, Variant, difference, feed, torch_outputs, valid, variants

from tlite_vk.device import Device
from tlite_vk.session import Session

FRESH = [Lengths(1, 1), Lengths(1, 7), Lengths(2, 5), Lengths(2, 40)]
CACHED = [Lengths(1, 1, 6), Lengths(2, 4, 3), Lengths(1, 9, 60)]


@pytest.mark.parametrize("variant", [*variants(), *OTHER_FORMS], ids=str)
def test_outputs_are_torchs(device: Device, exported: Callable[..., Path], variant: Variant) -> None:
    path = exported(variant)
    theirs = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ours = Session(path, device)
    names = [value.name for value in theirs.get_outputs()]
    assert [value.name for value in ours.outputs] == names
    for lengths in FRESH + (CACHED if variant.past else []):
        inputs = feed(variant.name, lengths, variant.past)
        want = valid(torch_outputs(variant.name, inputs), inputs)
        reproduced = valid([np.asarray(each) for each in theirs.run(names, inputs)], inputs)
        assert difference(reproduced, want) < 2e-5, f"{lengths}: the export itself is wrong"
        got = ours.run(inputs)
        assert list(got) == names
        assert difference(valid(list(got.values()), inputs), want) < 2e-4, lengths
