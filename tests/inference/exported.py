"""Exported files of the digits' model, written with the engines' own tools."""

import functools
import json
import warnings
from pathlib import Path

import onnx
import openvino
import torch
from tests.using import CLASSES, digits_folder, trained
from torch import Tensor, nn

ENDINGS = (".onnx", ".xml", ".pt2")


class Features(nn.Module):
    """The input of the model's classifier."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        return self.model.forward_head(self.model.forward_features(image), pre_logits=True)


class Logits(nn.Module):
    """The model, with the name of the input that exported files have."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        return self.model(image)


def description(**values: object) -> str:
    """What a file of the digits' model says of itself."""
    spec = trained().input_spec()
    about = {
        "format": 1,
        "hexavit": "0.1.0",
        "model": "cvt_nano",
        "task": "classification",
        "classes": list(CLASSES),
        "thresholds": None,
        "image_size": list(spec.size),
        "in_chans": 3,
        "mean": list(spec.mean),
        "std": list(spec.std),
        "crop_pct": spec.crop_pct,
        "interpolation": spec.interpolation,
        "crop_mode": spec.crop_mode,
        "white": spec.white,
        "dynamic": ["batch"],
        "preprocessing": "none",
        "precision": "float32",
        "input": "image",
        "output": "logits",
        "size_multiple": None,
    }
    return json.dumps({**about, **values})


def write_program(path: Path, module: nn.Module, *, batch: int | None = None, **values: object) -> Path:
    """A `.pt2` of a module of images of 32 x 32; with `batch`, for batches of that size alone."""
    dynamic = None if batch else ({0: torch.export.Dim("batch", min=1, max=4096)},)
    program = torch.export.export(module.eval(), (torch.zeros(batch or 2, 3, 32, 32),), dynamic_shapes=dynamic)
    torch.export.save(program, path, extra_files={"hexavit.json": description(**values)})
    return path


@functools.cache
def graph() -> bytes:
    """The digits' model in ONNX, for any batch, with the output ``logits``."""
    dynamic = ({0: torch.export.Dim("batch", min=1, max=4096)},)
    program = torch.export.export(Logits(trained().model()), (torch.zeros(2, 3, 32, 32),), dynamic_shapes=dynamic)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"input_names": ["image"], "output_names": ["logits"], "dynamo": True, "verbose": False}
        made = torch.onnx.export(program, (), **options)
    return made.model_proto.SerializeToString()


def write_onnx(path: Path, output: str, batch: int | None, text: str) -> Path:
    """The graph, up to an output."""
    model = onnx.load_from_string(graph())
    if output == "features":  # what the last layer reads
        (last,) = (node for node in model.graph.node if "logits" in node.output)
        model.graph.node.remove(last)
        model.graph.output[0].CopyFrom(
            onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["n", 128])
        )
        for node in model.graph.node:
            for place, name in enumerate(node.output):
                if name == last.input[0]:
                    node.output[place] = "features"
    if batch:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    onnx.helper.set_model_props(model, {"hexavit": text})
    onnx.save(model, path)
    return path


@functools.cache
def exported(ending: str, output: str = "logits", batch: int | None = None) -> Path:
    """A file of the trained digits' model; do not write to it."""
    folder = digits_folder().parent / "exported"
    folder.mkdir(exist_ok=True)
    path = folder / f"{output}{batch or ''}{ending}"
    values: dict[str, object] = {"dynamic": [] if batch else ["batch"]}
    if output == "features":
        values |= {"task": "features", "output": "features", "classes": None}
    if ending == ".pt2":
        module = Logits if output == "logits" else Features
        return write_program(path, module(trained().model()), batch=batch, **values)
    if ending == ".onnx":
        return write_onnx(path, output, batch, description(**values))
    converted = openvino.convert_model(exported(".onnx", output, batch))
    converted.set_rt_info(description(**values), "hexavit")
    openvino.save_model(converted, path, compress_to_fp16=False)
    return path
