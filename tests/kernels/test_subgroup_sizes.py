"""Kernels at other subgroup sizes than the drivers' own 8 and 4: lavapipe takes its size from an environment variable.

It runs at most 16 lanes side by side, whatever size it is told to report; 32 is what `make gpu-test` runs on a GPU.
What depends on the size is half arithmetic (sums over a subgroup), attention in shares (exchange within one) and a
CPU driver's attention (a position for each lane).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
SHOW = "from tlite_vk.device import choose_device; print(choose_device().limits['subgroup_size'])"
CHOSEN = (
    ("test_linear", "half_arithmetic and not least", 8),
    ("test_attention", "(shares or chunks) and lavapipe-gpu- and not least", 4),
    ("test_attention", "chunks and lavapipe-cpu- and not least", 8),
    ("test_small", "rms_norm and not least", 1),
)


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
    for name, chosen, every in CHOSEN:
        arguments = ("-q", "-p", "no:cacheprovider", "--every", str(every), "-k", chosen, f"{FOLDER / name}.py")
        shown = run("-m", "pytest", *arguments)
        assert " passed" in shown and "skipped" not in shown
