"""Where things that can be made again are kept between runs."""

import os
import sys
import tempfile
from pathlib import Path


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
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
