"""Packages of extras, imported where they are needed."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from hexavit.errors import HexavitError


def require(module: str, extra: str) -> Any:
    """Import a package of an extra.

    Raises:
        HexavitError: it is not installed; the sentence says what to install.
    """
    try:
        return import_module(module)
    except ImportError:
        raise HexavitError(f"{module} is not installed: pip install 'hexavit[{extra}]'") from None


def open_onnx(path: Path, *, spin: bool = True) -> Any:
    """A session of ONNX Runtime on the CPU, with as many threads as PyTorch has.

    Args:
        path: a file `.onnx`.
        spin: whether threads that wait for work keep their core busy: faster where nothing else needs the cores.

    Raises:
        HexavitError: ONNX Runtime is not installed.
    """
    ort = require("onnxruntime", "onnx")
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # an error is raised, too
    if not spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@cache
def openvino_core() -> Any:
    """The process's `openvino.Core`, which is never destroyed.

    The CPU plugin of each core installs a stack for signal handlers and restores the one before it when it ends. Cores
    that end in another order than the reverse leave a stack that is unmapped, and the next signal with a handler of
    Python's, such as SIGCHLD with PyTorch's data loaders, kills the process.

    Raises:
        HexavitError: OpenVINO is not installed.
    """
    return require("openvino", "openvino").Core()


def compile_openvino(model: Any) -> Any:
    """Compile a model, or the file at a path, for the CPU in float32 with as many threads as PyTorch has."""
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY"}
    settings["INFERENCE_PRECISION_HINT"] = "f32"  # else bfloat16 on processors that have it
    return openvino_core().compile_model(model, "CPU", settings)
