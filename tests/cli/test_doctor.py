"""tlite-vk doctor on this machine, as it is and with environments that hide or break something."""

import json
from pathlib import Path

import pytest
from support.cli import Cli


def findings(out: str) -> dict[str, list[str]]:
    """Statuses by name."""
    by_name: dict[str, list[str]] = {}
    for finding in json.loads(out)["findings"]:
        by_name.setdefault(finding["name"], []).append(finding["status"])
    return by_name


@pytest.mark.usefixtures("lavapipe")
def test_a_healthy_machine(cli: Cli) -> None:
    result = cli("doctor")
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith("\nModels run here.\n")
    assert "4096 values as they should be" in result.out
    result = cli("doctor", "--json")
    assert result.code == 0 and json.loads(result.out)["ok"] is True
    names = findings(result.out)
    assert names["device"] == names["kernel"] == names["loader"] == names["compiler"] == names["layers"] == ["ok"]


def test_a_loader_without_a_driver(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("VK_DRIVER_FILES", str(tmp_path / "none"))
    result = cli("doctor")
    assert result.code == 1 and "2 problems: models do not run here" in result.out
    assert "holds no manifest" in result.out and "no Vulkan driver was found" in result.out
    assert cli("info").error.endswith("tlite-vk doctor examines this machine")


def test_a_broken_manifest(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "icd.json").write_text('{"ICD": {"library_path": "./libgone.so"}}')
    monkeypatch.setenv("VK_DRIVER_FILES", str(tmp_path / "icd.json"))
    result = cli("doctor", "--json")
    assert result.code == 1 and json.loads(result.out)["ok"] is False
    assert findings(result.out)["driver"] == findings(result.out)["device"] == ["problem"]


def test_a_loader_that_cannot_be_opened(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libvulkan.so.1").mkdir()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    result = cli("doctor")
    assert result.code == 1 and "the Vulkan loader cannot be opened" in result.out and "1 problem:" in result.out
