"""Files that are cut short, damaged, foreign, not writable, or do not fit: nothing of them is ever used or left."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.conftest import OpenDriver

from tlite_vk import cache, compiler
from tlite_vk import device as devices
from tlite_vk.cache import partial_folder, read_entry, write_atomic, write_entry
from tlite_vk.convert import convert
from tlite_vk.device import Device

KERNEL = """#version 450
layout(local_size_x = 64) in;
layout(std430, binding = 0) buffer Data { uint data[]; };
void main() { data[gl_GlobalInvocationID.x] += %d; }
"""
DIE = "import os, signal\ndef die(*_, **__):\n    os.kill(os.getpid(), signal.SIGKILL)\n"


def killed(script: str, *arguments: object) -> None:
    """Run Python code that ends with SIGKILL."""
    command = [sys.executable, "-c", DIE + script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def partials(folder: Path) -> list[Path]:
    return sorted(folder.rglob(f"*{cache.PARTIAL}"))


def age(path: Path) -> None:
    """As if it had been left a minute ago."""
    past = time.time() - 60
    os.utime(path, (past, past))


# -- killed ---------------------------------------------------------------------------------------------------------


def test_killed_while_a_file_is_written(tmp_path: Path) -> None:
    target = tmp_path / "kept"
    write_atomic(target, b"old")
    script = "from pathlib import Path\nfrom tlite_vk.cache import write_atomic\nimport sys\nPath.replace = die\n"
    killed(script + "write_atomic(Path(sys.argv[1]), b'new' * 1000)", target)
    assert target.read_bytes() == b"old"
    (left,) = partials(tmp_path)
    write_atomic(target, b"newer")  # at once: it may be about to be locked
    assert partials(tmp_path) == [left]
    age(left)
    write_atomic(target, b"newest")
    assert tree(tmp_path) == {"kept": b"newest"}


def test_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    with partial_folder(tmp_path, "model.onnx") as folder:
        (folder / "data").write_bytes(b"1")
        age(folder)
        write_atomic(tmp_path / "other", b"2")
        with partial_folder(tmp_path, "model.onnx"):
            assert (folder / "data").read_bytes() == b"1"
    assert tree(tmp_path) == {"other": b"2"}
    foreign = tmp_path / ".somebody.partial"
    foreign.write_bytes(b"3")
    age(foreign)
    write_atomic(tmp_path / "other", b"2")
    assert foreign.exists()


def test_killed_while_a_model_is_converted(tiny_gguf: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(tiny, out)
    before = tree(out)
    script = "import sys\nfrom pathlib import Path\nfrom tlite_vk.convert import convert, onnx_writer\n"
    script += "onnx_writer.os.fsync = die\nconvert(Path(sys.argv[1]), Path(sys.argv[2]))"
    killed(script, tiny_gguf, out / "model.onnx")
    (left,) = partials(out)
    assert {name: data for name, data in tree(out).items() if left.name not in name} == before
    age(left)
    convert(tiny_gguf, out / "model.onnx")
    assert tree(out) == before


def test_killed_while_kernels_are_cached(own_cache: Path) -> None:
    script = "from pathlib import Path\nfrom tlite_vk.compiler import compile_all\nimport sys, threading\n"
    script += "real, lock, left = Path.replace, threading.Lock(), [2]\n"
    script += (
        "def replace(*a):\n    with lock:\n        left[0] -= 1\n        return real(*a) if left[0] >= 0 else die()\n"
    )
    script += "Path.replace = replace\ncompile_all({str(i): sys.argv[1] % i for i in range(8)})"
    killed(script, KERNEL)
    assert len([p for p in own_cache.rglob("*.spv") if not p.name.startswith(".")]) == 2 and partials(own_cache)
    made = compiler.compile_all({str(i): KERNEL % i for i in range(8)})
    shutil.rmtree(own_cache)
    assert compiler.compile_all({str(i): KERNEL % i for i in range(8)}) == made


# -- damaged, foreign -----------------------------------------------------------------------------------------------


def test_an_entry_with_any_change_is_none(tmp_path: Path) -> None:
    file = tmp_path / "entry"
    write_entry(file, "kind", b"content")
    whole = file.read_bytes()
    assert read_entry(file, "kind") == b"content"
    for at in range(len(whole)):
        for flip in (0x01, 0x80):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
            assert read_entry(file, "kind") is None
        file.write_bytes(whole[:at])
        assert read_entry(file, "kind") is None
    file.write_bytes(whole + b"\0")
    assert read_entry(file, "kind") is None
    file.write_bytes(whole)
    assert read_entry(file, "other") is None
    assert read_entry(file.rename(tmp_path / "moved"), "kind") is None
    assert read_entry(tmp_path, "kind") is None


def kernel_file(folder: Path, source: str) -> Path:
    compiler.compile_glsl(source)
    return compiler._cache_file(source)


def test_a_kernel_of_another_source_is_not_used(own_cache: Path) -> None:
    one, two = kernel_file(own_cache, KERNEL % 1), kernel_file(own_cache, KERNEL % 2)
    expected = compiler.compile_glsl(KERNEL % 1)
    assert compiler.compile_glsl(KERNEL % 2) != expected
    one.write_bytes(two.read_bytes())
    assert compiler.compile_glsl(KERNEL % 1) == expected
    assert read_entry(one, compiler.KIND) == expected  # made again
    one.write_bytes(compiler.MAGIC + bytes(400))  # what an older version kept: no checksum
    assert compiler.compile_glsl(KERNEL % 1) == expected


@pytest.mark.parametrize("damage", ["byte", "cut", "raw", "rubbish", "empty"])
def test_a_pipeline_cache_that_changed_never_reaches_the_driver(
    open_driver: OpenDriver, main_driver: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    first = open_driver(main_driver)
    assert devices.save_pipeline_cache(first)
    (file,) = (own_cache / "pipelines").iterdir()
    whole = file.read_bytes()
    changed = {
        "byte": whole[:-1] + bytes([whole[-1] ^ 1]), "cut": whole[:-1], "raw": first.pipeline_cache(),
        "rubbish": b"x" * 999, "empty": b"",
    }  # fmt: skip
    file.write_bytes(changed[damage])
    seen: list[bytes] = []
    binding: Any = vars(devices)["_kompute"]
    real = binding.open

    class Watched:
        def __init__(self, opened: Device) -> None:
            self.opened = opened

        def load_pipeline_cache(self, data: bytes) -> bool:
            seen.append(data)
            return self.opened.load_pipeline_cache(data)

    with monkeypatch.context() as patch:
        patch.setattr(binding, "open", lambda *a, **k: Watched(real(*a, **k)))
        open_driver(main_driver)
        assert seen == []
        file.write_bytes(whole)
        open_driver(main_driver)
        assert len(seen) == 1
    file.write_bytes(changed[damage])
    assert devices.save_pipeline_cache(first)
    assert file.read_bytes() == whole


# -- not writable, full ---------------------------------------------------------------------------------------------


def run(
    arguments: list[object], lavapipe: str, folder: Path, prepare: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"VK_DRIVER_FILES": lavapipe, "TLITE_VK_CACHE": str(folder)}
    command = [sys.executable, "-m", "tlite_vk", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, env=environment, text=True, preexec_fn=prepare)


def small_files() -> None:
    """A disk that is full after 2000 bytes of a file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))


