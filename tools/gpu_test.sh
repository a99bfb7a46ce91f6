#!/bin/sh
# What a GPU must pass: every kernel, written and generated, whole small models, tuning, and SmolLM2 where it is there.
#   tools/gpu_test.sh [PYTHON] [further arguments of pytest]
# Runs on whatever the Vulkan loader finds first, as tlite-vk would choose it (TLITE_VK_DEVICE chooses another), and
# fails where that is no GPU: CPU drivers are what `make test` runs on.
set -e
if [ "${1:-}" = --help ]; then
    sed -n '2,5s/^# //p' "$0"
    exit 0
fi
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
[ $# -eq 0 ] || shift
unset VK_ICD_FILENAMES
export TLITE_VK_TEST_DRIVER=system TLITE_VK_CACHE="${TLITE_VK_CACHE:-$PWD/.cache}"

"$python" - <<'END'
import sys

from tlite_vk.device import choose_device
from tlite_vk.errors import TliteError

try:
    info = choose_device()
except TliteError as error:
    sys.exit(f"gpu-test: {error}")
if info.device_type == "cpu":
    sys.exit(f"gpu-test: there is no GPU, only {info.name}; install its Vulkan driver, or run: make test")
print(f"gpu-test: {info.name}, {info.driver_name} {info.driver_info}")
END

# Other subgroup sizes than the GPU's own are lavapipe's, which need not be here.
tests="tests/kernels tests/test_tuning.py tests/e2e/test_determinism.py tests/e2e/test_tiny_llama.py"
if [ -f "$TLITE_VK_CACHE/models/smollm2-135m/model.onnx" ]; then
    tests="$tests tests/e2e/test_smollm2.py"
else
    echo "gpu-test: SmolLM2 is left out; fetch and convert it first: make demo"
fi
# shellcheck disable=SC2086
exec "$python" -m pytest -q $tests --ignore tests/kernels/test_subgroup_sizes.py "$@"
