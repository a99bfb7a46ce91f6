"""Drivers for the tests that need a device, and a rebuild of edited shaders and C++ before anything runs.

Fixtures: `device` (lavapipe), `swiftshader`, `any_device` (both in turn) and `open_driver` (a device of one's own).
TLITE_VK_TEST_DRIVER=swiftshader, or =system for what the loader finds (a GPU), stands for both.
With TLITE_VK_VALIDATION=1 every device, those of child processes too, reports to the Khronos validation layer, and a
test fails that leaves a message.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CalledProcessError
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tlite_vk import spirv

if TYPE_CHECKING:  # the extension module is loaded after it was rebuilt
    from tlite_vk.device import Device

ROOT = Path(__file__).parents[1]
MAIN_DRIVER = os.environ.get("TLITE_VK_TEST_DRIVER", "lavapipe")
DRIVERS = (MAIN_DRIVER,) if "TLITE_VK_TEST_DRIVER" in os.environ else ("lavapipe", "swiftshader")
ICD_FOLDERS = ("/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d")

POOREST = f"{MAIN_DRIVER} as least"
POOREST_EVERY = 4

OpenDriver = Callable[..., "Device"]

VALIDATION_LOG: Path | None = None
if os.environ.get("TLITE_VK_VALIDATION", "") not in ("", "0"):
    VALIDATION_LOG = Path(tempfile.mkdtemp(prefix="tlite-vk-")) / "validation"
    os.environ["TLITE_VK_VALIDATION"] = str(VALIDATION_LOG)
    atexit.register(shutil.rmtree, VALIDATION_LOG.parent, ignore_errors=True)

# A test runs what it compiles, not what an earlier one left in the cache.
os.environ.setdefault("TLITE_VK_CACHE_BYTES", "0")

# Times differ between machines: no test is judged by one.
hypothesis.settings.register_profile("tlite", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tlite")


def _rebuild() -> None:
    """Bring a development install up to date with its sources; other installs have no cmake beside their Python."""
    scripts = Path(sysconfig.get_path("scripts"))
    if not (scripts / "cmake").exists():
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(scripts), prepend=os.pathsep)
        patch.setenv("SKBUILD_EDITABLE_VERBOSE", "0")
        try:
            spirv.rebuild()
        except CalledProcessError as error:
            pytest.exit(f"the build failed ({' '.join(error.cmd)}); its messages are above", returncode=2)


_rebuild()


def driver_file(name: str) -> Path:
    """The manifest of a driver, for VK_DRIVER_FILES. Fails the test, saying how to get it, where it is missing."""
    if name == "lavapipe":
        for folder in ICD_FOLDERS:
            for manifest in sorted(Path(folder).glob("lvp_icd*.json")):
                return manifest
        pytest.fail("lavapipe is not installed; run: apt-get install mesa-vulkan-drivers", pytrace=False)
    manifest = Path(
        os.environ.get("TLITE_VK_SWIFTSHADER") or ROOT / ".cache" / "swiftshader" / "vk_swiftshader_icd.json"
    )
    if not manifest.exists():
        pytest.fail(f"SwiftShader is not at {manifest}; run: tools/setup.sh --swiftshader", pytrace=False)
    return manifest.resolve()


@contextmanager
def driver_environment(name: str) -> Iterator[None]:
    """Make the Vulkan loader see one driver only ('system': all that are installed) while instances are created."""
    if name == "system":
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VK_DRIVER_FILES", str(driver_file(name)))
        patch.delenv("TLITE_VK_DEVICE", raising=False)
        yield


@pytest.fixture(scope="session")
def lavapipe_file() -> str:
    """What VK_DRIVER_FILES must be for lavapipe."""
    return str(driver_file("lavapipe"))


@pytest.fixture(scope="session")
def open_driver() -> OpenDriver:
    """A function (driver name, **options of open_device) -> Device, freshly opened."""

    from tlite_vk.device import open_device

    def opened(name: str, **options: Any) -> Device:
        with driver_environment(name):
            return open_device(**options)

    return opened


@pytest.fixture(scope="session")
def device(open_driver: OpenDriver) -> Device:
    """The device most tests run on."""
    return open_driver(MAIN_DRIVER)


@pytest.fixture(scope="session")
def main_driver() -> str:
    """The name of that device's driver."""
    return MAIN_DRIVER


@pytest.fixture(scope="session")
def swiftshader(open_driver: OpenDriver) -> Device:
    """The poorest device we support: subgroups of 4, no 16-bit types, offsets in multiples of 256."""
    return open_driver("swiftshader")


@pytest.fixture(scope="session", params=(*DRIVERS, POOREST))
def any_device(request: pytest.FixtureRequest, open_driver: OpenDriver) -> Device:
    """Each of the two drivers in turn; the tests of kernels also on POOREST."""
    driver, _, profile = request.param.partition(" as ")
    return open_driver(driver, limits=profile) if profile else open_driver(driver)


@pytest.fixture
def driver_variables(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment in which another process finds only the driver that `any_device` is of."""
    name = request.node.callspec.params["any_device"]
    return dict(os.environ) if name == "system" else {**os.environ, "VK_DRIVER_FILES": str(driver_file(name))}


@pytest.fixture(autouse=True)
def no_validation_messages() -> Iterator[None]:
    """With the validation layer on, no device leaves a message, but those that a test opened with validation=True."""
    yield
    if VALIDATION_LOG is not None and VALIDATION_LOG.exists() and VALIDATION_LOG.stat().st_size:
        messages = VALIDATION_LOG.read_text(errors="replace")
        VALIDATION_LOG.write_text("")
        pytest.fail(f"the validation layer says:\n{messages}", pytrace=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every", type=int, default=1, metavar="N", help="run every Nth case of each test only")


def _thinned(items: list[pytest.Item], every: int) -> list[pytest.Item]:
    """Every Nth case of each test. On the poorest device every fourth case of kernels' tests, none of others: all run
    with TLITE_VK_LIMITS=least."""
    seen: Counter[tuple[str, bool]] = Counter()
    kept = []
    for item in items:
        poorest = POOREST in item.nodeid
        if poorest and item.path.parent.name != "kernels":
            continue
        name = item.nodeid.partition("[")[0], poorest
        if seen[name] % (max(every, POOREST_EVERY) if poorest else every) == 0:
            kept.append(item)
        seen[name] += 1
    return kept


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs a driver by the fixtures it asks for."""
    items[:] = _thinned(items, int(config.getoption("--every") or 1))
    wanted = {"device", "swiftshader", "any_device", "open_driver", "lavapipe_file"}
    for item in items:
        if isinstance(item, pytest.Function) and wanted & set(item.fixturenames):
            item.add_marker("gpu_driver")
