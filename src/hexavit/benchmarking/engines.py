"""One forward pass, or one training step, of a model on an engine, ready to be repeated."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hexavit

Run = Callable[[], object]

ENGINES = ("torch", "optimize", "compile", "onnxruntime", "openvino")
"""`torch` is the plain model, `optimize` is `hexavit.optimize`, `compile` is `torch.compile`; the others run the model
exported to ONNX."""
TRAINING = ("torch", "compile")
OF_CPU = ("optimize", "onnxruntime", "openvino")
"""Engines that are measured on CPUs in float32 alone."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def inference(model: nn.Module, images: Tensor, engine: str, threads: int) -> Run:
    """A forward pass of a batch."""
    model.eval()
    if engine in ("onnxruntime", "openvino"):
        return _exported(model, images, engine, threads)
    if engine == "optimize":
        if not isinstance(model, hexavit.Backbone):
            raise ValueError("hexavit.optimize takes models of hexavit alone")
        model = hexavit.optimize(model, batch_size=len(images))
    run: Callable[[Tensor], object] = torch.compile(model) if engine == "compile" else model

    def forward() -> object:
        with torch.inference_mode():
            return _finished(run(images), images)

    return forward


def training(model: nn.Module, images: Tensor, engine: str) -> Run:
    """A training step: cross-entropy, its gradient, and AdamW."""
    model.train()
    for module in model.modules():  # libraries have other defaults of drop path
        if hasattr(module, "drop_prob"):
            cast("Any", module).drop_prob = 0.0
    labels = torch.arange(len(images), device=images.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)
    run: Callable[[Tensor], Any] = torch.compile(model) if engine == "compile" else model

    def step() -> object:
        optimizer.zero_grad()
        outputs = run(images)
        several = outputs if isinstance(outputs, tuple) else (outputs,)  # a distilled model gives two in training
        torch.stack([F.cross_entropy(each.float(), labels) for each in several]).mean().backward()
        optimizer.step()
        return _finished(outputs, images)

    return step


def _finished(outputs: object, images: Tensor) -> object:
    if images.is_cuda:
        torch.cuda.synchronize()
    return outputs


def _exported(model: nn.Module, images: Tensor, engine: str, threads: int) -> Run:
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "model.onnx"
        torch.onnx.export(model, (images,), path, dynamo=True, input_names=["image"], verbose=False)
        inputs = images.numpy()
        if engine == "onnxruntime":
            onnxruntime: Any = import_module("onnxruntime")  # neither of the two has types
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            return lambda: session.run(None, {"image": inputs})
        openvino: Any = import_module("openvino")
        compiled = openvino.Core().compile_model(
            openvino.convert_model(path), "CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        )
    return lambda: compiled(inputs)
