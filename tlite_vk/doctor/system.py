"""The machine as the checks see it, so that a test can make up another one; what its packages are called."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = {
    "debian": {
        "install": "sudo apt-get install",
        "loader": "libvulkan1",
        "cpu driver": "mesa-vulkan-drivers",
        "validation": "vulkan-validationlayers",
        "compiler": "glslang-tools",
    },
    "fedora": {
        "install": "sudo dnf install",
        "loader": "vulkan-loader",
        "cpu driver": "mesa-vulkan-drivers",
        "validation": "vulkan-validation-layers",
        "compiler": "glslang",
    },
    "arch": {
        "install": "sudo pacman -S",
        "loader": "vulkan-icd-loader",
        "cpu driver": "vulkan-swrast",
        "validation": "vulkan-validation-layers",
        "compiler": "glslang",
    },
    "termux": {
        "install": "pkg install",
        "loader": "vulkan-loader-generic",
        "cpu driver": "mesa-vulkan-icd-swrast",
        "validation": "vulkan-validation-layers",
        "compiler": "glslang",
    },
}
"""Names of packages by family of distributions, and the command that installs them."""


@dataclass(frozen=True)
class System:
    """environment: its variables. root: the folder that stands for /. loader: the file name of the Vulkan loader."""

    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    root: Path = Path("/")
    loader: str = "libvulkan.so.1"

    def home(self) -> Path:
        """The user's home folder."""
        return Path(self.environment.get("HOME") or Path.home())

    def family(self) -> str:
        """'debian', 'fedora', 'arch' or 'termux'; '' where it is none of them."""
        if "com.termux" in self.environment.get("PREFIX", ""):
            return "termux"
        names = self._os_release()
        for word in (names.get("ID", ""), *names.get("ID_LIKE", "").split()):
            known = {"ubuntu": "debian", "rhel": "fedora", "centos": "fedora"}.get(word, word)
            if known in PACKAGES:
                return known
        return ""

    def install(self, what: str) -> str:
        """How to install 'loader', 'cpu driver', 'validation' or 'compiler' here: a line to run."""
        family = self.family()
        if not family:
            return f"install what Debian calls {PACKAGES['debian'][what]}"
        command = PACKAGES[family]["install"]
        if self.environment.get("USER") == "root" or (family != "termux" and os.geteuid() == 0):
            command = command.removeprefix("sudo ")
        return f"run: {command} {PACKAGES[family][what]}"

    def _os_release(self) -> dict[str, str]:
        """NAME=value, quoted as in a shell (freedesktop.org's os-release)."""
        for file in ("etc/os-release", "usr/lib/os-release"):
            try:
                text = (self.root / file).read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
            return {name: "".join(shlex.split(value)[:1]) for name, _, value in pairs if value.count('"') != 1}
        return {}
