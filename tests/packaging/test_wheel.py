"""The wheel: what is in it, which systems it is for, and that it answers where there is no compiler."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tlite_vk import __version__

ROOT = Path(__file__).parents[2]
MODEL = ROOT / ".cache" / "models" / "smollm2-135m"
NEWEST = (2, 36)
"""The glibc of Debian 12: what is built there must not ask for more."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make wheel` makes, built again from what the environment has compiled."""
    target = tmp_path_factory.mktemp("dist")
    command = [str(ROOT / "tools" / "make_wheel.sh"), str(target)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a fresh virtual environment with the wheel and its dependencies, and nothing else."""
    place = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    pip = [sys.executable, "-m", "pip", "-q", "--python", str(place / "bin" / "python")]
    subprocess.run([*pip, "install", "--no-compile", "--only-binary=:all:", str(wheel)], check=True)
    return place / "bin"


def test_what_it_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tlite_vk").rglob("*.py")}
    sources |= {f"tlite_vk/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "graph").rglob("*.py")}
    assert sources <= set(names)
    lines = (ROOT / "shaders" / "variants.txt").read_text(encoding="utf-8").splitlines()
    variants = [line.split()[0] for line in lines if line[:1].isalpha()]
    assert {f"tlite_vk/spv/{name}.spv" for name in variants} <= set(names)
    assert {"tlite_vk/py.typed", "tlite_vk/_kompute.pyi", "tlite_vk/licenses/kompute.txt"} <= set(names)
    assert {Path(name).parts[0] for name in names} == {"tlite_vk", f"tlite_vk-{__version__}.dist-info"}  # no libraries
    assert not [name for name in names if "native" in name or "tests" in name or Path(name).suffix in (".cpp", ".hpp")]
    assert len([name for name in names if name.endswith(".so")]) == 1


def test_it_is_for_systems_as_old_as_where_it_was_built(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        about = archive.read(next(name for name in archive.namelist() if name.endswith(".dist-info/WHEEL")))
    tag = email.message_from_bytes(about)["Tag"]
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    found = re.fullmatch(rf"{python}-{python}-manylinux_(\d+)_(\d+)_\w+", tag)
    assert found, tag
    assert (int(found[1]), int(found[2])) <= NEWEST
    assert wheel.name == f"tlite_vk-{__version__}-{tag}.whl"


def test_the_source_distribution_has_what_the_wheel_is_built_from(folder: Path) -> None:
    (source,) = folder.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    needed = [name for name in tracked if name.startswith(("tlite_vk/", "graph/", "shaders/"))]
    assert not set(needed) - names
    assert {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO", "tlite_vk/native/CMakeLists.txt"} <= names
    assert not [name for name in names if name.startswith((".cache", ".venv", "build", "dist"))]


def test_it_answers_without_a_compiler(installed: Path, lavapipe_file: str, tmp_path: Path) -> None:
    assert (MODEL / "model.onnx").exists(), f"no converted SmolLM2 in {MODEL}; run: make demo"
    for program in ("cc", "c++", "gcc", "g++", "cmake", "ninja"):
        assert shutil.which(program, path=str(installed)) is None
    environment = {"PATH": str(installed), "TLITE_VK_CACHE": str(tmp_path / "cache"), "VK_DRIVER_FILES": lavapipe_file}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(installed / "tlite-vk"), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    done = run("run", str(MODEL), "What is the capital of France?", "--chat")
    assert (done.returncode, done.stdout) == (0, "The capital of France is Paris.\n"), done.stderr
    done = run("doctor")  # which also generates a kernel
    assert done.returncode == 0, done.stdout
