"""The saved pipeline cache: round trip, foreign and damaged data, folders that cannot be used."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from support.chain import make_pipeline

from tlite_vk import cache
from tlite_vk import device as devices
from tlite_vk.device import Device


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TLITE_VK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_round_trip(any_device: Device) -> None:
    make_pipeline(any_device)
    data = any_device.pipeline_cache()
    length, version = struct.unpack_from("<II", data)
    assert (length, version) == (32, 1)
    assert data[16:32].hex() == any_device.info.pipeline_cache_uuid
    assert any_device.load_pipeline_cache(data)


def test_damaged_and_foreign_data_is_refused(device: Device, open_driver: Callable[..., Device]) -> None:
    data = device.pipeline_cache()
    others = [open_driver(name) for name in ("lavapipe", "swiftshader")]
    foreign = [other for other in others if other.info.pipeline_cache_uuid != device.info.pipeline_cache_uuid]
    assert foreign and not any(device.load_pipeline_cache(other.pipeline_cache()) for other in foreign)
    assert not device.load_pipeline_cache(b"")
    assert not device.load_pipeline_cache(data[:31])
    for position in (0, 4, 8, 12, 16, 31):  # length, version, vendor, device, first and last byte of the identity
        changed = bytearray(data)
        changed[position] ^= 0xFF
        assert not device.load_pipeline_cache(bytes(changed)), position


def test_saved_and_found_again(lavapipe_only: None, folder: Path) -> None:
    first = devices.open_device()
    assert devices.save_pipeline_cache(first)
    (file,) = (folder / "pipelines").iterdir()
    assert first.info.pipeline_cache_uuid in file.name
    assert cache.read_entry(file, "pipeline") == first.pipeline_cache()
    before = file.stat().st_mtime_ns
    assert devices.save_pipeline_cache(devices.open_device())
    assert file.stat().st_mtime_ns == before  # unchanged data is not written again


def test_a_damaged_file_is_ignored_and_replaced(lavapipe_only: None, folder: Path) -> None:
    first = devices.open_device()
    devices.save_pipeline_cache(first)
    (file,) = (folder / "pipelines").iterdir()
    file.write_bytes(b"rubbish" * 100)
    second = devices.open_device()
    assert make_pipeline(second).push_bytes == 8
    assert devices.save_pipeline_cache(second)
    assert cache.read_entry(file, "pipeline") == second.pipeline_cache()


def test_a_folder_that_cannot_be_made(lavapipe_only: None, folder: Path) -> None:
    folder.write_text("a file where the folder should be")
    opened = devices.open_device()
    assert not devices.save_pipeline_cache(opened)


def test_a_write_that_fails_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    cache.write_atomic(folder / "kept", b"old")
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        cache.write_atomic(folder / "kept", b"new")
    assert [entry.name for entry in folder.iterdir()] == ["kept"]
    assert (folder / "kept").read_bytes() == b"old"


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path) -> None:
    assert cache.cache_folder() == folder
    monkeypatch.delenv("TLITE_VK_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg" / "tlite-vk"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "tlite-vk"
