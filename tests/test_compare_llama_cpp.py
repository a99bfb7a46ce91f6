"""tools/compare_llama_cpp.py with a stand-in for the peer."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Kind
from support.gguf_models import write_llama

from tlite_vk.convert import convert

TOOL = Path(__file__).parents[1] / "tools" / "compare_llama_cpp.py"
PEER = """
import json, sys
assert sys.argv[3:] == ["--pp", "5", "--tg", "4", "-r", "1", "-t", "1", "--device", "0"], sys.argv
print("noise")
results = [{"test": "pp5", "reps_ms": [500.0]}, {"test": "tg4", "reps_ms": [1000.0]}]
print(json.dumps({"devices": [["Vulkan0", "stand-in"]], "results": results}))
"""


@pytest.fixture
def command(tmp_path: Path, lavapipe_file: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("VK_DRIVER_FILES", lavapipe_file)
    monkeypatch.setenv("TLITE_VK_CACHE", str(tmp_path / "cache"))
    gguf = write_llama(tmp_path, kind=Kind.Q4_1)
    (tmp_path / "peer.py").write_text(PEER)
    sizes = ["--prompt", "5", "--gen", "4", "--rounds", "1", "--threads", "1", "--peer-device", "0"]
    files = ["--libdir", str(tmp_path), "--bench-script", str(tmp_path / "peer.py"), "--gguf", str(gguf)]
    return [sys.executable, str(TOOL), *files, *sizes]


def test_ratios_of_medians(command: list[str]) -> None:
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["medians"]["peer"] == {"prefill": 10.0, "decode": 4.0, "generate": 4.0}
    for name, peer in found["medians"]["peer"].items():
        ours = found["rounds"]["ours"][0][name]
        assert found["ratios"][name] == pytest.approx(ours / peer)
    assert found["devices"]["peer"] == "Vulkan0 stand-in" and "llvmpipe" in found["devices"]["ours"]
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["round 1 peer", "round 1 ours"]


def test_another_model_is_refused(command: list[str], tmp_path: Path) -> None:
    other = write_llama(tmp_path, name="other.gguf", kind=Kind.Q4_0)
    model = convert(other, tmp_path / "other.onnx").model
    done = subprocess.run([*command, "--model", str(model)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "was not converted from" in done.stderr and done.stdout == ""
