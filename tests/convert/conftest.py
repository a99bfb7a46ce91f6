"""Tiny GGUF models to convert."""

from functools import partial
from pathlib import Path

import pytest
from support.gguf_models import WriteModel, write_llama


@pytest.fixture
def write_model(tmp_path: Path) -> WriteModel:
    """`write_llama` in the test's own folder."""
    return partial(write_llama, tmp_path)
