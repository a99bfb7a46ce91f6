"""The corpus of tools/fuzz.py, and what fuzzing found: every input ends in a result or in one line of ours."""

from pathlib import Path

import pytest
from fuzzing import guard, structure
from fuzzing.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(path for path in CORPUS.rglob("*") if path.is_file())


@pytest.fixture(scope="session", autouse=True)
def watched() -> None:
    guard.install()


@pytest.mark.parametrize("file", FILES, ids=[str(path.relative_to(CORPUS)) for path in FILES])
def test_corpus(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLITE_VK_CACHE", str(tmp_path / "cache"))
    with guard.guarded(tmp_path):
        TARGETS[file.parent.name](file.read_bytes(), tmp_path)


def test_the_corpus_is_small() -> None:
    assert {path.parent.name for path in FILES} == set(TARGETS)
    assert sum(path.stat().st_size for path in FILES) < 300_000


def test_drawn_graphs() -> None:
    structure.draw_graphs()


def test_the_guard_sees_files_from_elsewhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("secret")
    (tmp_path / "model").mkdir()
    with (
        pytest.raises(guard.Finding, match="files outside of the model's folder were opened"),
        guard.guarded(tmp_path / "model"),
    ):
        outside.read_text()
