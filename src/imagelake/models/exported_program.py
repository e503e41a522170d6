"""Look into an exported program of torch (`.pt2`) before torch does, and refuse what could run anything but the model.

Read in torch 2.13 (`torch/export/pt2_archive/_package.py`, `torch/_export/serde/serialize.py`,
`torch/export/_unlift.py`), torch takes from such a file, beside plain tensors and a graph in JSON:

- pickles: weights and constants marked `use_pickle`, objects (`custom_obj_*`, `opaque_obj_*`), old files of weights
  (`*.pt`), and the example inputs, which it reads without any guard if the guarded reader refuses them;
- Python: each `expr_str` goes through `sympy.sympify`, which is `eval`, and `guards_code` through `exec`; names of
  nodes and of arguments become source code;
- machine code: `data/aotinductor/`;
- names of functions: each `target` is looked up below `torch`, `operator` and `math`.

What is known to be harmless is let through and the rest is refused, so a newer torch that writes more is refused
until this file knows it.
"""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from imagelake.errors import ModelError

_WORD = re.compile(r"[\w.:+\-]*", re.ASCII)
_RECORDS = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)|models/model\.json"
    r"|data/weights/weight_\d+|data/weights/model_weights_config\.json"
    r"|data/constants/tensor_\d+|data/constants/model_constants_config\.json"
    r"|data/sample_inputs/model\.pt|extra/.*"
)
_OPERATORS = re.compile(
    r"torch\.ops\.(aten|prims|torchvision)\.\w+(\.\w+)?"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|associative_scan|map_impl|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.sym_\w+|torch\._sym_\w+"
    r"|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|math\.(ceil|floor|trunc|sqrt)",
    re.ASCII,
)
# Operators that name files, of all that torch has; tests/models/test_torch_runtime.py compares with the installed one.
FILE_OPERATORS = frozenset({"save", "from_file"})

_TREE_TYPES = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})
_SYMBOL = re.compile(r"z?[suf]{1,2}\d+", re.ASCII)
_FUNCTIONS = re.compile(
    r"Symbol|Integer|Float|Rational|Max|Min|Add|Mul|Pow|Eq|Ne|Le|Lt|Ge|Gt|And|Or|Not|Abs|FloorDiv|"
    r"ModularIndexing|Where|PythonMod|Mod|CleanDiv|CeilToInt|FloorToInt|CeilDiv|LShift|RShift|PowByNatural|"
    r"FloatPow|FloatTrueDiv|IntTrueDiv|IsNonOverlappingAndDenseIndicator|TruncToFloat|TruncToInt|"
    r"RoundToInt|RoundDecimal|ToFloat|Identity|oo|int_oo|true|false"
)
_NODES = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.Name, ast.Constant, ast.keyword,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context,
)  # fmt: skip
_GUARD_NODES = (*_NODES, ast.Subscript, ast.Attribute)
_GUARD_ATTRIBUTES = frozenset({"size", "stride", "storage_offset"})
_LONGEST_EXPRESSION = 10_000

Read = Callable[[str], bytes]


def check_exported_program(
    path: Path, records: Sequence[str], read: Read, load_tensors: Callable[[Any], object]
) -> None:
    """Refuse an exported program that holds more than tensors and a graph of known operators.

    Args:
        path: the file, for messages.
        records: the names of its parts.
        read: gives the bytes of a part.
        load_tensors: reads a pickle of tensors and nothing else, and raises `ModelError` for any other.

    Raises:
        ModelError: it is refused; the message says for what.
    """
    for name in records:
        if not _RECORDS.fullmatch(name):
            raise ModelError(f"{path} is refused: {_strange_record(name)}")
    try:
        for name in ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json"):
            if name in records:
                _check_payloads(json.loads(read(name)))
        if "data/sample_inputs/model.pt" in records:
            _check_samples(read("data/sample_inputs/model.pt"), load_tensors)
        _check_program(json.loads(read("models/model.json")))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is refused: a part of it is no JSON ({error}); get it again") from error
    except ModelError as error:
        raise ModelError(f"{path} is refused: {error}") from error


def _strange_record(name: str) -> str:
    if name.startswith("data/aotinductor/"):
        return f"it holds compiled machine code ({name}); ask for the exported program before it was compiled"
    if "_obj_" in name or name.endswith(".pt"):
        return f"it holds a pickled object ({name}), and to read that is to run it; export the model without it"
    return f"it holds the part {name}, which this version of imagelake does not know"


