"""Files that claim more than they hold: refused before it is allocated, in a process whose memory is watched."""

import resource
import struct
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from support.hostile import HOSTILE, bad, model, tensor

from tlite_vk import budget
from tlite_vk.convert import convert
from tlite_vk.errors import ModelError
from tlite_vk.graph import local_functions
from tlite_vk.graph.budget import host_budget, take
from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.onnx_load import from_proto, load_model
from tlite_vk.graph.pipeline import optimize

LIMIT = 256 << 20


def functions(depth: int, *, calls: int = 2, cycle: bool = False) -> onnx.ModelProto:
    """A function that calls one twice that calls one twice ..."""
    opset = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    made = []
    for i in range(depth):
        inner = f"f{i - 1}" if i else (f"f{depth - 1}" if cycle else "")
        kind = {"domain": "local"} if inner else {}
        nodes = [
            helper.make_node(inner or "Relu", [f"v{k}" if k else "x"], [f"v{k + 1}"], **kind) for k in range(calls)
        ]
        made.append(helper.make_function("local", f"f{i}", ["x"], [f"v{calls}"], nodes, opset))
    proto = model([helper.make_node(f"f{depth - 1}", ["x"], ["y"], domain="local")])
    proto.opset_import.append(helper.make_opsetid("local", 1))
    proto.functions.extend(made)
    return proto


def test_functions_that_multiply() -> None:
    assert len(from_proto(functions(5)).nodes) == 32
    with pytest.raises(GraphError, match=r"its functions, written out, have \d+ nodes; up to 1048576 are supported"):
        from_proto(functions(40))
    with pytest.raises(GraphError, match=r"its function 'f[0-9]' calls itself"):
        from_proto(functions(5, cycle=True))
    with pytest.raises(GraphError, match=f"nested more than {local_functions.MAX_DEPTH} deep"):
        from_proto(functions(200, calls=1))
    with (
        budget.limited(20_000),
        pytest.raises(GraphError, match=r"with its functions written out needs .* bytes"),
    ):
        from_proto(functions(10))


def test_the_account_of_the_host() -> None:
    with host_budget(100):
        take(60, "one")
        with pytest.raises(GraphError, match="two needs 41 bytes of memory; the limit is 100, of which 60 are taken"):
            take(41, "two")
        take(40, "three")
        with host_budget(10), pytest.raises(GraphError, match="the limit is 10: raise it with --max-memory"):
            take(11, "four")
    with pytest.raises(GraphError, match="the limit is"):
        take(1 << 60, "more than any machine has")


def test_constants_that_add_up() -> None:
    """Each is small enough to be folded; all together they are not."""
    nodes = [helper.make_node("Tile", ["w", f"s{i}"], [f"t{i}"], name=f"tile{i}") for i in range(12)]
    nodes += [helper.make_node("Add", ["x", f"t{i}"], [f"y{i}"]) for i in range(12)]
    nodes.append(helper.make_node("Sum", [f"y{i}" for i in range(12)], ["y"]))
    sizes = [helper.make_tensor(f"s{i}", TensorProto.INT64, [1], [1_000_000]) for i in range(12)]
    proto = model(nodes, [tensor([1], data=b"\0\0\0\0"), *sizes], shape=[1])
    with budget.limited(10_000_000), pytest.raises(GraphError, match="whose inputs are constants, needs 4000"):
        optimize(from_proto(proto), generate=False)


def gguf(count: int, length: int) -> bytes:
    """A header of so many arrays of zeros."""
    parts = [b"GGUF", struct.pack("<IQQ", 3, 0, count)]
    for i in range(count):
        key = f"k{i}".encode()
        parts += [struct.pack("<Q", len(key)), key, struct.pack("<IIQ", 9, 0, length), bytes(length)]
    return b"".join(parts)


def test_a_header_that_unpacks_to_much(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(gguf(4, 1 << 20))
    with budget.limited(100 << 20), pytest.raises(GraphError, match=r"the header of .* needs"):
        convert(tmp_path / "model.gguf", tmp_path / "out.onnx")
    with pytest.raises(ModelError, match="architecture None"):
        convert(tmp_path / "model.gguf", tmp_path / "out.onnx")


SCRIPT = """
import resource, sys
from pathlib import Path
from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.infer import infer
from tlite_vk.graph.onnx_load import load_model
from tlite_vk.graph.pipeline import optimize
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
    try:
        optimize(load_model(path), generate=False)
    except GraphError:
        pass
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def test_hostile_models_take_little_memory(tmp_path: Path) -> None:
    """All of them together, in a process of their own: a few megabytes, whatever they claim."""
    for i, (proto, _) in enumerate(HOSTILE.values()):
        (tmp_path / f"{i}.onnx").write_bytes(proto.SerializeToString())
    sparse = tensor([2**33], kind=TensorProto.FLOAT)
    sparse.ClearField("raw_data")
    sparse.data_location = TensorProto.EXTERNAL
    sparse.external_data.add(key="location", value="data")
    reduced = [helper.make_node("ReduceSum", ["w"], ["r"], name="sum"), bad("Add", "x", "r")]
    (tmp_path / "sparse.onnx").write_bytes(model(reduced, [sparse]).SerializeToString())
    with (tmp_path / "data").open("wb") as file:
        file.truncate(2**35)  # a hole of 32 GiB: it takes no space
    done = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < LIMIT
    assert load_model(tmp_path / "sparse.onnx").nodes and resource.RLIMIT_AS
