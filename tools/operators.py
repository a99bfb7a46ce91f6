#!/usr/bin/env python3
"""Write docs/operators.md: which of the ONNX standard's node tests pass on the default device, and why others do not;
and the operators of com.microsoft that are rewritten, with the forms that agree with onnxruntime.

tools/operators.py            # about a minute; run it after adding an operator or installing another onnx
tools/operators.py --check    # only say whether the file is up to date (exit code 1 where it is not)
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import onnx  # noqa: E402
import onnxruntime  # noqa: E402
from support.contrib_cases import all_cases, check_case  # noqa: E402
from support.node_tests import Outcome, run_all  # noqa: E402
from support.onnx_models import Case  # noqa: E402

from tlite_vk.device import Device, open_device  # noqa: E402
from tlite_vk.graph.contrib import rewritten_operators  # noqa: E402
from tlite_vk.graph.infer import infer  # noqa: E402
from tlite_vk.graph.onnx_load import from_proto  # noqa: E402

HEAD = """# Operators

Written by `tools/operators.py`; do not edit. The ONNX standard's own node tests (`onnx.backend.test`, onnx {version}),
run through `tlite_vk.backend` with the standard's tolerances:
**{passed} of {total} pass, {wrong} are wrong, {refused} are refused** with one line that names what is missing.

Values are float32 or 32-bit words on the device: float64 and bfloat16 are computed in float32, int64 and uint64 hold
32 bits (larger inputs are refused). Chains of elementwise operators, views and copies run as one generated kernel.

| operator | tests that pass | refused |
|---|---|---|
"""

CONTRIB_HEAD = """
## Operators of com.microsoft

What onnxruntime's model builder and optimizer write becomes standard operators while shapes are inferred. Each form is
compared with onnxruntime {version}. A form that is not supported is refused by the name of its attribute or input, any
other operator of com.microsoft by its own.

| operator | becomes | forms that agree |
|---|---|---|
"""


def reason(text: str) -> str:
    """A refusal without the name of the node, so that equal reasons are counted together."""
    text = re.sub(r" \(node '.*?'\)$", "", text)
    text = re.sub(r"\bnode '.*?'", "node", text)
    return re.sub(r"(graph input|input|tensor) '.*?'", r"\1", text)


def table(outcomes: Iterable[Outcome]) -> str:
    """The whole page."""
    by_operator: dict[str, list[Outcome]] = defaultdict(list)
    by_reason: dict[str, list[str]] = defaultdict(list)
    for outcome in outcomes:
        by_operator[outcome.operator].append(outcome)
        if not outcome.passed:
            by_reason[reason(outcome.refusal or outcome.wrong)].append(outcome.name)
    everything = [o for group in by_operator.values() for o in group]
    text = HEAD.format(
        version=onnx.__version__,
        passed=sum(o.passed for o in everything),
        total=len(everything),
        wrong=sum(bool(o.wrong) for o in everything),
        refused=sum(bool(o.refusal) for o in everything),
    )
    for operator, group in sorted(by_operator.items()):
        passed = sum(o.passed for o in group)
        text += f"| {operator} | {passed or ''} | {len(group) - passed or ''} |\n"
    text += "\n## What is refused, and why\n"
    for why, names in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        text += f"\n{why} ({len(names)}):\n" + ", ".join(f"`{n}`" for n in sorted(names)) + "\n"
    return text


def contrib_table(device: Device) -> str:
    """The part about com.microsoft, from the cases that the tests run."""
    cases: dict[str, list[Case]] = {name: [] for name in rewritten_operators()}
    for case in all_cases():
        cases[case.model.graph.node[0].op_type].append(case)
    text = CONTRIB_HEAD.format(version=onnxruntime.__version__)
    for name, group in cases.items():
        made = {n.op for case in group for n in infer(from_proto(case.model)).nodes}
        agree = sum(agrees(case, device) for case in group)
        text += f"| {name} | {', '.join(sorted(made))} | {agree} of {len(group)} |\n"
    return text


def agrees(case: Case, device: Device) -> bool:
    try:
        check_case(case, device)
    except AssertionError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    arguments = parser.parse_args()
    target = ROOT / "docs" / "operators.md"
    device = open_device()
    text = table(run_all(device)) + contrib_table(device)
    if arguments.check:
        current = target.read_text(encoding="utf-8") if target.exists() else ""
        print("up to date" if current == text else f"{target} is out of date; run tools/operators.py")
        return int(current != text)
    target.write_text(text, encoding="utf-8")
    print(text.splitlines()[4])
    return 0


if __name__ == "__main__":
    sys.exit(main())
