"""tlite-vk compile."""

import json
from pathlib import Path

import pytest
from support.cli import Cli

pytestmark = pytest.mark.usefixtures("lavapipe")


def test_tells_what_became_of_a_model(cli: Cli, model: Path) -> None:
    result = cli("compile", model, "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    assert list(found["entries"]) == ["decode", "prefill", "score"]
    for name, entry in found["entries"].items():
        assert entry["passes"]["ring-attention"] == {"matched": 2, "rejected": 0}, name
        assert 0 < entry["barriers"] < entry["dispatches"]
        assert list(entry["memory"]) == (["1"] if name == "decode" else ["1", "64", "512"])
        for memory in entry["memory"].values():
            assert 0 < memory["lower_bound_bytes"] <= memory["arena_bytes"] <= memory["without_reuse_bytes"]
    assert found["entries"]["decode"]["dispatches"] < found["entries"]["prefill"]["dispatches"]
    assert found["cache_bytes"] == {"2048": 2 * 2 * 2048 * 2 * 16 * 2}  # layers, keys and values, heads of 16, fp16


def test_report_and_dump(cli: Cli, model: Path, tmp_path: Path) -> None:
    text = cli("compile", model, "--report", "--dump", tmp_path / "graphs").out
    for part in ("passes of decode", "left alone in prefill", "norm-into-linear", "activations, T=512"):
        assert part in text
    assert {folder.name for folder in (tmp_path / "graphs").iterdir()} == {"decode", "prefill", "score"}
    files = sorted((tmp_path / "graphs" / "decode").iterdir())
    assert files[0].name == "01-identities.txt"
    assert "tlite.RingAttention" in files[-1].read_text(encoding="utf-8")


def test_what_does_not_compile(cli: Cli, model: Path, tmp_path: Path) -> None:
    assert "no such model" in cli("compile", tmp_path / "absent.onnx").error
    assert "there is no device 9" in cli("compile", model, "--device", 9).error
    (tmp_path / "file").write_text("")
    assert "cannot use" in cli("compile", model, "--dump", tmp_path / "file" / "x").error
