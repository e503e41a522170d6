"""Which files of torch may be opened: those that hold a program in a language that cannot leave its sandbox.

A file written with `torch.save(model)` is a pickle: to read it is to run it, whatever it says. It is never opened.
An exported program (`.pt2`) and a TorchScript archive are no pickles, yet they hold parts that torch would unpickle,
evaluate as Python, load as machine code, or run as operators that write files. `require_safe` reads all of these
with torch's own reader of archives, before torch sees the file as a model, and refuses what it does not know.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from imagelake._optional import need
from imagelake.errors import ModelError
from imagelake.models.exported_program import check_exported_program
from imagelake.models.torchscript import check_torchscript

TorchKind = Literal["exported", "torchscript"]

SUFFIXES = (".pt2", ".pt", ".pth", ".ts")

_OF_TENSORS = re.compile(r"torch\.\w+Storage|torch\._utils\._rebuild_\w+|collections\.OrderedDict")

_HOW_TO_MEND = (
    "whoever made it can write it as an exported program: "
    "torch.export.save(torch.export.export(model.eval(), (example,)), 'model.pt2')"
)


def require_safe(path: Path) -> TorchKind:
    """Read what a file of torch holds and refuse it unless torch can open it without running a stranger's Python.

    Args:
        path: the file; its suffix does not matter.

    Returns:
        What it is.

    Raises:
        ModelError: it is a pickle, of neither kind, damaged, or holds what could leave the sandbox.
        MissingExtraError: torch is not installed.
    """
    names = _record_names(path)
    if names is None:
        raise ModelError(_no_archive(path))
    torch = need("torch", "torch")
    try:
        reader = torch._C.PyTorchFileReader(str(path))  # noqa: SLF001  (the reader that torch itself opens it with)
        records = sorted(reader.get_all_records())
        if any(name.startswith("models/") for name in records):
            check_exported_program(path, records, reader.get_record, _safe_tensors(torch))
            return "exported"
        if any(name.startswith("code/") for name in records):
            check_torchscript(path, records, reader.get_record)
            return "torchscript"
    except RuntimeError as error:  # torch's own, for every fault of an archive
        reason = str(error).splitlines()[0][:200]
        raise ModelError(f"{path} is no whole archive of torch ({reason}); get it again") from error
    raise ModelError(_pickled(path, names))


def _record_names(path: Path) -> list[str] | None:
    """What a zip archive lists; None for a file that is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return None
    except OSError as error:
        raise ModelError(f"cannot read {path} ({error}); give a file that can be read") from error
    if len(set(names)) != len(names):
        raise ModelError(f"{path} holds two parts of the same name, which readers may take for each other: refused")
    if "version" in names:  # exported programs before torch 2.8
        raise ModelError(
            f"{path} is an exported program of torch 2.7 or older, whose weights are pickles: it is not opened; "
            "load it where it was made and write it with a newer torch.export.save"
        )
    return names


def _safe_tensors(torch: Any) -> Callable[[Any], object]:
    def load(file: Any) -> object:
        try:
            return torch.load(file, weights_only=True)
        except pickle.UnpicklingError as error:
            raise ModelError(str(error).splitlines()[0]) from error

    return load


def _no_archive(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        return f"cannot read {path} ({error}); give a file that can be read"
    if start[:1] == b"\x80" or start[:4] == b"\x1f\x8b\x08\x00":
        return (
            f"{path} is a Python pickle: to read it is to run whatever its maker wrote, so it is not opened; "
            f"{_HOW_TO_MEND}"
        )
    return f"{path} is no file of torch (no zip archive); give an exported program (.pt2) or a TorchScript archive"


def _pickled(path: Path, names: list[str]) -> str:
    pickles = [name for name in names if name.endswith("data.pkl")]
    if not pickles:
        return f"{path} is a zip archive, but of no kind that torch writes; give a .pt2 or a TorchScript archive"
    with zipfile.ZipFile(path) as archive:
        asked = _names_asked_for(archive.read(pickles[0]))
    strange = [name for name in asked if not _OF_TENSORS.fullmatch(name)]
    if strange:
        what = f"a pickled Python object, which asks for {', '.join(strange[:3])}: to read it is to run it"
    else:
        what = "weights without the program that they belong to"
    return f"{path} holds {what}, so it is not opened; {_HOW_TO_MEND}"


def _names_asked_for(content: bytes) -> list[str]:
    """What a pickle says that it needs, for the message only: nothing is decided by it."""
    found: list[str] = []
    words: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "GLOBAL":
                found.append(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL" and len(words) >= 2:
                found.append(".".join(words[-2:]))
            elif isinstance(argument, str):
                words.append(argument)
    except ValueError:
        pass  # cut short: what was found so far will do
    return [name for name in dict.fromkeys(found) if name.isprintable()]
