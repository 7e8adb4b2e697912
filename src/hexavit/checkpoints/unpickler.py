"""A machine that reads PyTorch's pickles and can do nothing but make plain values and describe tensors.

Python's own unpickler imports what a file names and calls it. This one walks the opcodes (`pickletools.genops`, which
only decodes) and knows the few names that describe tensors. Every other class or function becomes a `Foreign`, an
inert mark that swallows what is done to it. Nothing is imported, nothing of a file's choosing is called.
"""

from __future__ import annotations

import pickletools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import torch

from hexavit.checkpoints.lazy_tensor import Shape, printable
from hexavit.errors import CheckpointError

MAX_OPCODES = 3_000_000  # a model with an optimizer beside it has some ten thousands
_MAX_AXES = 16


@dataclass(frozen=True)
class Foreign:
    """What a class or function that is not ours would have been, by its name."""

    name: str


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
class _Known:
    """A name that the machine understands, and what calling it makes of the arguments."""

    call: Callable[[tuple[Any, ...]], Any]


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


def _product(shape: Shape) -> int:
    numel = 1
    for n in shape:
        numel *= n
    return numel


def _tensor(args: tuple[Any, ...], dtype: torch.dtype | None = None) -> TensorRef:
    """(storage, offset, shape, stride, ...): a view that must lie within its storage and hold no number twice."""
    storage, (offset,), shape, stride = args[0], _whole(args[1:2]), _whole(args[2]), _whole(args[3])
    numel = _product(shape)
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


_KNOWN: dict[str, Any] = {
    "collections OrderedDict": _Known(lambda args: dict(_pairs(args))),
    "torch._utils _rebuild_tensor": _Known(_tensor),
    "torch._utils _rebuild_tensor_v2": _Known(_tensor),
    "torch._utils _rebuild_tensor_v3": _Known(_tensor_v3),
    "torch._utils _rebuild_parameter": _Known(lambda args: args[0]),
    "torch._utils _rebuild_parameter_with_state": _Known(lambda args: args[0]),
    "torch Size": _Known(lambda args: args[0]),
    "torch.storage UntypedStorage": _StorageType(None),
    "torch UntypedStorage": _StorageType(None),
    **{f"torch {name}": _StorageType(dtype) for name, dtype in _STORAGES.items()},
    **{f"torch {name}": dtype for name, dtype in _DTYPES.items()},
}


def _pairs(args: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    pairs = args[0] if args and isinstance(args[0], list) else []
    return [(p[0], p[1]) for p in pairs if isinstance(p, list | tuple) and len(p) == 2 and _plain(p[0])]


def _plain(key: Any) -> bool:
    """Whether a value may be a key: hashing nested tuples that share their parts can take for ever."""
    return isinstance(key, str | int | float | bytes | None)


class PickleMachine:
    """Reads one pickle after another from a stream."""

    def __init__(self, make: Callable[[TensorRef], Any] = lambda ref: ref) -> None:
        """`make` turns the description of a tensor into what the tree shall hold."""
        self.foreign: Counter[str] = Counter()
        self.storages: dict[str, StorageRef] = {}
        self._make = make
        self._left = MAX_OPCODES

    def load(self, stream: IO[bytes]) -> Any:
        """The next pickle's value.

        Raises:
            CheckpointError: it is damaged, too long, or does what only a hostile one does.
        """
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        try:
            for opcode, arg, _ in pickletools.genops(stream):
                self._left -= 1
                if self._left < 0:
                    raise ValueError(f"it has more than {MAX_OPCODES:,} opcodes")
                if opcode.name == "STOP":
                    return self._stack.pop()
                self._step(opcode.name, arg)
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError, UnicodeError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise CheckpointError(f"its pickle is damaged or no checkpoint's ({reason})") from None
        raise CheckpointError("its pickle ends too early")

    def _step(self, name: str, arg: Any) -> None:
        stack = self._stack
        if name in _PUSHED:
            stack.append(arg)
        elif name in _MADE:
            stack.append(_MADE[name]())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[arg] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[arg])
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(self._take(int(name[-1]))))
        elif name in ("TUPLE", "LIST", "FROZENSET"):
            items = self._since_mark()
            stack.append(items if name == "LIST" else tuple(items))
        elif name == "DICT":
            held: dict[Any, Any] = {}
            self._set(held, self._since_mark())
            stack.append(held)
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            items = self._take(1) if name == "APPEND" else self._since_mark()
            if isinstance(stack[-1], list):
                stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._take(2) if name == "SETITEM" else self._since_mark()
            self._set(stack[-1], items)
        elif name in ("GLOBAL", "STACK_GLOBAL", "INST"):
            self._global(name, arg)
        elif name in ("REDUCE", "NEWOBJ"):
            function, args = self._take(2)
            stack.append(self._call(function, args))
        elif name == "NEWOBJ_EX":
            function, args, _ = self._take(3)
            stack.append(self._call(function, args))
        elif name == "OBJ":
            function, *args = self._since_mark()
            stack.append(self._call(function, tuple(args)))
        elif name in ("BUILD", "POP"):
            stack.pop()  # an object's state: ours have none, a foreign one's is swallowed
        elif name == "POP_MARK":
            self._since_mark()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name in ("BINPERSID", "PERSID"):
            stack.append(self._storage(stack.pop() if name == "BINPERSID" else arg))
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"opcode {name}")

    def _take(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise IndexError("the stack is empty")
        taken = self._stack[-count:]
        del self._stack[-count:]
        return taken

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        taken = self._stack[start:]
        del self._stack[start:]
        return taken

    @staticmethod
    def _set(target: Any, items: list[Any]) -> None:
        if isinstance(target, dict):
            target.update((k, v) for k, v in zip(items[::2], items[1::2], strict=True) if _plain(k))

    def _global(self, name: str, arg: Any) -> None:
        full = str(arg)
        if name == "STACK_GLOBAL":
            module, attribute = self._take(2)
            if not isinstance(module, str) or not isinstance(attribute, str):
                raise ValueError("a name is text")
            full = f"{module} {attribute}"
        found = _KNOWN.get(full)
        if found is None:
            dotted = printable(full.replace(" ", "."))
            self.foreign[dotted] += 1
            found = Foreign(dotted)
        if name == "INST":
            found = self._call(found, tuple(self._since_mark()))
        self._stack.append(found)

    def _call(self, function: Any, args: Any) -> Any:
        if isinstance(function, Foreign):
            return function
        if not isinstance(function, _Known) or not isinstance(args, tuple):
            raise ValueError("something is called that is no function")
        made = function.call(args)
        return self._make(made) if isinstance(made, TensorRef) else made

    def _storage(self, pid: Any) -> StorageRef:
        """('storage', type, key, device, numel), and None for no view in files from before 1.6."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or any(v is not None for v in pid[5:]):
            raise ValueError("a storage is named in a way that PyTorch does not")
        _, kind, key, _, numel = pid[:5]
        if not isinstance(kind, _StorageType) or not isinstance(key, str) or len(key) > 100:
            raise ValueError("a storage has a type and a key")
        ref = StorageRef(key, kind.dtype, _whole((numel,))[0])
        if self.storages.setdefault(key, ref) != ref:
            raise ValueError(f"storage {key!r} is claimed in two ways")
        return ref


_PUSHED = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)
_MADE: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}
