"""Which program of a file a device runs."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from tlite_vk.compile import compile_model, compile_variants
from tlite_vk.compiled import variants
from tlite_vk.compiled.reader import CompiledFile
from tlite_vk.device import Device, list_devices
from tlite_vk.errors import ModelError
from tlite_vk.limits import profile_names
from tlite_vk.target import Target

STANDARD = variants.standard_targets()
CHOSEN = {"least": "cpu-4", "adreno-7xx": "half-0-32k-1024", "adreno-old": "gpu-0-16k-128", "mali": "gpu-0-32k-256"}
H100 = Target(
    "H100", cpu=False, lanes=32, texel=False, max_texel_elements=1 << 27, max_storage_range=(1 << 32) - 1,
    max_storage_buffers=1 << 20, max_shared_bytes=49152, max_invocations=1024, alignment=16, half_cache=True,
    matrix=True, half=True, subgroup=32, max_subgroups=32,
)  # fmt: skip


def test_names_are_distinct_and_each_fits_itself() -> None:
    assert len({t.name for t in STANDARD}) == len(STANDARD)
    assert [variants.choose(STANDARD, t) for t in STANDARD] == list(range(len(STANDARD)))


def test_every_property_of_a_target_is_weighed() -> None:
    """A new one needs a decision: may a device without it run a program that was compiled for it?"""
    weighed = {"name", "cpu", "half_cache", "subgroup", "alignment", "lanes", "max_texel_elements", "max_subgroups"}
    weighed |= {*variants._SWITCHES, *variants._LIMITS}
    same_in_all = {"fuse", "reuse", "tuning"}
    speed_only = {"driver"}
    assert {f.name for f in fields(Target)} == weighed | same_in_all | speed_only
    assert all(t.fuse and t.reuse and not t.tuning for t in STANDARD)


def test_a_desktop_gpu_gets_all_that_it_has() -> None:
    assert STANDARD[variants.choose(STANDARD, H100)].name == "matrix-32-48k-1024"
    assert STANDARD[variants.choose(STANDARD, replace(H100, matrix=False))].name == "half-32-48k-1024"
    plain = replace(H100, matrix=False, half=False, subgroup=64, max_shared_bytes=32768)
    assert STANDARD[variants.choose(STANDARD, plain)].name == "gpu-64-32k-1024"
    single = replace(H100, matrix=False, half=False, half_cache=False)
    assert STANDARD[variants.choose(STANDARD, single)].name == "gpu-32-48k-1024-fp32"


@pytest.mark.parametrize(
    "poorer",
    [
        {"max_shared_bytes": 8192},
        {"max_storage_range": 1 << 20},
        {"max_storage_buffers": 4},
        {"max_invocations": 64},
        {"alignment": 512},
    ],
    ids=lambda p: next(iter(p)),
)
def test_a_device_that_is_too_poor_is_told_why(poorer: dict[str, Any]) -> None:
    with pytest.raises(ModelError) as caught:
        variants.choose(STANDARD, replace(H100, **poorer))
    said = str(caught.value)
    assert "\n" not in said and "H100" in said
    assert any(word in said for word in (*poorer, "multiples of 256"))


def test_the_profiles_of_poorer_devices(device: Device) -> None:
    assert {*CHOSEN, "vulkan-1.1"} == set(profile_names())
    for profile in profile_names():
        target = Target.of(list_devices(limits=profile)[device.info.index])
        if profile == "vulkan-1.1":  # 4 storage buffers in a shader: no kernel of ours
            with pytest.raises(ModelError, match="max_storage_buffers of 8, the device has 4"):
                variants.choose(STANDARD, target)
        else:
            assert STANDARD[variants.choose(STANDARD, target)].name == CHOSEN[profile]


def test_targets_come_back_from_json_and_others_are_refused() -> None:
    assert [variants.from_json(variants.to_json(t)) for t in STANDARD] == STANDARD
    good = variants.to_json(STANDARD[0])
    for bad in ({}, {**good, "lanes": -1}, {**good, "cpu": 1}, {**good, "more": 1}, {**good, "lanes": "8"}):
        with pytest.raises(ModelError):
            variants.from_json(bad)


def test_a_file_runs_the_kernels_that_the_device_would_compile(
    any_device: Device, tiny_onnx: Path, tiny_compiled: Path
) -> None:
    target = Target.of(any_device.info)
    entries = ("decode", "prefill")
    own = compile_model(tiny_onnx, target, entries, positions=2048)
    stored, _ = CompiledFile(tiny_compiled).program(target, entries)
    for name in entries:
        pairs = zip(own.entries[name].dispatches, stored.entries[name].dispatches, strict=True)
        assert all((own.kernels[a.kernel], a.groups) == (stored.kernels[b.kernel], b.groups) for a, b in pairs)


def test_at_most_25_pipelines(tiny_onnx: Path) -> None:
    for entries in (("decode", "prefill"), ("score",)):
        for program in compile_variants(tiny_onnx, STANDARD, entries, positions=2048):
            assert len(program.kernels) <= 25