def _check_payloads(config: Any) -> None:
    for name, payload in config["config"].items() if isinstance(config, dict) else ():
        if payload.get("use_pickle") is not False:
            raise ModelError(f"its tensor {name} is pickled, and to read that is to run it; export plain tensors")
        _require_word(payload.get("path_name"))


def _check_samples(content: bytes, load_tensors: Callable[[Any], object]) -> None:
    if not content:
        return
    try:
        load_tensors(io.BytesIO(content))
    except ModelError as error:
        raise ModelError(
            f"its example inputs hold more than tensors ({error}); export it again with tensors"
        ) from error


def _check_program(program: Any) -> None:
    for guard in program.get("guards_code") or () if isinstance(program, dict) else ():
        _check_expression(guard, _GUARD_NODES)
    _walk({key: value for key, value in program.items() if key != "guards_code"})


def _walk(value: Any) -> None:
    """Check every word of the program: each either is plain, or stands where torch reads it as plain text."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _require_word(key)
            special = _SPECIAL.get(key)
            if special is None or not isinstance(inner, str | list):
                _walk(inner) if key != "metadata" else None  # where a node comes from: kept as text, for messages
            else:
                special(inner)
        if value.get("as_custom_obj") is not None or value.get("custom_obj_values"):
            raise ModelError("it holds an object of a class of its own; export the model without it")
    elif isinstance(value, list):
        for inner in value:
            _walk(inner)
    elif isinstance(value, str):
        _require_word(value)


def _require_word(word: Any) -> None:
    if not isinstance(word, str) or not _WORD.fullmatch(word):
        raise ModelError(f"it holds {str(word)[:80]!r} where a plain name belongs")


def _check_operator(target: Any) -> None:
    if not isinstance(target, str) or not _OPERATORS.fullmatch(target):
        raise ModelError(f"it calls {str(target)[:80]!r}; allowed are the operators of torch itself (torch.ops.aten)")
    if target.split(".")[3:4] and target.split(".")[3] in FILE_OPERATORS:
        raise ModelError(f"it calls {target!r}, which opens files of this machine")


def _check_text(text: Any) -> None:
    """An argument of an operator: torch hands it over as it is."""


def _check_tree(spec: Any) -> None:
    """How arguments are nested: JSON in a string, `[version, tree]`, with JSON in strings again."""
    _check_branch(json.loads(spec)[1])


def _check_branch(tree: Any) -> None:
    if not isinstance(tree, dict) or tree.get("type") not in _TREE_TYPES:
        kind = tree.get("type") if isinstance(tree, dict) else tree
        raise ModelError(f"its arguments are nested in a {str(kind)[:80]!r}; allowed are tuples, lists and dicts")
    if tree.get("context") is not None:
        _walk(json.loads(tree["context"]))
    for branch in tree.get("children_spec") or ():
        _check_branch(branch)


def _check_expression(text: Any, nodes: tuple[type, ...] = _NODES) -> None:
    """Arithmetic over sizes: symbols, numbers and known functions; no attribute, so nothing else can be reached."""
    refused = ModelError(f"it holds the expression {str(text)[:80]!r}, which is more than arithmetic over sizes")
    if not isinstance(text, str) or len(text) > _LONGEST_EXPRESSION or not text.isprintable():
        raise refused
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise refused from error
    for node in ast.walk(tree):
        if not isinstance(node, nodes) or not _is_harmless(node, guard=nodes is _GUARD_NODES):
            raise refused


def _is_harmless(node: ast.AST, *, guard: bool) -> bool:
    if isinstance(node, ast.Name):
        return bool(_SYMBOL.fullmatch(node.id)) or bool(_FUNCTIONS.fullmatch(node.id)) or (guard and node.id == "L")
    if isinstance(node, ast.Attribute):
        return node.attr in _GUARD_ATTRIBUTES
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) or (
            isinstance(node.func, ast.Name) and bool(_FUNCTIONS.fullmatch(node.func.id))
        )
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return bool(_WORD.fullmatch(node.value))
    return not (isinstance(node, ast.Constant) and isinstance(node.value, bytes))


_SPECIAL: dict[str, Callable[[Any], None]] = {
    "target": _check_operator,
    "as_operator": _check_operator,
    "as_string": _check_text,
    "as_strings": _check_text,
    "expr_str": _check_expression,
    "in_spec": _check_tree,
    "out_spec": _check_tree,
}
