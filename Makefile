# Two commands for a fresh Debian or Ubuntu machine:
#   make demo   fetch SmolLM2-135M, convert it, answer a question on the best Vulkan device, print the bench table
#   make test   everything that CI runs
# More: `make wheel` makes dist/*.whl, `make docs` the site in build/site.
# What they fetch and build is kept in .venv, build and .cache; `make clean` removes it.

export TLITE_VK_CACHE := $(CURDIR)/.cache
BIN := .venv/bin
FOLDER := .cache/models/smollm2-135m
GGUF := $(FOLDER)/SmolLM2-135M-Instruct.Q4_1.gguf
MODEL := $(FOLDER)/model.onnx
QUESTION := What is the capital of France?

.PHONY: demo test wheel docs clean setup setup-test
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
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest

docs: setup-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html"

wheel: setup
	@tools/make_wheel.sh

setup:
	@tools/setup.sh

setup-test:
	@tools/setup.sh --test

# A model is as good as the converter that wrote it.
$(MODEL): $(GGUF) $(wildcard tlite_vk/convert/*.py)
	$(BIN)/tlite-vk convert $(GGUF) -o $@

$(GGUF): | $(if $(filter test,$(MAKECMDGOALS)),setup-test,setup)
	$(BIN)/tlite-vk fetch smollm2-135m

clean:
	rm -rf .venv .cache build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
