"""Writes a program of `torch.export` as ONNX, OpenVINO or `.pt2`, with its description, and runs the file."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram
from torch.onnx import ONNXProgram

from hexavit.errors import HexavitError
from hexavit.export.description import EXTRA_FILE, KEY, ExportDescription
from hexavit.export.packages import compile_openvino, open_onnx, require

Run = Callable[[NDArray[Any]], NDArray[np.float32]]
"""From a batch of images to the output."""

ENGINES = {".onnx": "onnxruntime", ".xml": "openvino", ".pt2": "torch"}
_ONNX_LIMIT = 2**31
"""Bytes of one protobuf file."""


def check_installed(ending: str) -> None:
    """Check that the packages are there that write a file of this ending and run it.

    Raises:
        HexavitError: with what to install.
    """
    if ending != ".pt2":
        for module in (ENGINES[ending], "onnx", "onnxscript"):
            require(module, ENGINES[ending].removesuffix("runtime"))


def write(program: ExportedProgram, path: Path, about: ExportDescription, *, aot: bool) -> None:
    """Write a file by its ending: `.onnx`; `.xml` and the `.bin` beside it; or `.pt2`.

    Args:
        program: with one input and one output.
        path: file to write.
        about: its description.
        aot: compile a `.pt2` by AOTInductor.

    Raises:
        HexavitError: the format cannot hold the program.
    """
    try:
        if path.suffix == ".pt2":
            _write_program(program, path, about, aot)
        else:
            {".onnx": _write_onnx, ".xml": _write_openvino}[path.suffix](program, path, about)
    except (HexavitError, OSError):
        raise
    except Exception as error:  # exporters raise many types
        reason = " ".join(str(error).split())[:300]
        raise HexavitError(f"{about.model or 'this model'} cannot be written as {path.suffix} ({reason})") from error


def _write_onnx(program: ExportedProgram, path: Path, about: ExportDescription) -> None:
    weights = sum(t.numel() * t.element_size() for t in (*program.state_dict.values(), *program.constants.values()))
    if weights >= _ONNX_LIMIT:
        raise HexavitError(
            f"an ONNX file holds at most 2 GiB, and this model has {weights / 2**30:.1f} GiB of weights: use "
            "--half, or export it as .xml"
        )
    made = _to_onnx(program, about)
    made.model.metadata_props[KEY] = about.to_json()
    made.save(path, external_data=False)


def _to_onnx(program: ExportedProgram, about: ExportDescription) -> ONNXProgram:
    with quiet():
        made = torch.onnx.export(
            program, (), dynamo=True, verbose=False, input_names=[about.input], output_names=[about.output]
        )
    assert made is not None
    return made


def _write_openvino(program: ExportedProgram, path: Path, about: ExportDescription) -> None:
    """By way of ONNX.

    OpenVINO's PyTorch frontend makes of attention what its fused kernel does not take or takes slower, lacks powers of
    sizes, and resizes tables to smaller grids by other weights.
    """
    openvino = require("openvino", "openvino")
    with tempfile.TemporaryDirectory() as folder:
        _to_onnx(program, about).save(f"{folder}/model.onnx", external_data=True)
        with quiet():
            model = openvino.convert_model(f"{folder}/model.onnx")
        model.inputs[0].get_tensor().set_names({about.input})
        model.outputs[0].get_tensor().set_names({about.output})
        save_openvino(model, path, about)


def save_openvino(model: Any, path: Path, about: ExportDescription) -> None:
    """Write an OpenVINO model as `.xml` and `.bin`, with its description."""
    model.set_rt_info(about.to_json(), KEY)
    require("openvino", "openvino").save_model(model, path, compress_to_fp16=about.precision == "float16")


def _write_program(program: ExportedProgram, path: Path, about: ExportDescription, aot: bool) -> None:
    if not aot:
        torch.export.save(program, path, extra_files={EXTRA_FILE: about.to_json()})
        return
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise HexavitError(f"AOTInductor compiles C++, and there is no compiler {compiler!r}; export without --aot")
    import zipfile

    with quiet():
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    with zipfile.ZipFile(path, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/extra/{EXTRA_FILE}", about.to_json())


def open_run(path: Path, about: ExportDescription, *, aot: bool = False) -> Run:
    """The function that a file of this machine computes, in its engine on the CPU.

    Args:
        path: a file of :func:`write`; one of unknown origin is opened by `hexavit.load_predictor`.
        about: its description.
        aot: whether it is compiled.
    """
    if path.suffix == ".onnx":
        session = open_onnx(path)
        return lambda image: session.run([about.output], {about.input: image})[0]
    if path.suffix == ".xml":
        compiled = compile_openvino(path)
        return lambda image: np.array(compiled({about.input: image})[about.output])
    with quiet():
        program: Any = torch._inductor.aoti_load_package(str(path)) if aot else torch.export.load(path).module()

    def run(image: NDArray[Any]) -> NDArray[np.float32]:
        with torch.inference_mode():
            out: NDArray[np.float32] = program(torch.from_numpy(image)).numpy()
        return out

    return run


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the notes of exporters on their own operators, which a user cannot act on."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.utils.cpp_extension")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
