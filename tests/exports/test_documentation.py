"""The call of torch.onnx.export in docs/models.md works, and its file generates."""

import re
from pathlib import Path

import pytest
import torch
from exporting.export import Decoder, quiet
from support.exports import greedy, model_of

from tlite_vk.device import Device
from tlite_vk.loading import load

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_call_in_the_documentation(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = PAGE.read_text(encoding="utf-8").split("## Exported from transformers")[1]
    [call] = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    model = model_of("qwen3")  # its config has all that the call reads
    names = {"torch": torch, "Decoder": Decoder, "model": model, "config": model.config}
    with quiet():
        exec(compile(call, str(PAGE), "exec"), names)
    want = greedy("qwen3", 65)
    with load("model", device=device, precision="fp32") as loaded:
        assert list(loaded.generate_tokens(want.prompt, max_tokens=32)) == want.tokens