@pytest.mark.parametrize("kind", ["no folder can be made", "a file in its place", "read-only", "full"])
def test_a_cache_that_cannot_be_written_costs_time_only(
    tiny: Path, tmp_path: Path, lavapipe_file: str, kind: str
) -> None:
    ask: list[object] = ["run", tiny, "hello", "--max-tokens", "3"]
    expected = run(ask, lavapipe_file, tmp_path / "good")
    assert expected.returncode == 0 and expected.stdout
    folder = tmp_path / "bad"
    if kind == "no folder can be made":
        folder = Path("/proc/tlite-vk")
    elif kind == "a file in its place":
        folder.write_text("")
    elif kind == "read-only":
        folder.mkdir(mode=0o500)  # nothing to a superuser: then it is one more run that works
    got = run(ask, lavapipe_file, folder, small_files if kind == "full" else None)
    assert (got.returncode, got.stdout, got.stderr) == (0, expected.stdout, "")
    assert not partials(tmp_path)


@pytest.mark.parametrize("command", ["convert", "quantize", "dump", "svg", "trace"])
def test_an_output_that_does_not_fit(
    tiny: Path, tiny_gguf: Path, tmp_path: Path, lavapipe_file: str, command: str
) -> None:
    model, out = tmp_path / "floats", tmp_path / "out"
    convert(tiny_gguf, model / "model.onnx", halves=True)
    out.mkdir()
    (out / "kept").write_bytes(b"old")
    arguments: list[object] = {
        "convert": ["convert", tiny_gguf, "-o", out / "new" / "model.onnx"],
        "quantize": ["quantize", model, "-o", out / "new.onnx"],
        "dump": ["compile", model, "--dump", out],
        "svg": ["compile", model, "--svg", out / "kept"],
        "trace": ["profile", tiny, "--prompt", 4, "--repeat", 1, "--trace", out / "kept"],
    }[command]
    done = run(arguments, lavapipe_file, tmp_path / "cache", small_files)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done
    assert "File too large" in done.stderr and "Traceback" not in done.stderr
    kept = {name: data for name, data in tree(out).items() if command != "dump" or not name.endswith(".txt")}
    assert kept == {"kept": b"old"} and not partials(out)
    if command != "dump":
        assert sorted(p.name for p in out.iterdir()) == ["kept"]
    assert run(arguments, lavapipe_file, tmp_path / "cache").returncode == 0
