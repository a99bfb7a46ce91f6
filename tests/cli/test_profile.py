"""tlite-vk profile."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.cli import Cli

from tlite_vk import profile as module
from tlite_vk import roofline

pytestmark = pytest.mark.usefixtures("lavapipe")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times need not be right here."""
    monkeypatch.setattr(module, "WARM_UP", 0.0)
    monkeypatch.setattr(roofline, "COPY_BYTES", 1 << 20)
    monkeypatch.setattr(roofline, "RUNS", 1)
    monkeypatch.setattr(roofline, "MIN_SECONDS", 0.0)


def test_profile(cli: Cli, model: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    arguments = ["profile", model, "--prompt", 10, "--repeat", 2]
    result = cli(*arguments, "--json", "--trace", trace)
    assert result.code == 0
    assert result.err == f"{trace} is written; open it at https://ui.perfetto.dev\n"
    found = json.loads(result.out)
    assert (found["prompt"], found["repeat"], found["model"]) == (10, 2, str(model / "model.onnx"))
    assert "llvmpipe" in found["device"] and found["copy_bytes_per_s"] > 0 and found["multiply_adds_per_s"] > 0
    assert list(found["steps"]) == ["prefill", "decode"]
    for step in found["steps"].values():
        assert sum(k["seconds"] for k in step["kernels"]) + step["gaps_s"] == pytest.approx(step["seconds"])
        assert sum(k["dispatches"] for k in step["kernels"]) == step["dispatches"]
        assert {k["nearer_limit"] for k in step["kernels"]} <= {"bandwidth", "multiply-adds"}
    slices = [e for e in json.loads(trace.read_text())["traceEvents"] if e["ph"] == "X"]
    assert len(slices) == sum(step["dispatches"] for step in found["steps"].values())
    assert {e["cat"] for e in slices} == {"prefill", "decode"}


def test_the_tables(cli: Cli, model: Path) -> None:
    result = cli("profile", model, "--prompt", 10, "--repeat", 1)
    assert (result.code, result.err) == (0, "")
    for part in (
        "prefill, 10 tokens behind 0",
        "decode, 1 token behind 10",
        "% copy",
        "% MAC",
        "GB/s read and written",
    ):
        assert part in result.out
    assert result.out.count("barriers and gaps") == 2
    assert "argmax, pick" in result.out and "layer.*.ffn.down" in result.out


def test_what_cannot_be_profiled(cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "choose at most 4096" in cli("profile", model, "--prompt", 5000).error
    assert "choose a smaller --prompt" in cli("profile", model, "--context", 32).error
    info = SimpleNamespace(name="Old GPU", limits={"timestamp_valid_bits": 0})
    monkeypatch.setattr(module, "open_device", lambda _: SimpleNamespace(info=info))
    assert "Old GPU has no timestamps" in cli("profile", model).error
