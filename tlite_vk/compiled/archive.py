"""The container of a compiled model: a zip whose large members lie uncompressed and aligned, to be mapped.

Any unzip program can list and extract it. The comment at its end names the format's version and the SHA-256 of
everything but mapped contents (headers, padding, directory, small members); those have the CRC-32 that zip stores for
them. So every byte is covered: a file with any of them changed is refused.
"""

from __future__ import annotations

import hashlib
import mmap
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np

from tlite_vk.errors import ModelError
from tlite_vk.stored import Section

VERSION = 1
"""Of the format: container, JSON, and what programs expect of the runtime (names of buffers, step parameters)."""
FIRST = "tlvk-format"
"""The first member, by which a file is recognized, whatever its name."""
ABOUT = "model.json"
"""The member that tells what the file holds."""
ALIGNMENT = 64
LARGEST_SMALL = 1 << 28
"""Bytes that a compressed member may have at most: tokenizers, programs and shaders, never weights."""

_COMMENT = re.compile(rb"tlvk/(\d{1,6}) sha256:([0-9a-f]{64})")
_LONGEST_COMMENT = 128
_END = struct.Struct("<4s4H2LH")
_LOCAL = struct.Struct("<4s5H3L2H")
_PADDING_ID = 0xD935
_SAME_DATE = (1980, 1, 1, 0, 0, 0)  # the same model gives the same file


class _Zip(zipfile.ZipFile):
    """Completes itself when it is asked to, never while it is thrown away after an error."""

    def __del__(self) -> None:
        pass


class ArchiveWriter:
    """Writes members in turn into an open, seekable file; `finish` completes it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._zip = _Zip(file, "w", zipfile.ZIP_STORED, allowZip64=True)
        self.add_mapped(FIRST, f"A compiled model of tlite-vk, format {VERSION}.\n".encode())

    def add(self, name: str, content: bytes) -> None:
        """A small member, compressed."""
        info = zipfile.ZipInfo(name, _SAME_DATE)
        info.compress_type = zipfile.ZIP_DEFLATED
        self._zip.writestr(info, content, compresslevel=9)

    def add_mapped(self, name: str, content: Any) -> None:
        """A member whose bytes (anything with the buffer protocol) can be mapped where they lie."""
        info = zipfile.ZipInfo(name, _SAME_DATE)
        info.file_size = memoryview(content).nbytes
        long = info.file_size * 1.05 > zipfile.ZIP64_LIMIT
        header = self._file.tell() + _LOCAL.size + len(name) + (20 if long else 0)
        if header % ALIGNMENT:
            free = (-header - 4) % ALIGNMENT
            info.extra = struct.pack("<HH", _PADDING_ID, free) + bytes(free)
        with self._zip.open(info, "w", force_zip64=long) as member:
            member.write(content)

    def finish(self) -> None:
        """Write the directory and the checksum over everything but mapped contents."""
        self._zip.comment = _comment("0" * 64)
        self._zip.close()
        self._file.flush()
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as mapping, memoryview(mapping) as view:
            digest = _digest(view, _members("the file", self._file, view).values())
        self._file.seek(-64, 2)
        self._file.write(digest.encode())
        self._file.flush()


@dataclass(frozen=True)
class _Member:
    """Where a member's content lies, and what it must be."""

    start: int
    stored: int
    size: int
    crc: int
    deflated: bool


class Archive:
    """An open file, mapped. Its structure is checked when it is opened, contents when they are read."""

    def __init__(self, path: Path) -> None:
        """Raises ModelError, in one line, for a file that is foreign, of another version, truncated or damaged."""
        self.path = path
        with path.open("rb") as file:
            try:
                self._mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:
                raise _foreign(path) from None  # an empty file
            view = memoryview(self._mapping)
            expected = _check_end(path, view)
            self._members = _members(str(path), file, view)
            if _digest(view, self._members.values()) != expected:
                raise _damaged(str(path), "its directory")
            del view
        self._bytes = np.frombuffer(self._mapping, np.uint8)
        self._sections: dict[str, Section] = {}

    def names(self, folder: str = "") -> list[str]:
        return [name for name in self._members if name.startswith(folder)]

    def size(self, name: str) -> int:
        """Bytes of a member's content. Raises ModelError where there is none."""
        return self._member(name).size

    def _member(self, name: str) -> _Member:
        if name not in self._members:
            raise _damaged(str(self.path), f"it has no {name}")
        return self._members[name]

    def read(self, name: str) -> bytes:
        """A small member's content, checked."""
        member = self._member(name)
        raw = self._bytes[member.start : member.start + member.stored].tobytes()
        if member.deflated:
            unpack = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                raw = unpack.decompress(raw, member.size + 1)
            except zlib.error:
                raise _damaged(str(self.path), name) from None
        if len(raw) != member.size or zlib.crc32(raw) != member.crc:
            raise _damaged(str(self.path), name)
        return raw

    def section(self, name: str) -> Section:
        """A mapped member; its bytes are checked when they are first used."""
        if name not in self._sections:
            member = self._member(name)
            if member.deflated:
                raise _damaged(str(self.path), f"{name} is compressed")
            data = self._bytes[member.start : member.start + member.size]
            self._sections[name] = Section(str(self.path), name, data, member.crc)
        return self._sections[name]

    def check_all(self) -> None:
        """Check every content that nothing has used so far. Raises ModelError where one is damaged."""
        for name, member in self._members.items():
            if member.deflated:
                self.read(name)
            else:
                self.section(name).bytes()


