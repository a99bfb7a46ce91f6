"""Write several files that belong together so that either all of them appear or none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tlite_vk.cache import partial_folder
from tlite_vk.errors import ModelError


@contextlib.contextmanager
def staged(dst: Path, src: Path, names: Sequence[str]) -> Iterator[Path]:
    """A temporary folder beside `dst`; when the block ends well, the files `names` move next to `dst`, in that order.

    The last name must be dst's own: an older `dst` is removed first and the new one comes last, so a reader never sees
    a model with another model's weights. Whatever ends the block otherwise (an error, Ctrl-C) leaves the folder as it
    was; what a killed process leaves, the next one that writes to that place removes.
    Raises ModelError if `dst` is unusable, OSError if writing fails.
    """
    if dst.is_dir():
        raise ModelError(f"{dst} is a folder; name the file to write, e.g. {dst / 'model.onnx'}")
    if src.resolve() in {(dst.parent / name).resolve() for name in names}:
        raise ModelError(f"{src} would be overwritten by its own conversion; choose another output name")
    created = [folder for folder in (dst.parent, *dst.parent.parents) if not folder.exists()]
    try:
        dst.parent.mkdir(parents=True, exist_ok=True)
        with partial_folder(dst.parent, dst.name) as temporary:
            yield temporary
            _publish(temporary, dst, names)
            created = []
    finally:
        for folder in created:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _publish(temporary: Path, dst: Path, names: Sequence[str]) -> None:
    dst.unlink(missing_ok=True)
    for name in names:
        (temporary / name).replace(dst.parent / name)


def refuse_clash(dst: Path, files: Mapping[str, bytes]) -> None:
    """Two models in one folder share its tokenizer files: raise ModelError rather than change them under the other."""
    others = [model for model in dst.parent.glob("*.onnx") if model.name != dst.name]
    for name, content in files.items():
        present = dst.parent / name
        if others and present.is_file() and present.read_bytes() != content:
            raise ModelError(
                f"{dst.parent} holds {others[0].name} with another {name}; choose another folder for {dst.name}"
            )
