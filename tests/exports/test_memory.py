"""Activations of exported models: one plan for all lengths, at most 5 percent above what no plan could undercut."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.exports import Variant, variants

from tlite_vk.compile import Compiled, compile_model, compile_run
from tlite_vk.device import Device
from tlite_vk.target import Target


@pytest.mark.parametrize("variant", list(variants()), ids=str)
def test_arena_beside_its_lower_bound(device: Device, exported: Callable[..., Path], variant: Variant) -> None:
    path, target, seen = exported(variant), Target.of(device.info), list[Compiled]()
    compile_run(path, target, observe=seen.append)
    if variant.name not in ("bert", "vit"):
        compile_model(path, target, observe=seen.append)
    for compiled in seen:
        plan = compiled.plan
        for tokens in (1, 64, 512):
            values = compiled.lengths(tokens)
            for past in (0, 64) if "past_sequence_length" in values else (0,):
                values |= {"past_sequence_length": past}
                least = plan.lower_bound(values)
                assert least <= plan.bytes(values) <= 1.05 * least, (compiled.entry.name, values)
                assert plan.bytes(values) < plan.without_reuse(values), (compiled.entry.name, values)
