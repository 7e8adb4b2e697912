"""What an exported file says of itself: one JSON document in the metadata of ONNX, OpenVINO and torch.export files."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

from hexavit.errors import HexavitError
from hexavit.export.packages import openvino_core, require
from hexavit.files import check_ending
from hexavit.images.decode import WHITE
from hexavit.images.preprocess import InputSpec

KEY = "hexavit"
"""Name of the document in ONNX's ``metadata_props`` and in OpenVINO's ``rt_info``."""
EXTRA_FILE = "hexavit.json"
"""Name of the document among the extra files of a ``.pt2``."""
FORMAT = 1
INPUT = "image"
"""Name of the graph's input."""
ENDINGS = (".onnx", ".xml", ".pt2")

Task = Literal["classification", "multilabel", "features"]
Axis = Literal["batch", "size"]
Preprocessing = Literal["none", "graph"]
Precision = Literal["float32", "float16", "int8"]
Output = Literal["logits", "features"]

_LARGEST = 64 * 2**20  # bytes of a document that is read: the names of a hundred thousand classes


@dataclass(frozen=True)
class ExportDescription:
    """What an exported file says of itself.

    Attributes:
        hexavit: version that wrote the file.
        model: name of the architecture; may be empty.
        task: ``classification`` (one class per image), ``multilabel`` or ``features``.
        classes: names in the order of the logits; None for features.
        thresholds: of a multilabel model, for each class the probability from which it is predicted.
        image_size: height and width of the preprocessed image, in pixels.
        in_chans: channels of the image.
        mean: of each channel, subtracted; pixels are fractions of 1.
        std: of each channel, divided by.
        crop_pct: fraction of the resized image's side that the centre crop keeps.
        interpolation: of the resize: ``bilinear`` or ``bicubic``.
        crop_mode: ``center`` keeps the aspect ratio in the resize, ``squash`` does not.
        white: the value that is white in images of 16 bits.
        dynamic: axes that may differ from call to call: ``batch``, ``size``.
        preprocessing: ``none``: the input is a normalised float32 image (N, C, H, W) of `image_size`; ``graph``: the
            input is a uint8 image (N, H, W, C) of any size, which the graph resizes, crops and normalises.
        precision: of the weights.
        input: name of the graph's input.
        output: name of the graph's output, and what it is.
        size_multiple: number that divides the sides of the image where the size is dynamic; None for any size.
        format: version of this document.
    """

    hexavit: str
    model: str
    task: Task
    classes: tuple[str, ...] | None
    thresholds: tuple[float, ...] | None
    image_size: tuple[int, int]
    in_chans: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float
    interpolation: str
    crop_mode: str = "center"
    white: int = WHITE
    dynamic: tuple[Axis, ...] = ()
    preprocessing: Preprocessing = "none"
    precision: Precision = "float32"
    input: str = INPUT
    output: Output = "logits"
    size_multiple: int | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            fits, rule = _RULES[name]
            if not fits(value):
                raise HexavitError(f"{name} must be {rule}, not {value!r}")
        if not len(self.mean) == len(self.std) == self.in_chans:
            raise HexavitError(
                f"{self.in_chans} channels need as many means and deviations, not {self.mean}, {self.std}"
            )
        if (self.task == "features") != (self.output == "features"):
            raise HexavitError(f"the task {self.task} does not go with the output {self.output}")
        if (self.task == "features") != (self.classes is None):
            raise HexavitError("a classifier names its classes, and a model of features has none")
        if (self.task == "multilabel") != (self.thresholds is not None):
            raise HexavitError("a multilabel model has thresholds, and another model has none")
        if self.thresholds is not None and len(self.thresholds) != len(self.classes or ()):
            raise HexavitError(f"{len(self.classes or ())} classes have {len(self.thresholds)} thresholds")

    @property
    def input_spec(self) -> InputSpec:
        """The preprocessing of images."""
        return InputSpec(
            self.image_size,
            self.in_chans,
            self.mean,
            self.std,
            self.interpolation,
            self.crop_pct,
            self.crop_mode,
            self.white,
        )

    def to_json(self) -> str:
        """The document."""
        return json.dumps(asdict(self), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str, source: str | Path = "description") -> ExportDescription:
        """The inverse of :meth:`to_json`.

        Args:
            text: the document.
            source: file that it comes from, for the error message.

        Raises:
            HexavitError: the document is damaged, or of a format that this version does not read.
        """
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise HexavitError(f"{source}: its description is not valid JSON ({error})") from None
        if not isinstance(found, Mapping):
            raise HexavitError(f"{source}: its description must be a JSON object, not {type(found).__name__}")
        if found.get("format") != FORMAT:
            raise HexavitError(
                f"{source}: its description has the format {found.get('format')!r}, and this version of hexavit "
                f"({version('hexavit')}) reads format {FORMAT}"
            )
        optional = {"crop_mode", "white"}
        missing = [each.name for each in fields(cls) if each.name not in found and each.name not in optional]
        if missing:
            raise HexavitError(f"{source}: its description does not say {', '.join(missing)}")
        values = {each.name: _as_tuple(found[each.name]) for each in fields(cls) if each.name in found}
        try:
            return cls(**values)
        except HexavitError as error:
            raise HexavitError(f"{source}: its description is wrong: {error}") from None


