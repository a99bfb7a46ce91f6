"""tools/bench_commits.py over small repositories whose package is a stand-in: what it compares, and what it says where
there is nothing to compare with. No figure is judged."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import bench_commits
import pytest
from benching.build import BuildError, git, resolve, variants
from benching.compare import quartiles, summary

PACKAGE = """
from types import SimpleNamespace as S
class Model:
    device = S(info=S(name="stand-in", driver_name="none", driver_info=""))
    program = S(vocabulary=10)
    def prefill(self, ids, *, start=0, pick=True): assert all(0 <= i < 10 for i in ids)
    def __enter__(self): return self
    def __exit__(self, *_): pass
def load(path, device=None): return Model()
"""
SCHEMA = {
    "schema", "status", "why", "base", "head", "date", "device", "driver", "model", "prompt", "gen", "rounds", "cpus",
    "load_average", "load_s", "versions", "measurements",
}  # fmt: skip


class Repository:
    """A repository, and the tool run on it."""

    def __init__(self, root: Path) -> None:
        self.root, self.out = root, root.parent / "bench.json"
        (root / "tlite_vk" / "native").mkdir(parents=True)
        (root / "tlite_vk" / "native" / "a.cpp").write_text("")
        (root / "shaders").mkdir()
        (root / "shaders" / "variants.txt").write_text("# none\n")
        git(root, "init", "-q", "-b", "main")

    def commit(self, package: str, subject: str) -> str:
        (self.root / "tlite_vk" / "__init__.py").write_text(package)
        git(self.root, "add", "-A")
        name = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
        git(self.root, *name, "commit", "-q", "--allow-empty", "-m", subject)
        return resolve(self.root, "HEAD")

    def run(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """The exit code, and the JSON."""
        self.out.unlink(missing_ok=True)
        folder = str(self.root.parent / "built")
        options = ["--repository", str(self.root), "--folder", folder, "--out", str(self.out), "--rounds", "3"]
        code = bench_commits.main([*arguments, *options, "--model", __file__])
        return code, json.loads(self.out.read_text()) if self.out.exists() else {}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def test_a_commit_is_compared_with_its_parent(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (repository.commit(PACKAGE, subject) for subject in ("one", "two"))
    code, found = repository.run()
    assert code == 0 and set(found) == SCHEMA
    assert (found["status"], found["why"], found["device"]) == ("compared", None, "stand-in")
    assert [found[s]["commit"] for s in ("base", "head")] == [first, second]
    assert found["base"]["subject"] == "one" and "shared" in found["base"]["build"]
    for what in ("prefill", "decode"):
        measured = found["measurements"][what]
        assert len(measured["base"]["ms"]) == len(measured["head"]["ms"]) == len(measured["ratio"]["rounds"]) == 3
    assert set(found["load_s"]) == {"base", "head"} and found["versions"]["numpy"]
    out = capsys.readouterr().out
    assert f"base: {first[:12]} one" in out and "ratio" in out and f"written: {repository.out}" in out


def test_shaders_of_a_commit_are_its_own(repository: Repository) -> None:
    shaders = repository.root / "shaders"
    (shaders / "lib").mkdir()
    (shaders / "lib" / "size.glsl").write_text("layout(local_size_x = SIZE) in;\n")
    head = "#version 450\n#extension GL_GOOGLE_include_directive : require\n"
    (shaders / "a.comp").write_text(head + '#include "size.glsl"\nvoid main() {}\n')
    (shaders / "variants.txt").write_text("a8 a.comp SIZE=8\n")
    first = repository.commit(PACKAGE, "one")
    (shaders / "variants.txt").write_text("a9 a.comp SIZE=9\n")
    repository.commit(PACKAGE, "two")
    _, found = repository.run()
    assert "its own SPIR-V" in found["base"]["build"] and "shared SPIR-V" in found["head"]["build"]
    made = repository.root.parent / "built" / first / "site" / "tlite_vk" / "spv"
    assert [f.name for f in made.iterdir()] == ["a8.spv"]
    (shaders / "a.comp").write_text("nonsense")
    repository.commit(PACKAGE, "broken")
    repository.commit(PACKAGE, "still broken")
    (shaders / "a.comp").write_text("of no commit")
    assert repository.run()[0] == 1  # neither has shaders that compile


def test_without_a_parent_only_head_is_measured(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit(PACKAGE, "one")
    code, found = repository.run()
    assert code == 0 and set(found) == SCHEMA
    assert (found["status"], found["base"]) == ("head only", None)
    assert found["why"] == "base could not be measured: HEAD^: no such commit"
    assert found["measurements"]["decode"]["ratio"] is None and "base" not in found["measurements"]["decode"]
    assert f"NOT COMPARED: {found['why']}" in capsys.readouterr().out
    repository.commit(PACKAGE, "two")
    url = f"file://{repository.root}"
    subprocess.run(["git", "clone", "-q", "--depth", "1", url, str(tmp_path / "shallow" / "r")], check=True)
    shallow = Repository.__new__(Repository)
    shallow.root, shallow.out = tmp_path / "shallow" / "r", tmp_path / "shallow" / "bench.json"
    code, found = shallow.run()
    assert (code, found["status"]) == (0, "head only") and "the history is shallow" in found["why"]


@pytest.mark.parametrize(
    "broken", ["import nothing_of_this_name", PACKAGE.replace("assert all", "raise ValueError('no') #")]
)
def test_a_base_that_fails_is_said_and_a_head_that_fails_fails(
    repository: Repository, broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit(broken, "broken")
    repository.commit(PACKAGE, "right")
    code, found = repository.run()
    assert (code, found["status"]) == (0, "head only")
    assert "nothing_of_this_name" in found["why"] or "no" in found["why"]
    repository.commit(broken, "broken again")
    assert repository.run() == (1, {})
    assert capsys.readouterr().err.startswith("error: HEAD: ")


def test_without_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    nothing = Repository.__new__(Repository)
    nothing.root, nothing.out = tmp_path / "empty", tmp_path / "bench.json"
    nothing.root.mkdir()
    code, found = nothing.run()
    assert code == 0 and set(found) == SCHEMA
    assert (found["status"], found["measurements"]) == ("nothing", {}) and "there is no repository" in found["why"]
    with pytest.raises(BuildError):
        resolve(nothing.root, "HEAD")


def test_ratios_are_of_rounds_and_above_one_where_head_is_faster() -> None:
    found = summary({"base": [10.0, 20.0, 30.0, 40.0], "head": [5.0, 40.0, 10.0, 40.0]})
    assert (found["base"]["median_ms"], found["head"]["median_ms"]) == (25.0, 25.0)
    assert found["ratio"] == {"median": 1.5, "low": 0.75, "high": 2.5, "rounds": [2.0, 0.5, 3.0, 1.0]}
    assert summary({"head": [1.0, 3.0]}) == {"head": {"ms": [1.0, 3.0], "median_ms": 2.0}, "ratio": None}
    assert quartiles([5.0]) == (5.0, 5.0) and quartiles([1.0, 2.0, 3.0]) == (1.5, 2.5)


def test_variants_are_read_as_the_build_reads_them(tmp_path: Path) -> None:
    (tmp_path / "v").write_text("# a comment\n\nx x.comp A=1 B  # why\n")
    assert list(variants(tmp_path / "v")) == [("x", ["x.comp", "A=1", "B"])]


def test_bad_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    for options, message in (
        (["--model", "absent.onnx"], "no such model"),
        (["--model", __file__, "--rounds", "0"], "at least 1"),
    ):
        with pytest.raises(SystemExit) as ended:
            bench_commits.main(options)
        assert ended.value.code == 2 and message in capsys.readouterr().err
