"""`hexavit.export_model`: a model as a file that runs without hexavit, checked in its engine before it is kept."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.export import Dim, ExportedProgram

from hexavit.architecture import aligned, image_size
from hexavit.errors import HexavitError, RunError
from hexavit.export.description import ENDINGS, Axis, ExportDescription, Task
from hexavit.export.graph import Graph, at_size, fixed_size_reason, for_engine, with_half_weights
from hexavit.export.layouts import keep_maps, multiply_matrices, split_heads_first
from hexavit.export.resizing import GraphPreprocessing
from hexavit.export.writers import ENGINES, Run, check_installed, open_run, write
from hexavit.files import check_ending
from hexavit.images.preprocess import InputSpec
from hexavit.network.backbone import Backbone
from hexavit.parts.attention import softmax_path
from hexavit.parts.contract import Size

TOLERANCES = {"float32": 1e-3, "float16": 1e-2}
"""Largest difference from PyTorch that a file may have, as a fraction of the largest output. Rounding of float32 gives
about 1e-6 to 1e-4; a graph that is wrong gives more than 1e-2."""
_LEAST_TRACED = 128
"""Pixels of the shorter side with which a graph of dynamic size is traced."""
_WITH_PREPROCESSING = 2e-2  # pixels may differ by 1/255


class Loaded(Protocol):
    """A trained model with its classes, such as `hexavit.inference.LoadedModel`."""

    @property
    def model(self) -> Any: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def input_spec(self) -> InputSpec: ...
    @property
    def thresholds(self) -> tuple[float, ...] | None: ...


@dataclass(frozen=True)
class Check:
    """A batch computed by the file in its engine and by PyTorch.

    Attributes:
        batch: images.
        size: height and width of the images, in pixels.
        difference: the largest difference of two outputs, as a fraction of the largest output.
    """

    batch: int
    size: Size
    difference: float


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and how it was checked.

    Attributes:
        path: the file.
        description: what it says of itself.
        bytes: size of the file, with the `.bin` beside an `.xml`.
        seconds: that the export and the checks took.
        engine: in which it was checked.
        checks: one for each batch.
    """

    path: Path
    description: ExportDescription
    bytes: int
    seconds: float
    engine: str
    checks: tuple[Check, ...]

    @property
    def difference(self) -> float:
        """The largest difference from PyTorch, as a fraction of the largest output."""
        return max(check.difference for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the classes are in the file."""
        about = self.description
        checks = [{"batch": c.batch, "size": list(c.size), "difference": c.difference} for c in self.checks]
        return {
            **{"path": str(self.path), "bytes": self.bytes, "seconds": round(self.seconds, 2), "engine": self.engine},
            **{"model": about.model, "output": about.output, "precision": about.precision},
            **{"image_size": list(about.image_size), "dynamic": list(about.dynamic)},
            **{"preprocessing": about.preprocessing, "largest_difference": self.difference, "checks": checks},
        }

    def __str__(self) -> str:
        about = self.description
        height, width = about.image_size
        rows = [["batch", "size", "largest difference"]]
        rows += [[str(c.batch), f"{c.size[0]} x {c.size[1]}", f"{c.difference:.1e}"] for c in self.checks]
        return (
            f"{self.path}: {about.model or 'model'} to {about.output}, {height} x {width}, {about.precision}, "
            f"{self.bytes / 1e6:.1f} MB, dynamic {' and '.join(about.dynamic) or 'nothing'}\n\n"
            f"{aligned(rows)}\n\nThe largest difference between {self.engine} and PyTorch is {self.difference:.1e} of "
            "the largest output."
        )


def export_model(
    model: Backbone | Loaded,
    path: str | Path,
    *,
    dynamic: Sequence[Axis] = ("batch",),
    img_size: int | Size | None = None,
    half: bool = False,
    preprocessing: bool = False,
    features: bool = False,
    aot: bool = False,
    overwrite: bool = False,
) -> ExportReport:
    """Export a model as a file for ONNX Runtime, OpenVINO or PyTorch, and compare the file with PyTorch.

    The graph is that of the model in evaluation mode, with batch norms folded and constants computed. The file
    describes itself: classes, preprocessing, sizes (`hexavit.export.description`). It is run in its engine on several
    batches and, if the size is dynamic, on several sizes; it is written only if every output agrees with PyTorch's.

    Args:
        model: a model of hexavit, or the result of `hexavit.inference.load_model`.
        path: file to write; its ending says in which format: `.onnx`, `.xml` (OpenVINO; the weights are in a `.bin` of
            the same name), `.pt2` (`torch.export`).
        dynamic: axes that may differ from call to call: `batch`, `size`. Without `batch`, the file takes one image.
        img_size: side or (H, W) of the images in pixels; None for the size of the preprocessing.
        half: keep weights in float16, which halves the file. The engine computes as it can, on CPUs in float32.
        preprocessing: resize, crop and normalise in the graph; its input is decoded images (N, H, W, C) of bytes.
        features: compute the classifier's input instead of the logits.
        aot: of a `.pt2`, compile it by AOTInductor for this kind of processor.
        overwrite: replace a file that is there.

    Raises:
        HexavitError: the model cannot be exported so, a package is missing, or the file does not compute what the model
            computes. No file is left.
    """
    path, begun = Path(path), time.perf_counter()
    ending = path.suffix.lower()
    check_ending(path, *ENDINGS)
    if unknown := set(dynamic) - set(get_args(Axis)):
        raise HexavitError(f"dynamic axes are batch and size, not {sorted(unknown)[0]!r}")
    if aot and ending != ".pt2":
        raise HexavitError(f"AOTInductor writes .pt2, not {ending}")
    if path.exists() and not overwrite:
        raise RunError(f"{path}: this already exists; pass overwrite=True to replace it")
    check_installed(ending)
    backbone, about = _describe(model, features, img_size)
    about = replace(
        about,
        dynamic=tuple(axis for axis in get_args(Axis) if axis in dynamic),
        preprocessing="graph" if preprocessing else "none",
        precision="float16" if half else "float32",
    )
    if "size" in dynamic:
        _check_dynamic_size(backbone, preprocessing)
    before = GraphPreprocessing(about.input_spec) if preprocessing else None
    backbone = at_size(backbone, about.image_size)
    plain = Graph(backbone, features, before)
    graph = Graph(for_engine(backbone, dynamic_size="size" in dynamic), features, before)
    samples = list(_samples(about))
    with torch.no_grad():
        expected = [_expected(plain, image, about) for image in samples]
        if half and ending != ".xml":  # OpenVINO has a form of its own for it
            with_half_weights(graph)
        # Engines fuse attention that is written out, and their products read the keys without a transposition.
        with nullcontext() if ending == ".pt2" else softmax_path(graph):
            program = _program(graph, samples[0], about)
        if ending != ".pt2":
            keep_maps(program)
        if ending == ".onnx":
            split_heads_first(program)
            multiply_matrices(program)
    with written_whole(path) as temporary:
        write(program, temporary, about, aot=aot)
        checks = list(_compare(open_run(temporary, about, aot=aot), samples, expected, about))
        size = sum(file.stat().st_size for file in temporary.parent.iterdir())
    engine = f"{ENGINES[ending]} {version(ENGINES[ending])}"
    return ExportReport(path, about, size, time.perf_counter() - begun, engine, tuple(checks))


def _describe(model: Any, features: bool, img_size: int | Size | None) -> tuple[Backbone, ExportDescription]:
    """The model, and what a file of it says of itself without options."""
    loaded = None if isinstance(model, nn.Module) else model
    backbone = model if loaded is None else loaded.model
    if not isinstance(backbone, Backbone):
        raise HexavitError(f"export takes a model of hexavit, not {type(backbone).__name__}")
    if not features and not backbone.num_classes:
        raise HexavitError("this model has no classifier, so it has no logits: export its features instead")
    if loaded is None:
        names = backbone.pretrained_cfg.get("label_names") or [f"class {i}" for i in range(backbone.num_classes)]
        spec, classes, thresholds = _spec_of(backbone), tuple(names), None
    else:
        spec, classes, thresholds = loaded.input_spec, loaded.classes, loaded.thresholds
    size = spec.size if img_size is None else image_size(img_size)
    task: Task = "features" if features else "classification" if thresholds is None else "multilabel"
    return backbone, ExportDescription(
        hexavit=version("hexavit"),
        model=backbone.architecture.name,
        task=task,
        classes=None if features else classes,
        thresholds=None if features else thresholds,
        image_size=size,
        in_chans=spec.channels,
        mean=spec.mean,
        std=spec.std,
        crop_pct=spec.crop_pct,
        interpolation=spec.interpolation,
        crop_mode=spec.crop_mode,
        white=spec.white,
        output="features" if features else "logits",
    )


def _spec_of(model: Backbone) -> InputSpec:
    """The preprocessing of a model; of one that was built from an architecture alone, fractions around 0.5."""
    if model.pretrained_cfg:
        return InputSpec.of_model(model)
    half = (0.5,) * model.in_chans
    return InputSpec(model.architecture.img_size, model.in_chans, half, half, "bicubic", 1.0, "center")


def _check_dynamic_size(model: Backbone, preprocessing: bool) -> None:
    if preprocessing:
        raise HexavitError(
            "a graph with preprocessing takes images of all sizes and resizes them to one: leave size out of dynamic"
        )
    if (reason := fixed_size_reason(model)) is not None:
        raise HexavitError(
            f"{model.architecture.name or 'this model'} is exported at one size, as {reason}; leave size out of "
            "dynamic and choose it by img_size"
        )


def _program(graph: Graph, sample: NDArray[Any], about: ExportDescription) -> ExportedProgram:
    """The graph as a program with the dynamic axes."""
    axes = ((0,) if "batch" in about.dynamic else ()) + (() if "size" not in about.dynamic else (2, 3))
    axes += (1, 2) if about.preprocessing == "graph" else ()
    image = torch.from_numpy(sample)
    if "size" in about.dynamic:  # the exporter fixes a grid that is one cell wide, as last grids of small images are
        times = math.ceil(_LEAST_TRACED / min(about.image_size))
        image = image.repeat(1, 1, times, times)
    try:
        return torch.export.export(graph.eval(), (image,), dynamic_shapes=(dict.fromkeys(axes, Dim.DYNAMIC),))
    except Exception as error:  # PyTorch's exporter raises many types
        reason = " ".join(str(error).split())[:300]
        raise HexavitError(f"{about.model or 'this model'} cannot be exported ({reason})") from error


def _samples(about: ExportDescription) -> Iterator[NDArray[Any]]:
    """Batches of noise to compare on; the graph is made with the first one. PyTorch's exporter fixes sizes of 1."""
    height, width = about.image_size
    sizes = [(height, width)]
    if "size" in about.dynamic:
        sizes += [(height + 11, width + 3), (height, width + width // 2), (2 * height - 1, width)]
        sizes += [(3 * height // 4 + 1, width // 2 + 1), (height // 2, width // 2)]
    elif about.preprocessing == "graph":
        sizes = [(height + 7, 2 * width + 1), (2 * height + 3, width), (height // 2 + 1, width // 2 + 2)]
    batches = (2, 1, 3, 2) if "batch" in about.dynamic else (1,)
    generator = np.random.default_rng(0)
    for i in range(max(len(sizes), len(batches))):
        batch, size = batches[i % len(batches)], sizes[i % len(sizes)]
        if about.preprocessing == "graph":
            yield generator.integers(0, 256, (batch, *size, about.in_chans), np.uint8)
        else:
            yield generator.standard_normal((batch, about.in_chans, *size), np.float32)


def _is_smaller(image: NDArray[Any], about: ExportDescription) -> bool:
    """Whether an image is smaller than the model's: it may be an error, in PyTorch and in the file."""
    return about.preprocessing == "none" and image.shape[2] < about.image_size[0]


def _expected(graph: Graph, image: NDArray[Any], about: ExportDescription) -> NDArray[np.float32] | None:
    """PyTorch's output; None for a smaller image that the model does not take."""
    try:
        out: NDArray[np.float32] = graph(torch.from_numpy(image)).numpy()
    except Exception:  # of any layer
        if not _is_smaller(image, about):
            raise
        return None
    return out


def _compare(
    run: Run, samples: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any] | None], about: ExportDescription
) -> Iterator[Check]:
    """Check that the file computes what PyTorch computes. Smaller images than the model's may be errors of the file.

    Raises:
        HexavitError: an output differs.
    """
    limit = _WITH_PREPROCESSING if about.preprocessing == "graph" else TOLERANCES[about.precision]
    for image, right in zip(samples, expected, strict=True):
        size = image.shape[1:3] if about.preprocessing == "graph" else image.shape[2:]
        what = f"{len(image)} images of {size[0]} x {size[1]}"
        try:
            found = run(image)
        except Exception as error:  # each engine has types of its own
            if _is_smaller(image, about):
                continue
            hint = "; leave size out of dynamic, or choose a larger img_size" if "size" in about.dynamic else ""
            reason = " ".join(str(error).split())[:300]
            raise HexavitError(f"the exported file fails on {what} ({reason}){hint}") from error
        if right is None:
            raise HexavitError(f"the exported file computes {what}, which PyTorch rejects; leave size out of dynamic")
        if found.shape != right.shape:
            raise HexavitError(f"the exported file gives {found.shape} for {what}, and PyTorch {right.shape}")
        difference = float(np.abs(found - right).max() / np.abs(right).max())
        if not difference <= limit:
            raise HexavitError(
                f"the exported file differs from PyTorch by {difference:.1e} of the largest output on {what}, and at "
                f"most {limit:g} is allowed, so it was not written"
            )
        yield Check(len(image), size, difference)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a path of the same name in a temporary folder; when the block succeeds, its files replace those of `path`.

    An `.xml` that is there is removed first, so that it never stands beside weights of another model.

    Raises:
        RunError: the files cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.stem}.", dir=path.parent) as folder:
            yield Path(folder) / f"{path.stem}{path.suffix.lower()}"
            files = sorted(Path(folder).iterdir(), key=lambda file: file.suffix == path.suffix.lower())  # it comes last
            for file in files:
                with file.open("rb+") as content:
                    os.fsync(content.fileno())
            if len(files) > 1:
                with suppress(FileNotFoundError):
                    path.unlink()
            for file in files:
                os.replace(file, path if file.suffix == path.suffix.lower() else path.with_suffix(file.suffix))
    except OSError as error:
        raise RunError(f"{path}: this file cannot be written ({error.strerror or error})") from error
