"""tlite-vk ablate."""

import json
from pathlib import Path

import pytest
from support.cli import Cli

pytestmark = pytest.mark.usefixtures("lavapipe")
QUICK = ("--prompt", 9, "--gen", 2, "--rounds", 1, "--cached", 16)


def test_json(cli: Cli, model: Path) -> None:
    result = cli("ablate", model, *QUICK, "--cached", 5000, "--only", "int4", "--only", "concat", "--json")
    assert (result.code, result.err) == (0, "the context is too short for 5000 cached tokens; left out\n")
    found = json.loads(result.out)
    assert [a["name"] for a in found["ablations"]] == ["int4", "concat"] and found["left_out"] == [5000]
    for ablation in found["ablations"]:
        assert ablation["same_tokens"] == ablation["steps"] > 0
        assert all(row["ratio"] > 0 for row in ablation["rows"])


def test_the_tables(cli: Cli, model: Path) -> None:
    result = cli("ablate", model, *QUICK)
    assert (result.code, result.err) == (0, "")
    for part in (
        "int4: E0M4 / INT4, subtract and scale",
        "concat: KV ring / Concat, the past copied",
        "unfused: fused / unfused",
        "unplanned: planned memory / no memory shared",
        "single: several tokens a submission / one a submission",
        "decode behind 16",
        "prefill 9",
    ):
        assert part in result.out
    assert result.out.count("the same token in") == 5


def test_what_cannot_be_ablated(cli: Cli, model: Path) -> None:
    assert "unknown ablation int8; known: int4" in cli("ablate", model, "--only", "int8").error
    assert "choose smaller --prompt" in cli("ablate", model, "--prompt", 5000).error


def test_a_compiled_model_has_what_needs_no_compiler(cli: Cli, model: Path, tmp_path: Path) -> None:
    compiled = tmp_path / "model.tlvk"
    assert cli("compile", model, "-o", compiled).code == 0
    assert "choose --only int4, concat or single" in cli("ablate", compiled, *QUICK).error
    result = cli("ablate", compiled, *QUICK, "--only", "int4", "--only", "concat", "--only", "single")
    assert (result.code, result.out.count("the same token in")) == (0, 3)
