"""Every command that the documentation shows is run as commands.toml says, or named there with the reason why not."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
from gguf import GGMLQuantizationType as Kind
from onnx import TensorProto, helper, numpy_helper
from support.gguf_models import write_llama

from tlite_vk.convert import convert

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAM = re.compile(r"(?:[A-Z_]+=\S+ )*(?:tlite-vk|tools/\w+\.(?:py|sh)|examples/\w+\.py|pip|python3?|pytest|make) \S")
NAMED_ONLY = re.compile(r"tlite-vk( [a-z]+)?( --?[a-z][\w-]*)*")
"""A command without what it works on: it is spoken of, not shown."""
DECLARED = tomllib.loads(Path(__file__).with_name("commands.toml").read_text(encoding="utf-8"))
TEXT = "She was one of those. Nothing happened. He said that it would rain, and it rained. They went home.\n" * 6
PEER = """import json
rows = [{"test": "pp5", "reps_ms": [500.0]}, {"test": "tg4", "reps_ms": [1000.0]}]
print(json.dumps({"devices": [["Vulkan0", "stand-in"]], "results": rows}))
"""


def shown(page: str) -> dict[str, str]:
    """The commands of a page, each with the output shown below it."""
    found: dict[str, str] = {}
    for kind, body in FENCE.findall(page):
        if kind in ("console", "sh", "bash", ""):
            found |= _in_block(re.sub(r"\\\n\s*", "", body), marked=kind == "console")
    prose = re.sub(r"\\\n\s*", "", FENCE.sub("", page))
    for block in re.findall(r"(?:^    .*\n)+", prose, re.MULTILINE):
        found |= _in_block(textwrap.dedent(block), marked=False)
    for text in re.findall(r"`([^`]+)`", prose):
        command = " ".join(text.split())
        if PROGRAM.match(command) and not (NAMED_ONLY.fullmatch(command) and command != "tlite-vk info --json"):
            found.setdefault(command, "")
    return found


def _in_block(body: str, marked: bool) -> dict[str, str]:
    """Commands, one a line; where they are marked with $, the other lines are what they print."""
    found: dict[str, str] = {}
    last = ""
    for line in _whole(body.splitlines()):
        text = re.sub(r"\s+#.*", "", line.removeprefix("$ ")).strip()
        if line.startswith("$ ") if marked else PROGRAM.match(text):
            last = text
            found[last] = ""
        elif marked and last:
            found[last] += f"{line}\n"
    return found


def _whole(lines: list[str]) -> list[str]:
    """Lines, those joined over which a quotation goes on."""
    whole: list[str] = []
    for line in lines:
        if whole and PROGRAM.match(whole[-1]) and whole[-1].count('"') % 2:
            whole[-1] += f"\n{line}"
        else:
            whole.append(line)
    return whole


SHOWN = {command: output for page in PAGES for command, output in shown(page.read_text(encoding="utf-8")).items()}
INSTEAD = sorted({instead or command for command, instead in DECLARED["run"].items()})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands work on, by the names that the pages use."""
    folder = tmp_path_factory.mktemp("models")
    gguf = write_llama(folder, name="model.gguf", kind=Kind.Q4_1, context=4096, tokenizer=True)
    convert(gguf, folder / "model" / "model.onnx")
    convert(gguf, folder / "fp16" / "model.onnx", halves=True)
    shutil.copytree(folder / "model", folder / "MODEL")
    for file in (folder / "model").iterdir():
        (folder / file.name.replace("model.onnx", "MODEL.onnx", file.suffix == ".onnx")).symlink_to(file)
    for name in ("text.txt", "persuasion.txt"):
        (folder / name).write_text(TEXT)
    (folder / "libs").mkdir()
    (folder / "peer.py").write_text(PEER)
    _write_encoder(folder / "encoder")
    shutil.copy(folder / "model" / "tokenizer.json", folder / "encoder")
    for name in ("tools", "docs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "smollm2").symlink_to(ROOT / ".cache" / "models" / "smollm2-135m")
    (folder / "cache").mkdir()
    (folder / "cache" / "models").symlink_to(ROOT / ".cache" / "models")
    return folder


def _write_encoder(folder: Path) -> None:
    """sentence [B, 8]: the mean of the embeddings, with the inputs of an encoder."""
    folder.mkdir()
    table = np.random.default_rng(1).standard_normal((288, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Unsqueeze", ["attention_mask", "last"], ["mask"]),
        helper.make_node("Cast", ["mask"], ["weight"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["rows", "weight"], ["seen"]),
        helper.make_node("ReduceMean", ["seen", "middle"], ["sentence"], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ("B", "T")) for n in ("input_ids", "attention_mask")]
    weights = [numpy_helper.from_array(table, "table")]
    weights += [numpy_helper.from_array(np.array([axis]), name) for name, axis in (("last", 2), ("middle", 1))]
    output = helper.make_tensor_value_info("sentence", TensorProto.FLOAT, ("B", 8))
    graph = helper.make_graph(nodes, "encoder", inputs, [output], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), folder / "model.onnx")


def test_every_command_is_declared_and_every_declaration_is_shown() -> None:
    run, not_run = DECLARED["run"], DECLARED["not_run"]
    assert not run.keys() & not_run.keys()
    assert not SHOWN.keys() - run.keys() - not_run.keys(), "declare it in tests/docs/commands.toml"
    assert not (run.keys() | not_run.keys()) - SHOWN.keys(), "no page shows it any more"
    assert all(not_run.values())


@pytest.mark.parametrize("command", INSTEAD)
def test_a_command_runs(command: str, models: Path, lavapipe_file: str, tmp_path: Path) -> None:
    written = {Path(target).parts[0] for target in re.findall(r"-o (\S+)", command)}
    for entry in models.iterdir():
        if entry.name not in written:
            (tmp_path / entry.name).symlink_to(entry)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TLITE_VK_CACHE": str(models / "cache"),
        "VK_DRIVER_FILES": lavapipe_file,
    }
    environment.pop("TLITE_VK_DEVICE", None)
    done = subprocess.run(
        ["bash", "-ec", command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if SHOWN.get(command):
        assert done.stdout.replace(str(models / "cache"), "/home/you/.cache/tlite-vk") == SHOWN[command]
