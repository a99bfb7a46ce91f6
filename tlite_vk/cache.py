"""Where things that can be made again are kept between runs; files that are never seen half written."""

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

PARTIAL = ".tlite-partial"  # the end of a name that is not whole yet
OWNER = ".owner"  # in a folder of that kind: locked by the process that fills it
YOUNG_SECONDS = 10.0  # one that was just made may not be locked yet
OLD_SECONDS = 7 * 24 * 3600.0  # nobody writes that long, whatever a file system says of its locks
ENTRY = b"tlvkc1\r\n"  # of a cache entry; a new layout gets a new number
MAX_ENTRY = 1 << 30


def cache_folder() -> Path:
    """The folder named by TLITE_VK_CACHE, else tlite-vk in the platform's cache folder. It may not exist yet."""
    chosen = os.environ.get("TLITE_VK_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tlite-vk"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "tlite-vk"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tlite-vk"


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file that is either the old one or the new one, never half of one; makes its folder.

    Raises OSError as Path.write_bytes does.
    """
    with replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` when the block ends well; makes its folder. Raises OSError.

    A process that is killed meanwhile leaves a hidden file, which the next write to that folder removes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
    try:
        with os.fdopen(handle, "w+b") as file:
            _claim(file.fileno())
            yield file
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def partial_folder(parent: Path, name: str) -> Iterator[Path]:
    """A hidden folder beside what is made from its files, gone at the end of the block.

    A process that is killed leaves it behind; the next one that makes such a folder in `parent` removes it.
    Raises OSError where it cannot be made.
    """
    sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=PARTIAL, dir=parent))
    try:
        with (folder / OWNER).open("wb") as owner:
            _claim(owner.fileno())
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written in `folder`; what a living one writes stays."""
    with contextlib.suppress(OSError):
        for left in folder.glob(f".*{PARTIAL}"):
            _remove_if_abandoned(left)


def write_entry(path: Path, kind: str, data: bytes) -> None:
    """Keep `data` in the cache as an entry of a `kind` (at most 8 ASCII letters), with its checksum.

    Raises OSError where it cannot be written.
    """
    head = ENTRY + kind.encode().ljust(8)
    write_atomic(path, head + _digest(path, head, data) + data)


def read_entry(path: Path, kind: str) -> bytes | None:
    """What `write_entry` kept there; None where there is none, a byte changed, or it is another's."""
    try:
        if path.stat().st_size > MAX_ENTRY:
            return None
        whole = path.read_bytes()
    except OSError:
        return None
    head = ENTRY + kind.encode().ljust(8)
    digest, data = whole[len(head) : len(head) + 32], whole[len(head) + 32 :]
    return data if whole.startswith(head) and _digest(path, head, data) == digest else None


def _digest(path: Path, head: bytes, data: bytes) -> bytes:
    """Of an entry under its name: one that was moved to another place does not count."""
    return hashlib.sha256(b"\0".join((head, path.name.encode(), data))).digest()


def _claim(handle: int) -> None:
    """Mark an open file as one that a living process writes: the lock ends with the process."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks: age alone tells
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_if_abandoned(left: Path) -> None:
    """Errors are passed over: another process may be faster."""
    with contextlib.suppress(OSError):
        marker = left / OWNER if left.is_dir() else left
        age = time.time() - left.stat().st_mtime
        if age < YOUNG_SECONDS or (age < OLD_SECONDS and not _is_free(marker)):
            return
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink()


def _is_free(marker: Path) -> bool:
    """Whether no living process holds the file. Raises OSError where that cannot be told."""
    if fcntl is None:
        return False
    with marker.open("rb") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
