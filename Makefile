# Two commands for a fresh Debian or Ubuntu machine:
#   make demo   fetch SmolLM2-135M, convert it, answer a question on the best Vulkan device, print the bench table
#   make test   everything that CI runs
# More: `make wheel` makes dist/*.whl, `make docs` the site in build/site; for developers
#   make bench-ci   compare speed with the commit before
#   make gpu-test   what a GPU must pass, on the driver that the Vulkan loader finds
#   make validate   all tests under the Khronos validation layer, on both drivers
#   make coverage   all tests, and which lines they reach: 90 % at least
#   make soak       what takes long: 20,000 tokens through a window, memory and tokens watched; each reader fuzzed an hour
#   make fuzz       fuzz the readers of files, SECONDS each
# What they fetch and build is kept in .venv, build and .cache; `make clean` removes it.

export TLITE_VK_CACHE := $(CURDIR)/.cache
BIN := .venv/bin
FOLDER := .cache/models/smollm2-135m
GGUF := $(FOLDER)/SmolLM2-135M-Instruct.Q4_1.gguf
MODEL := $(FOLDER)/model.onnx
BENCH_CI = $(BIN)/python tools/bench_commits.py --model $(MODEL) --prompt 64 --gen 8 --rounds 7 --out build/bench-ci.json
SECONDS ?= 60
FUZZ = $(BIN)/python tools/fuzz.py all --seconds $(SECONDS)
QUESTION := What is the capital of France?

.PHONY: demo test gpu-test ray-test validate coverage fuzz soak wheel docs bench-ci clean setup setup-test
.DELETE_ON_ERROR:
.NOTPARALLEL:

demo: setup $(MODEL)
	$(BIN)/tlite-vk run $(MODEL) "$(QUESTION)" --chat
	$(BIN)/tlite-vk bench $(MODEL) --prompt 128 --gen 32 --repeat 3

test: setup-test $(MODEL)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/lint-imports
	$(FUZZ) --seed 1
	$(BENCH_CI)
	TLITE_VK_VALIDATION=1 $(BIN)/python -m pytest --every 8 tests/kernels tests/e2e/test_tiny_llama.py
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest

# HEAD beside its parent, in turns, as JSON; no figure makes it fail.
bench-ci: setup-test $(MODEL)
	$(BENCH_CI)

validate: setup-test $(MODEL)
	PATH="$(CURDIR)/$(BIN):$$PATH" TLITE_VK_VALIDATION=1 $(BIN)/python -m pytest
	PATH="$(CURDIR)/$(BIN):$$PATH" TLITE_VK_VALIDATION=1 TLITE_VK_TEST_DRIVER=swiftshader $(BIN)/python -m pytest

# A third more time than the tests alone, so not a part of them. Commands that tests start count, too.
coverage: setup-test $(MODEL)
	rm -rf build/coverage && mkdir -p build/coverage
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

gpu-test: setup-test $(MODEL)
	tools/gpu_test.sh $(BIN)/python

soak: setup-test
	$(BIN)/python -m pytest -m soak -s
	$(MAKE) fuzz SECONDS=3600

fuzz: setup-test
	$(FUZZ)

docs: setup-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html"

wheel: setup
	@tools/make_wheel.sh

# Not in `make test`: Ray is large, and shows nothing of ours but the example.
ray-test: setup-test $(MODEL)
	$(BIN)/python -m pip install -qq 'ray[serve]>=2.40'
	$(BIN)/python -m pytest examples/test_ray_serve.py

setup:
	@tools/setup.sh

setup-test:
	@tools/setup.sh --test

# A model is as good as the converter that wrote it.
$(MODEL): $(GGUF) $(wildcard tlite_vk/convert/*.py)
	$(BIN)/tlite-vk convert $(GGUF) -o $@

$(GGUF): | $(if $(filter test gpu-test validate,$(MAKECMDGOALS)),setup-test,setup)
	$(BIN)/tlite-vk fetch smollm2-135m

clean:
	rm -rf .venv .cache build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz
