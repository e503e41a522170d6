"""Look into a TorchScript archive before torch does, and refuse what reaches outside the model.

TorchScript is a language of its own: an archive holds its source (`code/*.py`) and a pickle of its objects that
torch reads in C++ and that can only name classes of that source, never Python's. Yet the language has operators that
open files (`aten::save`, `aten::from_file`), call other machines (`prim::rpc_*`) or stand for code of an extension
(`torch.classes`), and loading a model already runs its `__setstate__`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from pathlib import Path

from imagelake.errors import ModelError
from imagelake.models.exported_program import FILE_OPERATORS

_NAMESPACES = frozenset({"aten", "prim", "quantized", "torchvision"})
_ROOTS = frozenset({"torch", "ops"})
_REFUSED = FILE_OPERATORS | {"rpc_async", "rpc_sync", "rpc_remote", "PythonOp", "IgnoredPythonOp"}


def check_torchscript(path: Path, records: Sequence[str], read: Callable[[str], bytes]) -> None:
    """Refuse an archive whose source names an operator that is not arithmetic of torch itself.

    Args:
        path: the file, for messages.
        records: the names of its parts.
        read: gives the bytes of a part.

    Raises:
        ModelError: it is refused; the message says for what.
    """
    for name in records:
        if not name.startswith("code/") or name.endswith(".debug_pkl"):  # these tell lines of source, in messages
            continue
        try:
            tree = ast.parse(read(name).decode("utf-8"))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ModelError(f"{path} is refused: its source {name} cannot be read ({error})") from error
        reason = _reason_against(tree)
        if reason:
            raise ModelError(f"{path} is refused: its source {name} {reason}; trace the model without it")


def _reason_against(tree: ast.AST) -> str | None:
    """Why a piece of source is refused. It prints operators as `torch.name(...)` and `ops.namespace.name(...)`."""
    roots = 0
    for node in ast.walk(tree):
        reason = None
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            strange = [name for name in modules if name.split(".")[0] != "__torch__"]
            reason = f"imports {strange[0]}" if strange else None
        elif isinstance(node, ast.Attribute):
            reason = _reason_against_name(node)
            roots -= isinstance(node.value, ast.Name) and node.value.id in _ROOTS
        elif isinstance(node, ast.Name) and node.id in _ROOTS:
            roots += 1
        if reason:
            return reason
    return "gives torch another name, under which anything could be called" if roots else None


def _reason_against_name(node: ast.Attribute) -> str | None:
    chain = _chain(node)
    if node.attr in _REFUSED:
        return f"calls {'.'.join(chain) or node.attr}, which reaches outside the model"
    if chain[:1] == ["ops"] and chain[1] not in _NAMESPACES:
        return f"calls {'.'.join(chain)}, an operator of an extension"
    if chain[:2] == ["torch", "classes"] or chain[:3] == ["__torch__", "torch", "classes"]:
        return f"uses {'.'.join(chain)}, an object of an extension"
    return None


def _chain(node: ast.Attribute) -> list[str]:
    """`a.b.c` as its words; empty where it starts at something else than a name."""
    words: list[str] = []
    value: ast.expr = node
    while isinstance(value, ast.Attribute):
        words.append(value.attr)
        value = value.value
    return [value.id, *reversed(words)] if isinstance(value, ast.Name) else []
