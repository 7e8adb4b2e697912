"""Post-training quantisation of an exported float32 file to int8, by NNCF (OpenVINO) or ONNX Runtime."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hexavit.errors import HexavitError
from hexavit.export.description import KEY, ExportDescription, read_description
from hexavit.export.packages import openvino_core, require
from hexavit.export.writers import Run, quiet, save_openvino
from hexavit.profiling.measure import interleaved

_DOT_PRODUCTS = re.compile(r"\b(avx512_vnni|avx_vnni|avx_vnni_int8|amx_int8|asimddp|i8mm)\b")
_CPU_INFO = Path("/proc/cpuinfo")
_ROUNDS = 7


def check_quantizable(path: Path) -> None:
    """Check that a file of this ending can be quantised here.

    Raises:
        HexavitError: another format, or a package is missing.
    """
    if path.suffix.lower() == ".pt2":
        raise HexavitError(f"{path}: int8 is for .onnx and .xml, not for .pt2")
    if path.suffix.lower() == ".xml":
        require("nncf", "int8")


def quantize(file: Path, out: Path, batches: Sequence[NDArray[np.float32]]) -> ExportDescription:
    """Write an int8 form of an exported file: weights of 8 bits for each channel, activations of 8 bits.

    Args:
        file: a float32 `.onnx` or `.xml` of :func:`hexavit.export_model`.
        out: file to write, of the same ending.
        batches: input on which the ranges of the activations are measured.

    Returns:
        What the new file says of itself.
    """
    about = replace(read_description(file), precision="int8")
    with quiet():
        (_quantize_onnx if file.suffix == ".onnx" else _quantize_openvino)(file, out, batches, about)
    return about


def _quantize_onnx(file: Path, out: Path, batches: Sequence[NDArray[np.float32]], about: ExportDescription) -> None:
    onnx: Any = require("onnx", "onnx")
    quantization: Any = require("onnxruntime.quantization", "onnx")
    prepare = require("onnxruntime.quantization.shape_inference", "onnx").quant_pre_process
    left: Iterator[NDArray[np.float32]] = iter(batches)

    def get_next(_: Any) -> dict[str, NDArray[np.float32]] | None:
        batch = next(left, None)
        return None if batch is None else {about.input: batch}

    reader = type("Reader", (quantization.CalibrationDataReader,), {"get_next": get_next})()

    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        prepared, made = f"{folder}/prepared.onnx", f"{folder}/made.onnx"
        prepare(str(file), prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            made,
            reader,
            per_channel=True,
            # Without dot products, sums of two products of 8 bits overflow 16 bits unless weights have 7.
            reduce_range=has_dot_products() is False,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
            extra_options={"MatMulConstBOnly": True},  # products of two activations keep float32
        )
        model = onnx.load(made)
    onnx.helper.set_model_props(model, {KEY: about.to_json()})
    onnx.save(model, out)


def _quantize_openvino(file: Path, out: Path, batches: Sequence[NDArray[np.float32]], about: ExportDescription) -> None:
    nncf = require("nncf", "int8")
    nncf.set_log_level(logging.ERROR)
    model = openvino_core().read_model(file)
    made = nncf.quantize(
        model,
        nncf.Dataset(batches),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(batches),
    )
    save_openvino(made, out, about)


def has_dot_products() -> bool | None:
    """Whether this processor multiplies and adds 8-bit numbers in one instruction; None where that is not known."""
    try:
        return _DOT_PRODUCTS.search(_CPU_INFO.read_text(encoding="utf-8")) is not None
    except OSError:
        return None


def images_per_second(runs: Sequence[Run], batch: NDArray[np.float32]) -> list[float]:
    """Images per second of each function, measured in turn: the median of seven calls, each after an untimed one."""
    seconds = interleaved({str(number): partial(run, batch) for number, run in enumerate(runs)}, _ROUNDS, settle=True)
    return [len(batch) / median(each) for each in seconds.values()]
