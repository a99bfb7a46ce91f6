"""tlite-vk info."""

import json

import pytest
from support.cli import Cli


@pytest.mark.usefixtures("lavapipe")
def test_lists_devices_for_people_and_for_programs(cli: Cli) -> None:
    found = json.loads(cli("info", "--json").out)
    assert found["default_device"] == 0
    device = found["devices"][0]
    assert "llvmpipe" in device["name"] and device["type"] == "cpu"
    assert device["limits"]["max_storage_buffer_range"] >= 1 << 27
    assert device["features"]["subgroup_basic"] is True
    assert device["paths"] == {
        "kernels": "cpu", "reads": "texel", "arithmetic": "fp32", "token_products": "fp32",
        "prompt_products": "fp32", "activations": "fp32", "kv_cache": "fp16", "lanes": 8,
    }  # fmt: skip
    text = cli("info").out
    for part in ("device 0 (default)", "llvmpipe", "register tiles", "texel buffers", found["cache_folder"]):
        assert part in text


@pytest.mark.parametrize("arguments", [("info",), ("info", "--json")])
def test_no_driver(cli: Cli, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    monkeypatch.setenv("VK_DRIVER_FILES", "/nonexistent")
    assert "no Vulkan driver was found" in cli(*arguments).error
