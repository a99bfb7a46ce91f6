"""The checks of tlite-vk doctor, on made-up machines: folders that stand for /, environments, loaders."""

import json
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tlite_vk.doctor import Finding, Status, System, child, devices, drivers, examine, storage
from tlite_vk.doctor.system import PACKAGES

LIBRARY = "libc.so.6"
"""Any library that can be opened."""


@pytest.fixture
def system(tmp_path: Path) -> System:
    """A machine with nothing on it."""
    return System({"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}, tmp_path)


def given(system: System, **variables: str) -> System:
    """The same machine, with more variables."""
    return replace(system, environment={**system.environment, **variables})


def manifest(folder: Path, library: object = LIBRARY, name: str = "some_icd.json") -> Path:
    """A driver's manifest in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps({"file_format_version": "1.0.0", "ICD": {"library_path": library}}))
    return folder / name


def only(findings: list[Finding]) -> Finding:
    (found,) = findings
    return found


def test_a_loader_that_is_there(system: System) -> None:
    assert drivers.loader(replace(system, loader=LIBRARY)).status is Status.ok


@pytest.mark.parametrize(
    ("release", "line"),
    [
        ('ID=ubuntu\nID_LIKE="debian"\n', "apt-get install libvulkan1"),
        ("# comment\nID=debian\n", "apt-get install libvulkan1"),
        ("ID=fedora\n", "dnf install vulkan-loader"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "dnf install vulkan-loader"),
        ("ID=arch\n", "pacman -S vulkan-icd-loader"),
        ("ID=manjaro\nID_LIKE=arch\n", "pacman -S vulkan-icd-loader"),
        ("ID=void\n", "install what Debian calls libvulkan1"),
        ("", "install what Debian calls libvulkan1"),
    ],
)
def test_a_missing_loader_and_what_to_install(system: System, release: str, line: str) -> None:
    (system.root / "etc").mkdir()
    (system.root / "etc" / "os-release").write_text(release)
    found = drivers.loader(replace(system, loader="libno-such-loader.so.1"))
    assert found.status is Status.problem and "is not installed" in found.text
    assert found.advice.endswith(line)


def test_termux_is_known_by_its_prefix(system: System) -> None:
    prefix = system.root / "com.termux" / "usr"
    manifest(prefix / "share" / "vulkan" / "icd.d")
    termux = given(system, PREFIX=str(prefix))
    assert termux.install("cpu driver") == "run: pkg install mesa-vulkan-icd-swrast"
    assert only(drivers.drivers(termux)).status is Status.ok


def test_every_family_names_the_same_packages() -> None:
    assert {tuple(names) for names in PACKAGES.values()} == {tuple(PACKAGES["debian"])}


def test_a_damaged_loader(system: System) -> None:
    (system.root / "libvulkan.so.1").write_text("no library")
    found = drivers.loader(given(system, LD_LIBRARY_PATH=str(system.root)))
    assert found.status is Status.problem and "cannot be opened" in found.text and "again" in found.advice


def test_no_driver_at_all(system: System) -> None:
    found = only(drivers.drivers(system))
    assert (found.status, found.text) == (Status.problem, "no Vulkan driver is installed")
    assert "mesa-vulkan-drivers" in found.advice


@pytest.mark.parametrize(
    "folder",
    ["home/.config", "home/.local/share", "etc", "etc/xdg", "usr/share", "usr/local/share"],
)
def test_drivers_are_found_where_the_loader_looks(system: System, folder: str) -> None:
    file = manifest(system.root / folder / "vulkan" / "icd.d")
    found = only(drivers.drivers(system))
    assert found.status is Status.ok and found.text == f"{file}: {LIBRARY}"


@pytest.mark.parametrize("variable", ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"])
def test_a_variable_that_names_nothing(system: System, variable: str) -> None:
    manifest(system.root / "etc" / "vulkan" / "icd.d")  # not looked at then
    missing = only(drivers.drivers(given(system, **{variable: "/no/such_icd.json"})))
    assert missing.status is Status.problem and "/no/such_icd.json does not exist" in missing.text
    assert missing.advice == f"correct or unset {variable}"
    (system.root / "empty").mkdir()
    empty = only(drivers.drivers(given(system, **{variable: str(system.root / "empty")})))
    assert empty.status is Status.problem and "holds no manifest" in empty.text


def test_one_good_driver_makes_the_rest_warnings(system: System) -> None:
    good, bad = manifest(system.root / "a"), system.root / "missing.json"
    found = drivers.drivers(given(system, VK_DRIVER_FILES=f"{bad}{os.pathsep}{good}"))
    assert [finding.status for finding in found] == [Status.warning, Status.ok]
    added = drivers.drivers(given(system, VK_ADD_DRIVER_FILES=str(good)))
    assert only(added).status is Status.ok


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "is no driver's manifest"),
        ("[]", "it names no library"),
        ('{"ICD": {}}', "it names no library"),
        ('{"ICD": {"library_path": 3}}', "it names no library"),
        (b"\xff\xfe", "is no driver's manifest"),
        ('{"ICD": {"library_path": "./libgone.so"}}', "its library does not load"),
        ('{"ICD": {"library_path": "libgone.so"}}', "its library does not load"),
    ],
)
def test_broken_manifests(system: System, content: str | bytes, text: str) -> None:
    file = manifest(system.root / "etc" / "vulkan" / "icd.d")
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = only(drivers.drivers(system))
    assert found.status is Status.problem and text in found.text and found.advice


def test_a_manifest_that_may_not_be_read(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> str:
        raise PermissionError(13, "Permission denied")

    manifest(system.root / "etc" / "vulkan" / "icd.d")
    monkeypatch.setattr(drivers, "_library", denied)
    assert "chmod a+r" in only(drivers.drivers(system)).advice


def test_device_files(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.nodes(system) == []
    (system.root / "dev" / "dri").mkdir(parents=True)
    node = system.root / "dev" / "dri" / "renderD128"
    node.touch()
    assert only(devices.nodes(system)).status is Status.ok
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = only(devices.nodes(system))
    assert found.status is Status.warning and str(node) in found.text and "usermod -aG render" in found.advice


def offering(answers: Mapping[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let probes answer so, or raise."""

    def probe(_: System, what: str, *rest: str) -> object:
        answer = answers[what]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(child, "probe", probe)


DEVICE = {"index": 0, "name": "Some GPU", "type": "discrete", "driver": "some 1.0", "vulkan": "1.3.0", "features": {}}


def test_a_device_that_computes_wrongly_or_crashes(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    offering({"devices": [DEVICE], "run": {"wrong": 3, "of": 4096, "seconds": 0.1}}, monkeypatch)
    info, kernel = devices.devices(system)
    assert info.status is Status.ok and "it does without a KV cache" in info.text
    assert kernel.status is Status.problem and "3 of 4096 values are wrong" in kernel.text
    offering({"devices": [DEVICE], "run": child.ChildError("it crashed (SIGSEGV)")}, monkeypatch)
    kernel = devices.devices(system)[1]
    assert kernel.status is Status.problem and "SIGSEGV" in kernel.text and "update the driver" in kernel.advice


def test_a_chosen_device_that_is_not_there(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    offering({"devices": [DEVICE], "run": {"wrong": 0, "of": 4096, "seconds": 0.1}}, monkeypatch)
    for name in ("0", "some", "GPU"):
        assert len(devices.devices(given(system, TLITE_VK_DEVICE=name))) == 2
    found = devices.devices(given(system, TLITE_VK_DEVICE="adreno"))[-1]
    assert found.status is Status.problem and "0 = Some GPU" in found.advice


def test_the_validation_layer_matters_where_it_is_asked_for(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    offering({"validation": child.ChildError("the layer is not installed")}, monkeypatch)
    assert only(devices.validation(system)).status is Status.ok
    found = only(devices.validation(given(system, TLITE_VK_VALIDATION="1")))
    assert found.status is Status.problem and "vulkan-validationlayers" in found.advice


def test_children_that_end_badly(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(child.ChildError, match="SIGABRT"):
        child._run(system, ["-c", "import os; os.abort()"])
    with pytest.raises(child.ChildError, match="exit code 3"):
        child._run(system, ["-c", "raise SystemExit(3)"])
    monkeypatch.setattr(child, "SECONDS", 0.2)
    with pytest.raises(child.ChildError, match="no answer within"):
        child._run(system, ["-c", "import time; time.sleep(60)"])


def test_a_missing_compiler(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    offering({"compiler": child.ChildError("none")}, monkeypatch)
    found = storage.compiler(system)
    assert found.status is Status.problem and "pip install" in found.advice and "glslang-tools" in found.advice


def test_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "not" / "yet"
    assert only(storage.cache(folder)).text.startswith(f"{folder}: 0.0 MB used")
    assert not folder.exists()
    folder.mkdir(parents=True)
    (folder / "x").write_bytes(bytes(2_000_000))
    assert "2.0 MB used" in only(storage.cache(folder)).text
    blocked = only(storage.cache(folder / "x" / "cache"))
    assert blocked.status is Status.warning and "TLITE_VK_CACHE" in blocked.advice
    monkeypatch.setattr(storage, "LITTLE", 1 << 60)
    assert "free some room" in only(storage.cache(folder)).advice


def test_a_cache_folder_that_is_read_only(tmp_path: Path) -> None:
    if os.geteuid() == 0:  # nothing is read-only for root but a file system that is
        folder = Path("/proc/sys")
    else:
        folder = tmp_path / "locked"
        folder.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    assert "cannot be written" in only(storage.cache(folder)).text


def test_variables(system: System) -> None:
    assert "no variable" in only(storage.variables(system)).text
    prefix = "TLITE_VK"  # apart, since these two are no variables of ours
    mistyped = {f"{prefix}_CAHCE": "x", "VK_DRIVER_FILES": "y", "TLITE_VK_DEVICE": "0"}
    typo, shown = storage.variables(given(system, **mistyped))
    assert typo.status is Status.warning and "TLITE_VK_CACHE may be meant" in typo.advice
    assert shown.text == "TLITE_VK_DEVICE=0, VK_DRIVER_FILES=y"
    assert storage.variables(given(system, **{f"{prefix}_XYZZY": "1"}))[0].advice == "unset it"


def test_every_documented_variable_is_known() -> None:
    page = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    documented = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `TLITE_VK_")}
    assert documented <= set(storage.VARIABLES)


def test_without_a_loader_nothing_else_is_asked_of_it(system: System) -> None:
    found = list(examine(replace(system, loader="libno-such-loader.so.1"), system.root))
    assert [f.name for f in found if f.status is Status.problem] == ["loader"]
    assert not {"driver", "device", "kernel"} & {f.name for f in found}
    assert sys.executable in found[0].text