def read_description(path: str | Path) -> ExportDescription:
    """What an exported file says of itself. No code of the file is run, and no weights outside it are read.

    A program that has loaded the graph already need not read it again: the document is
    ``session.get_modelmeta().custom_metadata_map[KEY]`` in ONNX Runtime and ``model.get_rt_info(KEY).astype(str)`` in
    OpenVINO, and :meth:`ExportDescription.from_json` reads it.

    Args:
        path: an ``.onnx``, ``.xml`` (OpenVINO) or ``.pt2`` file.

    Raises:
        HexavitError: the file is missing or damaged, is not of these formats, or does not describe itself.
    """
    place = Path(path)
    check_ending(place, *ENDINGS)
    if not place.is_file():
        raise HexavitError(f"{path}: there is no such file")
    text = {".onnx": _of_onnx, ".xml": _of_openvino, ".pt2": _of_program}[place.suffix.lower()](place)
    if text is None:
        raise HexavitError(f"{path}: this file does not describe its model; write it with hexavit export")
    return ExportDescription.from_json(text, path)


def _of_onnx(path: Path) -> str | None:
    onnx = require("onnx", "onnx")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError, whose class depends on its implementation
        raise HexavitError(f"{path}: this is not a valid ONNX file ({error})") from None
    return next((str(each.value) for each in model.metadata_props if each.key == KEY), None)


def _of_openvino(path: Path) -> str | None:
    core = openvino_core()
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        first = next(iter(str(error).strip().splitlines()[-1:]), "")
        raise HexavitError(f"{path}: this is not a valid OpenVINO model with its .bin file ({first})") from None
    return str(model.get_rt_info(KEY).astype(str)) if model.has_rt_info(KEY) else None


def _of_program(path: Path) -> str | None:
    """From the zip archive alone: `torch.export.load` unpickles, and `hexavit.export.programs` reads it safely."""
    try:
        with zipfile.ZipFile(path) as archive:
            entry = next((e for e in archive.infolist() if e.filename.endswith(f"extra/{EXTRA_FILE}")), None)
            if entry is None:
                return None
            if entry.file_size > _LARGEST:
                raise HexavitError(
                    f"{path}: its description is {entry.file_size} bytes long; at most {_LARGEST} are read"
                )
            return archive.read(entry).decode()
    except (zipfile.BadZipFile, OSError, UnicodeDecodeError, NotImplementedError, RuntimeError) as error:
        raise HexavitError(f"{path}: this is not a valid .pt2 archive ({error})") from None


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _each(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and all(map(fits, value))


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _one_of(*choices: Any) -> tuple[Callable[[Any], bool], str]:
    return lambda value: _text(value) and value in choices, " or ".join(map(repr, choices))


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "format": (_integer, "a whole number"),
    "hexavit": (_text, "a version"),
    "model": (_text, "a name"),
    "task": _one_of(*get_args(Task)),
    "classes": (_or_none(_each(_text)), "a list of names or null"),
    "thresholds": (_or_none(_each(_number)), "a list of numbers or null"),
    "image_size": (lambda value: _each(_integer)(value) and len(value) == 2, "[height, width] in pixels"),
    "in_chans": (_integer, "a whole number from 1"),
    "mean": (_each(_number), "a list of numbers"),
    "std": (_each(_positive), "a list of positive numbers"),
    "crop_pct": (_positive, "a positive number"),
    "interpolation": _one_of("bilinear", "bicubic"),
    "crop_mode": _one_of("center", "squash"),
    "white": (_integer, "a whole number from 1"),
    "dynamic": (_each(lambda axis: axis in get_args(Axis)), "a list of 'batch' and 'size'"),
    "preprocessing": _one_of(*get_args(Preprocessing)),
    "precision": _one_of(*get_args(Precision)),
    "input": _one_of(INPUT),
    "output": _one_of(*get_args(Output)),
    "size_multiple": (_or_none(_integer), "a whole number from 1 or null"),
}
