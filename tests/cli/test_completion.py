"""What shells are offered, by the protocol that their scripts speak, and by a real bash."""

import subprocess
import sys
from pathlib import Path

import pytest

from tlite_vk.cli import completion, main

SHELLS = ("bash", "zsh", "fish")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with some models."""
    names = (
        "smollm2/model.onnx",
        "deep/er/model.onnx",
        "x.onnx",
        "y.tlvk",
        "z.gguf",
        "notes.txt",
        ".hidden/model.onnx",
    )
    for name in names:
        (tmp_path / "here" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "here" / name).touch()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def offered(
    line: str, shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> dict[str, str]:
    """What is offered behind a line, with the explanation where the shell shows one."""
    words = line.split(" ")
    monkeypatch.setenv("COLUMNS", "40")  # a narrow terminal breaks no offer
    monkeypatch.setenv("_TLITE_VK_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    with pytest.raises(SystemExit):
        main(["ignored"])
    out = capsys.readouterr().out.strip("\n")
    if shell == "zsh":  # _arguments '*: :(("value":"help" ...))'
        out = "\n".join(
            item.replace('":"', "\t").strip('"') for item in out.partition("((")[2].rstrip("')").split('"\n"')
        )
    return dict([*line.split("\t"), ""][:2] for line in out.splitlines() if line)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("tlite-vk do", {"doctor"}),
        ("tlite-vk bench m --swe", {"--sweep"}),
        ("tlite-vk run m --precision ", {"fp16", "fp32"}),
        ("tlite-vk run sm", {"smollm2"}),
        ("tlite-vk fetch s", {"smollm2-135m"}),
        ("tlite-vk quantize m --format int", {"int4", "int8"}),
        ("tlite-vk quantize m --method ", {"least-squares", "minmax"}),
        ("tlite-vk compile m --entry ", {"decode", "prefill", "score", "run"}),
        ("tlite-vk convert ", {"z.gguf"}),
    ],
)
def test_the_protocol(
    line: str, values: set[str], shell: str, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert set(offered(line, shell, monkeypatch, capsys)) == values


def test_models_near_what_was_typed(folder: Path) -> None:
    assert completion.models("") == ["smollm2", "x.onnx", "y.tlvk", "deep/er"]
    assert completion.models("./sm") == ["./smollm2"]
    assert completion.models("deep/") == ["deep/er"]
    assert completion.models(".h") == [".hidden"]
    assert completion.models(f"{folder}/sm") == [f"{folder}/smollm2"]
    assert completion.models("nowhere/") == completion.models("notes") == []


def test_the_search_for_models_ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "MOST", 3)
    assert completion.models("deep") == []  # it lies behind the third entry


@pytest.mark.usefixtures("lavapipe")
def test_devices(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert [value for value, _ in completion.devices("")] == ["0", "llvmpipe"]
    assert [value for value, _ in completion.devices("LL")] == ["llvmpipe"]
    found = offered("tlite-vk run m --device ", "fish", monkeypatch, capsys)
    assert found["0"].startswith("llvmpipe (LLVM")


def test_no_driver_offers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VK_DRIVER_FILES", "/nonexistent.json")
    assert completion.devices("") == []


@pytest.mark.parametrize(("shell", "file"), [("bash", ".bashrc"), ("zsh", ".zshrc"), ("fish", ".config/fish")])
def test_installing_it(shell: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    command = [sys.executable, "-m", "tlite_vk", "--install-completion", shell]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{shell} completion installed" in done.stdout
    assert (tmp_path / file).exists()


def test_a_real_bash(folder: Path) -> None:
    script = Path(sys.executable).with_name("tlite-vk")
    program = f"""
eval "$(_TLITE_VK_COMPLETE=source_bash {script})"
tlite-vk() {{ {script} "$@"; }}
COMP_WORDS=({script} run sm); COMP_CWORD=2
_tlite_vk_completion {script}
printf '%s\\n' "${{COMPREPLY[@]}}"
complete -p tlite-vk
"""
    done = subprocess.run(["bash", "--norc", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "smollm2"
    assert done.stdout.splitlines()[1].startswith("complete -o default -F")
