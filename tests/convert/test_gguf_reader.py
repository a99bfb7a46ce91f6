"""The reader against the gguf package's writer, and against files that lie."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tlite_vk.convert.gguf_reader import GgufFile
from tlite_vk.errors import ModelError

WriteModel = Callable[..., Path]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A file with every kind of value and two tensors."""
    path = tmp_path / "small.gguf"
    writer = GGUFWriter(str(path), "llama")
    writer.add_uint8("u8", 200)
    writer.add_int8("i8", -100)
    writer.add_uint16("u16", 60000)
    writer.add_int16("i16", -30000)
    writer.add_uint32("u32", 4_000_000_000)
    writer.add_int32("i32", -2_000_000_000)
    writer.add_uint64("u64", 2**63)
    writer.add_int64("i64", -(2**62))
    writer.add_float32("f32", 0.5)
    writer.add_float64("f64", 0.1)
    writer.add_bool("bool", True)
    writer.add_string("text", "déjà vu")
    writer.add_array("numbers", [1, 2, 3])
    writer.add_array("texts", ["", "a", "日本"])
    writer.add_tensor("matrix", np.arange(12, dtype=np.float32).reshape(3, 4))
    writer.add_tensor("vector", np.array([1.5, -2.5], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def header(version: int = 3, tensors: int = 0, entries: int = 0, magic: bytes = b"GGUF") -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, entries)


def entry(key: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value


def tensor(name: bytes, dims: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    head = struct.pack("<Q", len(name)) + name + struct.pack("<I", len(dims))
    return head + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, offset)


def test_reads_every_kind_of_value(small: Path) -> None:
    with GgufFile(small) as gguf:
        values = {key: value for key, value in gguf.metadata.items() if not key.startswith(("GGUF", "general"))}
        assert values == {
            "u8": 200, "i8": -100, "u16": 60000, "i16": -30000, "u32": 4_000_000_000, "i32": -2_000_000_000,
            "u64": 2**63, "i64": -(2**62), "f32": 0.5, "f64": 0.1, "bool": True, "text": "déjà vu",
            "numbers": [1, 2, 3], "texts": ["", "a", "日本"],
        }  # fmt: skip


def test_reads_rows(small: Path) -> None:
    with GgufFile(small) as gguf:
        matrix = gguf.tensors["matrix"]
        assert (matrix.shape, matrix.rows, matrix.row_bytes) == ((3, 4), 3, 16)
        assert gguf.read_rows(matrix, 1, 2).view("<f4").tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]
        vector = gguf.tensors["vector"]
        assert (vector.shape, vector.rows) == ((2,), 1)
        assert gguf.read_rows(vector, 0, 1).view("<f4").tolist() == [[1.5, -2.5]]


def test_every_truncation_is_refused(small: Path) -> None:
    whole = small.read_bytes()
    end_of_data = len(whole) - 24  # the last tensor's 8 bytes are padded to 32
    for size in [*range(0, end_of_data - 1, 7), end_of_data - 1]:
        small.write_bytes(whole[:size])
        with pytest.raises(ModelError) as caught:
            GgufFile(small)
        assert "\n" not in str(caught.value)


def test_truncation_after_opening_is_refused(write_model: WriteModel) -> None:
    path = write_model(vocab=20_000)  # an embedding of 5 MB, far larger than any read-ahead
    with GgufFile(path) as gguf:
        embedding = gguf.tensors["token_embd.weight"]
        with path.open("r+b") as file:
            file.truncate(embedding.offset + embedding.nbytes // 2)
        with pytest.raises(ModelError, match=r"'token_embd.weight' ends early"):
            gguf.read_rows(embedding, 0, embedding.rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a GGUF file"),
        (b"PK\x03\x04" + bytes(64), "not a GGUF file"),
        (header(version=1), "version 1 is not supported"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (header(tensors=2**63), "announces 9223372036854775808 tensors"),
        (header(entries=2**62), "announces 4611686018427387904 metadata entries"),
        (header(entries=1) + struct.pack("<Q", 2**64 - 1) + bytes(64), "string of 18446744073709551615 bytes"),
        (header(entries=1) + entry(b"a", 9, struct.pack("<IQ", 8, 2**60)) + bytes(64), "array elements"),
        (header(entries=1) + entry(b"a", 9, struct.pack("<IQ", 9, 1)) + bytes(64), "type number 9"),
        (header(entries=1) + entry(b"a", 77, b"") + bytes(64), "type number 77"),
        (header(entries=2) + entry(b"a", 0, b"\1") * 2 + bytes(64), "'a' occurs twice"),
        (header(tensors=1) + tensor(b"w", (1,) * 9) + bytes(64), "9 dimensions"),
        (header(tensors=1) + tensor(b"w", (0, 4)) + bytes(64), "empty dimension"),
        (header(tensors=1) + tensor(b"w", (2**40, 2**40)) + bytes(64), "cut off"),
        (header(tensors=1) + tensor(b"w", (4,), offset=2**63) + bytes(64), "cut off"),
        (header(tensors=1) + tensor(b"w", (4,), offset=4) + bytes(64), "not aligned"),
        (header(tensors=1) + tensor(b"w", (33,), kind=2) + bytes(64), "33 columns"),
        (header(tensors=1) + tensor(b"w", (4,), kind=4) + bytes(64), "unknown GGUF type number 4"),
        (header(tensors=2) + tensor(b"w", (4,)) * 2 + bytes(64), "'w' occurs twice"),
        (header(entries=1) + entry(b"general.alignment", 4, struct.pack("<I", 0)) + bytes(64), "alignment"),
    ],
)
def test_hostile_headers_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        GgufFile(path)
    assert "\n" not in str(caught.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        GgufFile(tmp_path / "absent.gguf")
    with pytest.raises(ModelError, match="cannot read"):
        GgufFile(tmp_path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_bytes_never_escape_as_another_error(small: Path, edits: list[tuple[int, int]]) -> None:
    whole = bytearray(small.read_bytes())
    for at, value in edits:
        whole[at % len(whole)] = value
    damaged = small.with_name("damaged.gguf")
    damaged.write_bytes(whole)
    attempt(lambda: read_everything(damaged))


def attempt(action: Callable[[], None]) -> None:
    """Run; a ModelError is an expected outcome, any other exception is not."""
    try:
        action()
    except ModelError:
        return


def read_everything(path: Path) -> None:
    with GgufFile(path) as gguf:
        for item in gguf.tensors.values():
            gguf.read_rows(item, 0, item.rows)