def is_compiled(path: Path) -> bool:
    """Whether a file is, or by its name is meant to be, a compiled model. Raises OSError if it cannot be read."""
    if path.suffix == ".tlvk":
        return True
    with path.open("rb") as file:
        head = file.read(_LOCAL.size + len(FIRST))
    return head[:4] == b"PK\3\4" and head[_LOCAL.size :] == FIRST.encode()


def _comment(digest: str) -> bytes:
    return f"tlvk/{VERSION} sha256:{digest}".encode()


def _check_end(path: Path, view: memoryview) -> str:
    """The digest that the end of the file names; version and length are checked."""
    tail = bytes(view[-_END.size - _LONGEST_COMMENT :])
    at = tail.rfind(b"PK\5\6")
    comment = tail[at + _END.size :] if at >= 0 else b""
    found = _COMMENT.fullmatch(comment)
    if found is None:
        head = bytes(view[: _LOCAL.size + len(FIRST)])
        if head[_LOCAL.size :] == FIRST.encode():
            raise _damaged(str(path), "its end is missing")
        raise _foreign(path)
    if int(found[1]) != VERSION:
        raise ModelError(
            f"{path} has format {int(found[1])} of compiled models, this tlite-vk reads {VERSION};"
            " compile the model again, or install the tlite-vk that wrote it"
        )
    return found[2].decode()


def _members(what: str, file: IO[bytes], view: memoryview) -> dict[str, _Member]:
    """The members by name, every range checked. Raises ModelError."""
    try:
        with zipfile.ZipFile(file) as directory:
            infos = directory.infolist()
        members = {info.filename: _member(info, view) for info in infos}
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, EOFError, OSError) as error:
        raise _damaged(what, "its directory") from error
    ordered = sorted(members.values(), key=lambda m: m.start)
    overlap = any(a.start + a.stored > b.start for a, b in pairwise(ordered))
    if len(members) != len(infos) or overlap:
        raise _damaged(what, "its members overlap")
    return members


def _member(info: zipfile.ZipInfo, view: memoryview) -> _Member:
    """Raises ValueError or struct.error for what this format never has."""
    signature, _, _, _, _, _, _, _, _, name, extra = _LOCAL.unpack_from(view, info.header_offset)
    start = info.header_offset + _LOCAL.size + name + extra
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    fits = info.header_offset >= 0 and start + info.compress_size <= len(view)
    plain = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
    if signature != b"PK\3\4" or not fits or not (plain or (deflated and info.file_size <= LARGEST_SMALL)):
        raise ValueError(info.filename)
    return _Member(start, info.compress_size, info.file_size, info.CRC, deflated)


def _digest(view: memoryview, members: Iterable[_Member]) -> str:
    """SHA-256 of all but the contents of mapped members, up to the 64 digits at the end."""
    total, at = hashlib.sha256(), 0
    for member in sorted((m for m in members if not m.deflated), key=lambda m: m.start):
        total.update(view[at : member.start])
        at = member.start + member.stored
    total.update(view[at : len(view) - 64])
    return total.hexdigest()


def _damaged(path: str, what: str) -> ModelError:
    return ModelError(f"{path} is truncated or damaged ({what}); make it anew, or copy it again")


def _foreign(path: Path) -> ModelError:
    return ModelError(f"{path} is not a compiled model; write one with: tlite-vk compile MODEL -o model.tlvk")
