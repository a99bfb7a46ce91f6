"""tlite-vk serve: what the command adds to the server."""

from pathlib import Path

import pytest

from tlite_vk.cli.serve import default_name


@pytest.mark.parametrize(
    ("path", "name"),
    [("smollm2/model.onnx", "smollm2"), ("there/smollm2.tlvk", "smollm2"), ("a/model.tlvk", "a"), ("b/x.onnx", "x")],
)
def test_a_model_is_named_after_its_file_or_its_folder(path: str, name: str) -> None:
    assert default_name(Path(path)) == name
