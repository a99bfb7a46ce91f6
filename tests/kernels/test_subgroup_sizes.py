"""Kernels at other subgroup sizes than the drivers' own 8 and 4: lavapipe takes its size from an environment variable.

What depends on the size is half arithmetic (sums over a subgroup) and attention in shares (exchange within one).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
SHOW = "from tlite_vk.device import choose_device; print(choose_device().limits['subgroup_size'])"


@pytest.mark.parametrize(("bits", "size"), [(128, 4), (512, 16)])
def test_what_depends_on_the_size(lavapipe_file: str, bits: int, size: int) -> None:
    environment = {
        **os.environ,
        "LP_NATIVE_VECTOR_WIDTH": str(bits),
        "VK_DRIVER_FILES": lavapipe_file,
        "TLITE_VK_TEST_DRIVER": "lavapipe",
    }

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert int(run("-P", "-c", SHOW)) == size
    tests = [f"{FOLDER / name}.py" for name in ("test_linear", "test_attention", "test_small")]
    chosen = "half_arithmetic or (shares and gpu) or rms_norm"
    assert " passed" in run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--every", "16", "-k", chosen, *tests)
