"""Warm starts: what was compiled before is used if nothing changed, and only then; a bad cache costs time only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tlite_vk
from tlite_vk.compiled import store
from tlite_vk.device import Device
from tlite_vk.errors import InputError
from tlite_vk.program import Program

IDS = [9, 8, 7, 200, 100, 11]
Start = Callable[..., tuple[list[int], bool]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TLITE_VK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TLITE_VK_CACHE_BYTES", str(1 << 30))
    return tmp_path / "cache" / "programs"


@pytest.fixture
def model(tiny_onnx: Path, tmp_path: Path) -> Path:
    """A copy of the model, of the test's own."""
    return Path(shutil.copytree(tiny_onnx.parent, tmp_path / "model")) / "model.onnx"


@pytest.fixture
def start(device: Device, monkeypatch: pytest.MonkeyPatch) -> Start:
    """A function (path, **options of load) -> (tokens, whether the model was compiled)."""
    from tlite_vk import compile as compiler

    calls: list[object] = []
    real = compiler.compile_model

    def counted(*arguments: Any, **options: Any) -> Program:
        calls.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(compiler, "compile_model", counted)

    def started(path: Path, **options: object) -> tuple[list[int], bool]:
        calls.clear()
        with tlite_vk.load(path, device=device, **options) as loaded:  # type: ignore[arg-type]
            return list(loaded.generate_tokens(IDS, max_tokens=8)), bool(calls)

    return started


def test_the_second_start_is_warm(start: Start, model: Path, cache: Path) -> None:
    tokens, compiled = start(model)
    assert compiled and start(model) == (tokens, False)
    assert len(list(cache.iterdir())) == 1


def test_options_have_entries_of_their_own(start: Start, model: Path, cache: Path) -> None:
    """Lengths that change no program share one."""
    assert start(model)[1] and start(model, precision="fp32")[1]
    assert not start(model, precision="fp32")[1] and not start(model, context=300, chunk=8)[1]
    assert len(list(cache.iterdir())) == 2


def test_changed_files_are_compiled_again(start: Start, model: Path) -> None:
    tokens = start(model)[0]
    proto = onnx.load(model, load_external_data=False)
    proto.doc_string = "changed"
    model.write_bytes(proto.SerializeToString())
    assert start(model) == (tokens, True)
    weights = model.with_name("model.onnx.data")
    data = np.fromfile(weights, np.uint8)
    data[len(data) // 2 :] ^= 1
    weights.write_bytes(data.tobytes())
    assert start(model)[1] and not start(model)[1]
    shutil.copy2(weights, weights.with_suffix(".copy"))  # the same bytes and time, another file
    weights.with_suffix(".copy").replace(weights)
    assert start(model)[1]


def test_weights_that_are_overwritten_with_the_same_time(start: Start, model: Path) -> None:
    """As `rsync --inplace --times` does, and `cp -p` over an older file: size, time of change and inode stay."""
    tokens, weights = start(model)[0], model.with_name("model.onnx.data")
    before = weights.stat()
    data = np.fromfile(weights, np.uint8)
    data[len(data) // 2 :] ^= 1
    with weights.open("r+b") as file:
        file.write(data.tobytes())
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    other, compiled = start(model)
    assert compiled and other != tokens


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_a_model_that_changes_while_it_is_compiled_is_not_kept(
    start: Start, model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from tlite_vk import compile as compiler

    real, changed = compiler.compile_model, model.with_name(name)

    def meanwhile(*arguments: Any, **options: Any) -> Program:
        program = real(*arguments, **options)
        changed.with_suffix(".new").write_bytes(changed.read_bytes() + b"\n" * (name != "model.onnx"))
        if name == "model.onnx":
            proto = onnx.load(model, load_external_data=False)
            proto.doc_string = "changed"
            changed.with_suffix(".new").write_bytes(proto.SerializeToString())
        changed.with_suffix(".new").replace(changed)
        return program

    monkeypatch.setattr(compiler, "compile_model", meanwhile)
    start(model)
    assert list(cache.iterdir()) == []
    monkeypatch.setattr(compiler, "compile_model", real)
    start(model)
    assert len(list(cache.iterdir())) == 1


def test_another_package_compiles_again(start: Start, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(model)
    monkeypatch.setattr(store, "_package", lambda: "of tomorrow")
    assert start(model)[1]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1  # in a weight: found when it is uploaded
    path.write_bytes(content)


def _foreign(path: Path) -> None:
    path.write_bytes(b"PK\3\4 of somebody else")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_cut, _flip, _foreign, _empty])
def test_bad_entries_are_made_anew(
    start: Start, model: Path, cache: Path, damage: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    tokens = start(model)[0]
    damage(next(cache.iterdir()))
    assert start(model) == (tokens, True)
    assert start(model) == (tokens, False)
    assert capfd.readouterr() == ("", "")


def test_without_a_place_to_write_it_runs(
    start: Start, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TLITE_VK_CACHE", str(tmp_path / "file"))
    assert start(model)[1] and start(model)[1]
    assert capfd.readouterr() == ("", "")


def test_on_a_full_disk_it_runs(model: Path, cache: Path, lavapipe_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes fail in the middle of the file; then there is no room in the first place."""
    monkeypatch.setenv("VK_DRIVER_FILES", lavapipe_file)
    code = f"""
import resource, sys, tlite_vk
resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000))
print(list(tlite_vk.load(sys.argv[1]).generate_tokens({IDS}, max_tokens=8)))
"""
    done = subprocess.run([sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("[")
    assert list(cache.iterdir()) == []
    monkeypatch.setattr(store, "_SPARE", 1 << 60)
    with tlite_vk.load(model):
        assert list(cache.iterdir()) == []


def test_a_writer_that_is_killed_leaves_nothing_that_is_used(
    start: Start, model: Path, cache: Path, lavapipe_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VK_DRIVER_FILES", lavapipe_file)
    code = f"""
import os, signal, sys, tlite_vk
from tlite_vk.compiled import archive
archive.ArchiveWriter.finish = lambda self: (self._file.flush(), os.kill(os.getpid(), {signal.SIGKILL}))
tlite_vk.load(sys.argv[1])
"""
    done = subprocess.run([sys.executable, "-c", code, str(model)], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = cache.iterdir()
    assert left.name.startswith(".") and left.stat().st_size > 50_000
    assert start(model)[1] and left.exists()  # it might still be being written
    os.utime(left, (0, 0))
    assert start(model, precision="fp32")[1] and not left.exists()


def test_the_oldest_make_room(start: Start, model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(model)
    first = store.entries()[0]
    os.utime(first.path, (1000, 1000))
    start(model, precision="fp32")
    second = next(e for e in store.entries() if e.path != first.path)
    os.utime(second.path, (2000, 2000))
    start(model)  # the first is used again, and is now the younger
    monkeypatch.setenv("TLITE_VK_CACHE_BYTES", str(first.size + second.size + (1 << 18)))
    start(model, scoring=False, context=256, precision="fp32", window=32)
    left = {e.path for e in store.entries()}
    assert first.path in left and second.path not in left and len(left) == 2


def test_the_bound(start: Start, model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for bound in ("0", "1000"):
        monkeypatch.setenv("TLITE_VK_CACHE_BYTES", bound)
        assert start(model)[1] and start(model)[1] and not store.entries()
    monkeypatch.setenv("TLITE_VK_CACHE_BYTES", "lots")
    with pytest.raises(InputError, match="TLITE_VK_CACHE_BYTES must be a number of bytes"):
        start(model)
