"""The Python of the README runs, on tiny models with the names that it uses."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.gguf_models import write_llama

from tlite_vk.convert import convert

ROOT = Path(__file__).parents[2]
SNIPPETS = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)


def write_classifier(path: Path) -> None:
    """y [N, 4] = softmax(x [N, 16] @ w): any graph that is no language model."""
    weight = np.random.default_rng(1).standard_normal((16, 4)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Softmax", ["h"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", size)) for name, size in (("x", 16), ("y", 4)))
    graph = helper.make_graph(nodes, "classifier", [x], [y], [numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)]), path)


def test_there_are_snippets() -> None:
    assert len(SNIPPETS) == 2


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs(
    number: int, lavapipe_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VK_DRIVER_FILES", lavapipe_file)
    monkeypatch.delenv("TLITE_VK_DEVICE", raising=False)
    (tmp_path / "smollm2").mkdir()
    convert(write_llama(tmp_path, vocab=261, tokenizer=True), tmp_path / "smollm2" / "model.onnx")
    write_classifier(tmp_path / "classifier.onnx")
    exec(compile(SNIPPETS[number], f"README.md, snippet {number + 1}", "exec"), {})
    assert capsys.readouterr().out
