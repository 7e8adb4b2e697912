"""A restricted unpickler for PyTorch's files: it makes plain values and descriptions of tensors, and nothing else.

`find_class` knows the few names that describe tensors. Every other class or function becomes a `Foreign`, an inert
placeholder, so nothing is imported and nothing that a file names is called. The opcodes are decoded before loading:
their number and the memo's size are limited there, and those that set an object's state or hash a value are replaced.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import IO, Any

import torch

from hexavit.checkpoints.lazy_tensor import Shape, printable
from hexavit.errors import CheckpointError

MAX_OPCODES = 3_000_000  # a model with an optimizer beside it has some ten thousands
_MAX_AXES = 16


@dataclass(frozen=True)
class Foreign:
    """The placeholder of a class or function that is not made, by its name. It ignores what is done to it."""

    name: str

    def __call__(self, *args: Any) -> Foreign:
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Nothing."""

    def extend(self, items: Any) -> None:
        """Nothing."""


class PlainDict(dict[Any, Any]):
    """A dictionary that ignores keys that are not plain: hashing nested tuples that share parts is exponential."""

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, str | int | float | bytes | None):
            super().__setitem__(key, value)


@dataclass(frozen=True)
class StorageRef:
    """A run of numbers in the file; `dtype` is None for an untyped one, which counts bytes."""

    key: str
    dtype: torch.dtype | None
    numel: int


@dataclass(frozen=True)
class TensorRef:
    """A view of a storage."""

    storage: StorageRef
    dtype: torch.dtype
    offset: int
    shape: Shape
    stride: Shape


@dataclass(frozen=True)
class _StorageType:
    dtype: torch.dtype | None


_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_DTYPES = {str(t).removeprefix("torch."): t for t in _STORAGES.values()}


def _whole(values: Any) -> Shape:
    if not isinstance(values, tuple) or len(values) > _MAX_AXES:
        raise ValueError("a shape is a short tuple")
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in values):
        raise ValueError("a shape holds whole numbers")
    return tuple(values)


def _tensor(args: tuple[Any, ...], dtype: torch.dtype | None = None) -> TensorRef:
    """(storage, offset, shape, stride, ...): a view that must lie within its storage and hold no number twice."""
    storage, (offset,), shape, stride = args[0], _whole(args[1:2]), _whole(args[2]), _whole(args[3])
    numel = prod(shape)
    dtype = dtype or (storage.dtype if isinstance(storage, StorageRef) else None)
    if not isinstance(storage, StorageRef) or dtype is None or len(shape) != len(stride):
        raise ValueError("a tensor is a view of a storage")
    held = storage.numel if storage.dtype else storage.numel // dtype.itemsize
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) if numel else 0
    if numel > held or (numel and last >= held):
        raise ValueError(f"a tensor claims {' x '.join(map(str, shape))} numbers of a storage of {held}")
    return TensorRef(storage, dtype, offset, shape, stride)


def _tensor_v3(args: tuple[Any, ...]) -> TensorRef:
    if not isinstance(args[6], torch.dtype):
        raise ValueError("a tensor has a type")
    return _tensor(args, args[6])


def _ordered_dict(args: tuple[Any, ...]) -> PlainDict:
    made = PlainDict()
    for pair in args[0] if args and isinstance(args[0], list) else []:
        if isinstance(pair, list | tuple) and len(pair) == 2:
            made[pair[0]] = pair[1]
    return made


_CALLS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections OrderedDict": _ordered_dict,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_tensor_v3": _tensor_v3,
    "torch._utils _rebuild_parameter": lambda args: args[0],
    "torch._utils _rebuild_parameter_with_state": lambda args: args[0],
    "torch Size": lambda args: args[0],
}
_VALUES: dict[str, Any] = {
    "torch.storage UntypedStorage": _StorageType(None),
    "torch UntypedStorage": _StorageType(None),
    **{f"torch {name}": _StorageType(dtype) for name, dtype in _STORAGES.items()},
    **{f"torch {name}": dtype for name, dtype in _DTYPES.items()},
}

