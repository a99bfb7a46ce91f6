"""Profiles of poorer devices: read, merged with what a device reports, refused where they make no sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from tlite_vk.device import choose_device, list_devices
from tlite_vk.errors import DeviceError, InputError, NoDeviceError
from tlite_vk.limits import VARIABLE, Limits, chosen_limits, parse, profile_names
from tlite_vk.target import Target

SHIPPED = ["adreno-7xx", "adreno-old", "least", "mali", "vulkan-1.1"]


def test_the_profiles_that_are_shipped() -> None:
    assert profile_names() == SHIPPED
    for name in SHIPPED:
        found = chosen_limits(name)
        assert found is not None and found.name == name and found.limits and found.features
        assert found.limits["max_storage_buffer_range"] == 128 << 20
        assert found.limits["max_allocation_count"] == 4096


def test_the_environment_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert chosen_limits() is None
    monkeypatch.setenv(VARIABLE, "mali")
    assert chosen_limits() == chosen_limits("mali") != chosen_limits("least")


def test_files_of_both_kinds(tmp_path: Path) -> None:
    toml, as_json = tmp_path / "own.toml", tmp_path / "own.json"
    toml.write_text("[limits]\nmax_push_constants = 64\nmax_workgroup_size = [64, 4, 2]\n[features]\nint8 = false\n")
    as_json.write_text(
        '{"limits": {"max_push_constants": 64, "max_workgroup_size": [64, 4, 2]}, "features": {"int8": false}}'
    )
    expected = {"max_push_constants": 64}, {"max_workgroup_size": (64, 4, 2)}, {"int8": False}
    for file in (toml, as_json):
        assert chosen_limits(file) == Limits(str(file), *expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limits = 3", "limits must be a table"),
        ("[limit]\nx = 3", "may hold integrated, limits and features"),
        ("[limits]\nmax_push_constants = 'many'", "max_push_constants must be a whole number"),
        ("[limits]\nmax_push_constants = true", "max_push_constants must be a whole number"),
        ("[limits]\nmax_push_constants = -1", "max_push_constants must be a whole number"),
        ("[limits]\nmax_workgroup_size = [1, 2]", "takes three numbers"),
        ("[features]\nfloat16 = 1", "float16 must be true or false"),
        ("integrated = 1", "integrated must be true or false"),
        ("[limits", "are no TOML"),
    ],
)
def test_what_is_no_profile(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse("own.toml", text)
    assert "\n" not in str(error.value)


def test_an_unknown_profile_is_one_line_that_lists_them() -> None:
    with pytest.raises(InputError, match=r"no profile of limits 'mail'; take adreno-7xx, .*, or a file"):
        chosen_limits("mail")


def own(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "own.toml"
    file.write_text(text)
    return file


def test_a_profile_makes_a_device_poorer_and_never_richer(tmp_path: Path, lavapipe: None) -> None:
    info = choose_device()
    rich = own(
        tmp_path,
        "[limits]\nmax_storage_buffer_range = 9_000_000_000\nmin_storage_offset_alignment = 1\n"
        "max_push_constants = 32\n"
        "min_uniform_offset_alignment = 4096\nmax_workgroup_size = [9000, 32, 9000]\n"
        "[features]\ncooperative_matrix = true\nsubgroup_basic = true\nsubgroup_arithmetic = false\n",
    )
    (poor,) = list_devices(limits=rich)
    changed = {"max_push_constants": 32, "min_uniform_offset_alignment": 4096}
    assert poor.limits == info.limits | changed
    assert poor.features == info.features | {"subgroup_arithmetic": False}
    x, _, z = info.max_workgroup_size
    assert poor.max_workgroup_size == (x, 32, z) and poor.max_workgroup_count == info.max_workgroup_count
    assert poor.device_type == info.device_type and poor.heaps == info.heaps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[limits]\nmax_wishes = 3", "no limit max_wishes to lower; there are max_allocation_count, "),
        ("[limits]\nsubgroup_size = 64", "no limit subgroup_size to lower"),
        ("[features]\ntelepathy = false", "no feature telepathy to leave out; there are compute_full_subgroups, "),
        ("[limits]\nmin_storage_offset_alignment = 48", "must be a power of two, not 48"),
    ],
)
def test_names_that_no_device_has(tmp_path: Path, lavapipe: None, text: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message) as error:
        choose_device(limits=own(tmp_path, text))
    assert "\n" not in str(error.value)
    assert not isinstance(error.value, NoDeviceError)  # the machine is not what is wrong


def test_a_cpu_driver_passes_for_a_gpu(lavapipe: None) -> None:
    assert Target.of(choose_device(limits="least")).cpu
    phone = Target.of(choose_device(limits="mali"))
    assert not phone.cpu and not phone.half and phone.subgroup == 0 and phone.max_invocations == 256
    assert Target.of(choose_device(limits="adreno-7xx")).half
