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
from hexavit.export.packages import compile_openvino, open_onnx
from hexavit.export.writers import open_run
from hexavit.inference.exported_file import OFTEN, OpenFile

Run = Callable[[], object]

ENGINES = ("torch", "optimize", "save-memory", "compile", "onnxruntime", "openvino")
"""`torch` is the plain model, `optimize` is `hexavit.optimize`, `save-memory` is that with `save_memory`, `compile` is
`torch.compile`; the others run a file: of hexavit's models the one of `hexavit.export_model`, of others the one of
`torch.onnx.export`."""
OPTIMIZED = ("optimize", "save-memory")
FILES = {"onnxruntime": ".onnx", "openvino": ".xml"}
TRAINING = ("torch", "compile")
OF_CPU = (*OPTIMIZED, *FILES)
"""Engines that are measured on CPUs in float32 alone."""
WARM_UPS = {"openvino": OFTEN}
"""Passes before the first that is timed, where it is not one: then the graph of this size is there."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def inference(model: nn.Module, images: Tensor, engine: str) -> Run:
    """A forward pass of a batch."""
    model.eval()
    if engine in FILES:
        return _exported(model, images, engine)
    if engine in OPTIMIZED:
        if not isinstance(model, hexavit.Backbone):
            raise ValueError("hexavit.optimize takes models of hexavit alone")
        model = hexavit.optimize(model, batch_size=len(images), save_memory=engine == "save-memory")
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


def _exported(model: nn.Module, images: Tensor, engine: str) -> Run:
    """A forward pass of the file that `hexavit.export_model` writes, or of a peer's model written as ONNX."""
    inputs = images.numpy()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / f"model{FILES[engine]}"
        if isinstance(model, hexavit.Backbone):
            report = hexavit.export_model(model, path, img_size=(images.shape[2], images.shape[3]))
            run = OpenFile.of(path)().run if engine == "openvino" else open_run(path, report.description)
            return lambda: run(inputs)
        onnx = path.with_suffix(".onnx")
        torch.onnx.export(model, (images,), onnx, dynamo=True, input_names=["image"], verbose=False)
        if engine == "onnxruntime":
            session = open_onnx(onnx)
            return lambda: session.run(None, {"image": inputs})[0]
        openvino: Any = import_module("openvino")  # it has no types
        compiled = compile_openvino(openvino.convert_model(onnx))
    return lambda: compiled(inputs)[0]
