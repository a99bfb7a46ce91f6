"""Exports are made once per run of the tests, in a folder that pytest cleans up."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.exports import Variant

Exported = Callable[..., Path]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A function (variant, layers=2) -> path of its ONNX file."""
    folder = tmp_path_factory.mktemp("exports")
    made: dict[tuple[Variant, int], Path] = {}

    def path(variant: Variant, layers: int = 2) -> Path:
        if (variant, layers) not in made:
            made[variant, layers] = variant.export(folder, layers)
        return made[variant, layers]

    return path
