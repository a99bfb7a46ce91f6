"""A compiled model runs in a process that has numpy and this package, and nothing that compiles models."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMPILER = ("onnx", "sympy", "google.protobuf", "graphviz", "gguf", "tlite_vk.compile", "tlite_vk.glslang")
TEXT = ("tokenizers", "jinja2", "typer", "rich")
BLOCK = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if any(name == b or name.startswith(b + ".") for b in {blocked!r}):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""
IDS = [5, 6, 7, 8, 9]
TOKENS = f"""
import tlite_vk
with tlite_vk.load(sys.argv[1]) as model:
    print(list(model.generate_tokens({IDS}, max_tokens=6)))
    print(list(model.generate_tokens({IDS}, max_tokens=6, temperature=0.8, seed=1)) != [])
with tlite_vk.load(sys.argv[1], scoring=True, precision="fp32") as model:
    print(model.score({IDS}).shape)
"""


def run(code: str, blocked: tuple[str, ...], *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": "/nonexistent"}  # no glslang command either
    command = [sys.executable, "-c", BLOCK.format(blocked=blocked) + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(autouse=True)
def lavapipe(lavapipe_file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VK_DRIVER_FILES", lavapipe_file)
    monkeypatch.setenv("TLITE_VK_CACHE", str(tmp_path / "cache"))


def test_token_ids_need_numpy_alone(tiny_compiled: Path) -> None:
    done = run(TOKENS, COMPILER + TEXT, tiny_compiled)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == ["True", "(4,)"]


def test_what_is_blocked_is_missed_by_an_onnx_model(tiny_onnx: Path) -> None:
    """So that the test above can fail."""
    assert "No module named" in run(TOKENS, ("onnx",), tiny_onnx).stderr


def test_text_without_its_packages_is_refused_in_one_line(tiny_compiled: Path) -> None:
    code = "import tlite_vk\nmodel = tlite_vk.load(sys.argv[1])\nnext(model.generate('hello'))"
    said = run(code, COMPILER + TEXT, tiny_compiled).stderr.splitlines()[-1]
    assert said.startswith("tlite_vk.errors.InputError: text needs the package tokenizers; install it")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "MODEL", "hello", "--max-tokens", "3"),
        ("bench", "MODEL", "--prompt", "4", "--gen", "2", "--repeat", "1"),
        ("eval", "MODEL", "TEXT", "--window", "8", "--windows", "1"),
    ],
    ids=lambda a: a[0],
)
def test_commands_need_no_compiler(tiny_compiled: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("A few words, and a few more of them.")
    given = [str({"MODEL": tiny_compiled, "TEXT": text}.get(a, a)) for a in arguments]
    done = run(f"from tlite_vk.cli import main\nsys.exit(main({given}))", COMPILER)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout


def test_a_second_start_of_an_onnx_model_needs_no_compiler(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLITE_VK_CACHE_BYTES", str(1 << 30))
    code = f"import tlite_vk\nprint(list(tlite_vk.load(sys.argv[1]).generate_tokens({IDS}, max_tokens=6)))"
    first = run(code, (), tiny_onnx)
    assert first.returncode == 0, first.stderr
    assert run(code, COMPILER, tiny_onnx).stdout == first.stdout != ""
