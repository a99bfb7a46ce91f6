"""The committed stub names what the built extension has, with the same parameters; else run tools/make_stub.py."""

import ast
import re
from pathlib import Path
from typing import Any

from tlite_vk import _kompute

STUB = Path(__file__).parents[2] / "tlite_vk" / "_kompute.pyi"
Members = dict[str, list[str] | None]
"""Parameters by the name of a function; None for a property."""


def in_stub(body: list[ast.stmt]) -> Members:
    found: Members = {}
    for item in body:
        if isinstance(item, ast.FunctionDef):
            names = [argument.arg for argument in [*item.args.args, *item.args.kwonlyargs]]
            found[item.name] = None if item.decorator_list else [name for name in names if name != "self"]
    return found


def at_run_time(owner: object) -> Members:
    found: Members = {}
    for name, value in vars(owner).items():
        if name.startswith("_") or isinstance(value, type):
            continue
        signatures: Any = getattr(value, "__nb_signature__", None)
        found[name] = re.findall(r"(?<=[(, ])(\w+): ", signatures[0][0]) if signatures else None
    return found


def test_the_stub_matches_the_extension() -> None:
    tree = ast.parse(STUB.read_text())
    classes = {item.name: item for item in tree.body if isinstance(item, ast.ClassDef)}
    assert set(classes) == {name for name, value in vars(_kompute).items() if isinstance(value, type)}
    for name, stub in classes.items():
        assert in_stub(stub.body) == at_run_time(getattr(_kompute, name)), name
    assert in_stub(tree.body) == {
        name: value for name, value in at_run_time(_kompute).items() if not name.startswith("_")
    }