_NEW_DICT = b"ccollections\nOrderedDict\n)R"
_REPLACED = {
    "EMPTY_DICT": _NEW_DICT,
    "DICT": b"1" + _NEW_DICT,  # torch.save writes it empty
    "EMPTY_SET": b"]",
    "ADDITEMS": b"e",
    "FROZENSET": b"t",
    "NEWOBJ": b"R",
    "NEWOBJ_EX": b"0R",
    "BUILD": b"0",  # drops an object's state
    "FRAME": b"",
}
"""Opcodes that hash, set state, or say how many bytes follow, each with what is loaded in its place."""

_NAMES = {opcode.code: opcode.name for opcode in pickletools.opcodes}


class PickleMachine:
    """Reads one pickle after another from a stream.

    Args:
        make: turns the description of a tensor into what the tree holds.
    """

    def __init__(self, make: Callable[[TensorRef], Any] = lambda ref: ref) -> None:
        self.foreign: Counter[str] = Counter()
        self.storages: dict[str, StorageRef] = {}
        self._make = make
        self._left = MAX_OPCODES

    def load(self, stream: IO[bytes]) -> Any:
        """The next pickle's value.

        Raises:
            CheckpointError: the pickle is damaged, too long, or not one of `torch.save`.
        """
        try:
            return _Restricted(self, io.BytesIO(self._checked(stream))).load()
        except Exception as error:  # what a damaged pickle raises is anything
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise CheckpointError(f"its pickle is damaged or not a checkpoint's ({reason})") from None

    def _checked(self, stream: IO[bytes]) -> bytes:
        """The bytes of the next pickle with the opcodes of `_REPLACED` replaced."""
        start, count = stream.tell(), 0
        places = array("q")
        for count, (opcode, arg, place) in enumerate(pickletools.genops(stream)):
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"it has more than {MAX_OPCODES:,} opcodes")
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(arg or 0) <= count:
                raise ValueError(f"it names place {arg} of the memo after {count} opcodes")
            if opcode.name in _REPLACED:
                places.append((place or 0) - start)
        end = stream.tell()
        stream.seek(start)
        raw, out, done = stream.read(end - start), bytearray(), 0
        for at in places:
            name = _NAMES[chr(raw[at])]
            out += raw[done:at] + _REPLACED[name]
            done = at + (9 if name == "FRAME" else 1)
        return bytes(out + raw[done:])

    def find(self, name: str) -> Any:
        """What stands for a class, function or value of a file."""
        if name in _VALUES:
            return _VALUES[name]
        if name in _CALLS:
            return lambda *args: self._made(_CALLS[name](args))
        dotted = printable(name.replace(" ", "."))
        self.foreign[dotted] += 1
        return Foreign(dotted)

    def _made(self, value: Any) -> Any:
        return self._make(value) if isinstance(value, TensorRef) else value

    def storage(self, pid: Any) -> StorageRef:
        """The storage of ('storage', type, key, device, numel), and None for no view in files from before 1.6."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or any(v is not None for v in pid[5:]):
            raise ValueError("a storage is not named as PyTorch names one")
        _, kind, key, _, numel = pid[:5]
        if not isinstance(kind, _StorageType) or not isinstance(key, str) or len(key) > 100:
            raise ValueError("a storage has a type and a key")
        ref = StorageRef(key, kind.dtype, _whole((numel,))[0])
        if self.storages.setdefault(key, ref) != ref:
            raise ValueError(f"storage {key!r} is declared twice")
        return ref


class _Restricted(pickle.Unpickler):
    def __init__(self, machine: PickleMachine, stream: IO[bytes]) -> None:
        super().__init__(stream, encoding="latin1")
        self._machine = machine

    def find_class(self, module: str, name: str) -> Any:
        return self._machine.find(f"{module} {name}")

    def persistent_load(self, pid: Any) -> StorageRef:
        return self._machine.storage(pid)
