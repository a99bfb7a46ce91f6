"""The ONNX standard's own node tests through our backend: what passes, what is refused and why, what is wrong."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tlite_vk.backend import NotSupportedError, TliteBackend
from tlite_vk.device import Device

EXPANDED = "_expanded"


@dataclass(frozen=True)
class Outcome:
    """One node test. refusal, wrong: what the backend said, or got wrong; both "" where it passed."""

    name: str
    operator: str
    refusal: str = ""
    wrong: str = ""
    dispatches: int = 0

    @property
    def passed(self) -> bool:
        return not self.refusal and not self.wrong


@cache
def cases() -> list[Any]:
    """All node tests of the installed onnx."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the standard's own generators divide by zero on purpose
        from onnx.backend.test.loader import load_model_tests

        return list(load_model_tests(kind="node"))


def operators() -> dict[str, str]:
    """The operator that each test is about, by the test's name."""
    own = {c.name: c.model.graph.node[0].op_type if len(c.model.graph.node) == 1 else "" for c in cases()}
    result: dict[str, str] = {}
    for case in cases():
        base, found, _ = case.name.partition(EXPANDED)
        domains = {n.domain for n in case.model.graph.node} - {"", "ai.onnx"}
        name = (own.get(base) if found else "") or own[case.name] or case.model.graph.node[0].op_type
        result[case.name] = f"{domains.pop()}.{name}" if len(domains) == 1 and not found else name
    return result


def run_all(device: Device) -> Iterator[Outcome]:
    """The outcome of every test, with the standard's own comparison and tolerances."""
    about = operators()
    for case in cases():
        yield run(case, device, about[case.name])


def run(case: Any, device: Device, operator: str) -> Outcome:
    from onnx.backend.test.runner import Runner, _normalize_tensor

    dispatches = 0
    try:
        prepared = TliteBackend.prepare(case.model, vulkan=device)
        for inputs, expected in case.data_sets:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                outputs = prepared.run([_normalize_tensor(x) for x in inputs])
                Runner.assert_similar_outputs([_normalize_tensor(x) for x in expected], outputs, case.rtol, case.atol)
            dispatches += prepared.dispatches
    except NotSupportedError as error:
        return Outcome(case.name, operator, refusal=str(error))
    except AssertionError as error:
        return Outcome(case.name, operator, wrong=" ".join(str(error).split())[:300])
    return Outcome(case.name, operator, dispatches=dispatches)
