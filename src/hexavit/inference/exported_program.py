"""Opens a `.pt2` file of `torch.export` without running anything that it could hold.

`torch.export.load` unpickles parts of the archive, and evaluates strings of its graph as Python: symbolic sizes,
guards, names that become generated code. Here the archive is checked first, and loaded only if it holds tensors, a
graph of PyTorch's operators, and arithmetic on sizes.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hexavit.errors import CheckpointError

_ENTRIES = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/(serialization_id|version)|models/model\.json"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt|extra/[\w.-]+"
)
_COMPILED = "data/aotinductor/"
_PLAIN = re.compile(r"[\w.:*-]*")
"""Names of nodes, operators, weights and types: nothing that could be an expression."""
_TARGET = re.compile(r"torch\.ops\.(aten|higher_order|prims)\.\w+(\.\w+)?|torch\.sym_\w+|_operator\.\w+|math\.\w+")
_OF_PYTHON = ("torch", "_operator", "math", "#")
"""Beginnings of a target that PyTorch looks up in a Python module; others name weights."""
_OPERATORS = re.compile(
    "add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|getitem|trunc|ceil|floor"
)
_DESCRIPTIONS = frozenset({"metadata", "stack_trace", "torch_version"})
"""Keys of text for people, which PyTorch does not evaluate."""
_NAMES = re.compile(
    "Symbol|Integer|Float|Rational|Add|Mul|Pow|Max|Min|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|Piecewise|Identity|(Strict)?LessThan|"
    "(Strict)?GreaterThan|Equality|Unequality|FloorDiv|CleanDiv|CeilDiv|Mod|PythonMod|ModularIndexing|Where|IntTrueDiv|"
    "FloatTrueDiv|PowByNatural|FloatPow|ToFloat|(Trunc|Floor|Ceil|Round)ToInt|TruncToFloat|oo|int_oo|[szu][0-9]+"
)
"""Functions and classes that symbolic sizes are written with."""
_GUARD_NAMES = re.compile("L|torch|math")
_GUARD_ATTRIBUTES = re.compile("size|shape|stride|sym_max|sym_min|sym_not|sym_float|sym_ite")
_ARITHMETIC = (
    *(
        ast.Expression,
        ast.Constant,
        ast.Call,
        ast.keyword,
        ast.Name,
        ast.Load,
        ast.UnaryOp,
        ast.USub,
        ast.UAdd,
        ast.Not,
    ),
    *(ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BoolOp, ast.And, ast.Or),
    *(ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Subscript, ast.Attribute, ast.Tuple),
)


class Program(NamedTuple):
    """An opened program.

    Attributes:
        module: from a batch of images to its output.
        shape: of the input; None for each dimension of any size.
    """

    module: Any
    shape: tuple[int | None, ...]


def open_program(path: Path) -> Program:
    """Check a `.pt2` file and open it.

    Raises:
        CheckpointError: it cannot be read, or holds more than tensors, a graph of operators and arithmetic on sizes.
    """
    from torch.export.pt2_archive._package import PT2ArchiveReader, load_pt2

    try:
        with path.open("rb") as file:
            with PT2ArchiveReader(file) as archive:
                _check(archive)
            file.seek(0)
            program = load_pt2(file).exported_programs["model"]
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # the reader raises many types for a damaged file
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: PyTorch cannot open this file ({reason})") from error
    (name,) = program.graph_signature.user_inputs
    value = next(node for node in program.graph.nodes if node.name == name).meta["val"]
    return Program(program.module(), tuple(each if isinstance(each, int) else None for each in value.shape))


def is_compiled(path: Path) -> bool:
    """Whether a `.pt2` file holds machine code of AOTInductor."""
    with zipfile.ZipFile(path) as archive:
        return any(f"/{_COMPILED}" in name for name in archive.namelist())


def _check(archive: Any) -> None:
    names = list(archive.get_file_names())
    if any(name.startswith(_COMPILED) for name in names):
        raise CheckpointError(
            "this file holds compiled code, which runs unchecked; pass --allow-compiled (allow_compiled=True) if you "
            "trust its origin, or export without --aot"
        )
    for name in names:
        if not _ENTRIES.fullmatch(name):
            raise CheckpointError(f"this archive holds {name!r}, which is not part of an exported program")
    if len({name.casefold() for name in names}) < len(names):
        raise CheckpointError("this archive holds two entries of one name")
    for kind, prefix in (("weights", "weight_"), ("constants", "tensor_")):
        for key, entry in json.loads(archive.read_string(f"data/{kind}/model_{kind}_config.json"))["config"].items():
            if entry.get("use_pickle") is not False or not str(entry["path_name"]).startswith(prefix):
                raise CheckpointError(f"{key!r} is pickled, and pickles of unknown origin are not loaded")
    try:
        torch.load(io.BytesIO(archive.read_bytes("data/sample_inputs/model.pt")), weights_only=True, map_location="cpu")
    except Exception as error:  # anything that weights_only does not allow
        raise CheckpointError("its example inputs are not tensors, and other pickles are not loaded") from error
    for sentence in _problems(json.loads(archive.read_string("models/model.json"))):
        raise CheckpointError(sentence)


def _problems(value: Any, key: str = "") -> Iterator[str]:
    """Strings of the graph that PyTorch would evaluate, or make code of, and that are not plain."""
    if isinstance(value, dict):
        for name, below in value.items():
            if not _PLAIN.fullmatch(name):
                yield f"its graph has a key {name[:60]!r}"
            elif name not in _DESCRIPTIONS:
                yield from _problems(below, name)
    elif isinstance(value, list):
        for below in value:
            yield from _problems(below, key)
    elif isinstance(value, str) and not _is_safe(value, key):
        yield f"its graph holds {value[:60]!r} as {key}, which is not plain arithmetic or a name"


def _is_safe(text: str, key: str) -> bool:
    if key == "expr_str":
        return _is_arithmetic(text, _NAMES)
    if key == "guards_code":
        return _is_arithmetic(text, _GUARD_NAMES, _GUARD_ATTRIBUTES)
    if key in {"in_spec", "out_spec"}:
        return not text or not any(_problems(json.loads(text)))
    if key == "context" and text.startswith("["):  # names of keyword arguments
        return not any(_problems(json.loads(text)))
    if key == "target" and text.startswith(_OF_PYTHON):
        known = _TARGET.fullmatch(text) is not None
        return known and (not text.startswith("_operator") or _OPERATORS.fullmatch(text[10:]) is not None)
    return _PLAIN.fullmatch(text) is not None


def _is_arithmetic(text: str, names: re.Pattern[str], attributes: re.Pattern[str] | None = None) -> bool:
    """Whether text is an expression of numbers, symbols, and calls of known functions on them."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    for node in ast.walk(tree):
        if not isinstance(node, _ARITHMETIC):
            return False
        if isinstance(node, ast.Name) and not names.fullmatch(node.id):
            return False
        if isinstance(node, ast.Attribute) and not (attributes and attributes.fullmatch(node.attr)):
            return False
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not node.value.isidentifier():
            return False
    return True
