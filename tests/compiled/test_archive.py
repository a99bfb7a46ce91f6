"""The container: what comes back, and that no byte of it can be other than it was written."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tlite_vk.compiled.archive import ALIGNMENT, Archive, ArchiveWriter, is_compiled
from tlite_vk.errors import ModelError

DATA = np.arange(333, dtype=np.uint8)
TEXT = b"a text that is compressed " * 20


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.tlvk"
    with path.open("w+b") as file:
        writer = ArchiveWriter(file)
        writer.add_mapped("weights/0", DATA)
        writer.add("text", TEXT)
        writer.add_mapped("weights/1", DATA[:16])
        writer.finish()
    return path


def opened(path: Path) -> Archive:
    archive = Archive(path)
    archive.check_all()
    return archive


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        opened(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_what_was_written_comes_back(small: Path) -> None:
    archive = opened(small)
    assert archive.read("text") == TEXT
    section = archive.section("weights/0")
    assert np.array_equal(section.bytes(), DATA)
    assert archive.section("weights/0") is section
    assert archive.names("weights/") == ["weights/0", "weights/1"]


def test_any_unzip_program_reads_it(small: Path) -> None:
    with zipfile.ZipFile(small) as archive:
        assert archive.testzip() is None
        assert archive.read("weights/0") == DATA.tobytes()


def test_mapped_members_are_aligned(small: Path) -> None:
    content = small.read_bytes()
    assert content.index(DATA.tobytes()) % ALIGNMENT == 0


def test_the_same_content_gives_the_same_file(small: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tlvk"
    with other.open("w+b") as file:
        writer = ArchiveWriter(file)
        writer.add_mapped("weights/0", DATA)
        writer.add("text", TEXT)
        writer.add_mapped("weights/1", DATA[:16])
        writer.finish()
    assert small.read_bytes() == other.read_bytes()


def test_a_change_of_any_byte_is_refused(small: Path) -> None:
    content = small.read_bytes()
    for at in range(len(content)):
        for change in (1, 0x80):
            changed = bytearray(content)
            changed[at] ^= change
            small.write_bytes(changed)
            refusal(small)
    small.write_bytes(content)
    opened(small)


def test_a_file_cut_or_grown_anywhere_is_refused(small: Path) -> None:
    content = small.read_bytes()
    for size in (*range(0, len(content), 7), len(content) - 1):
        small.write_bytes(content[:size])
        refusal(small)
    for grown in (content + b"\0", b"\0" + content, content + content):
        small.write_bytes(grown)
        refusal(small)


def test_foreign_files_are_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "foreign.tlvk"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    assert "is not a compiled model" in refusal(path)
    for content in (b"", b"GGUF", b"PK\3\4", bytes(1000)):
        path.write_bytes(content)
        assert "is not a compiled model" in refusal(path)


def test_another_version_is_told_as_such(small: Path) -> None:
    content = small.read_bytes()
    small.write_bytes(content.replace(b"tlvk/1 sha256", b"tlvk/7 sha256"))
    assert "has format 7" in refusal(small) and "reads 1" in refusal(small)


def _twice(archive: zipfile.ZipFile) -> None:
    archive.writestr("text", b"one")
    with pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("text", b"two")


def _bomb(archive: zipfile.ZipFile) -> None:
    with archive.open("text", "w", force_zip64=True) as member:
        for _ in range(257):
            member.write(bytes(1 << 20))


@pytest.mark.parametrize(("make", "mode"), [(_twice, zipfile.ZIP_STORED), (_bomb, zipfile.ZIP_DEFLATED)])
def test_members_that_this_format_never_has(tmp_path: Path, make: Callable[[zipfile.ZipFile], None], mode: int) -> None:
    path = tmp_path / "odd.tlvk"
    with zipfile.ZipFile(path, "w", mode) as archive:
        make(archive)
        archive.comment = b"tlvk/1 sha256:" + b"0" * 64
    assert "damaged" in refusal(path)


def test_it_is_known_by_its_name_or_by_its_start(small: Path, tmp_path: Path) -> None:
    renamed = small.rename(tmp_path / "model.bin")
    other = tmp_path / "other.onnx"
    other.write_bytes(b"PK\3\4" + bytes(100))
    assert is_compiled(renamed) and is_compiled(tmp_path / "missing.tlvk") and not is_compiled(other)
