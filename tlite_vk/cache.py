"""Where things that can be made again are kept between runs."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


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

    Whoever is killed in between leaves a file of another name, with a dot before it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
