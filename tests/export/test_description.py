"""An exported file describes itself: written and read for each format, with one sentence for each fault."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hexavit.errors import HexavitError
from hexavit.export.description import EXTRA_FILE, KEY, ExportDescription, read_description
from hexavit.images.preprocess import InputSpec

DESCRIPTION = ExportDescription(
    hexavit="0.1.0",
    model="vit_nano",
    task="classification",
    classes=('café <&> "quoted"', "犬\nnew line"),
    thresholds=None,
    image_size=(32, 48),
    in_chans=3,
    mean=(0.1, 0.2, 0.3),
    std=(1.0, 2.0, 3.0),
    crop_pct=0.875,
    interpolation="bicubic",
    dynamic=("batch",),
)


def write_onnx(path: Path, text: str | None) -> None:
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info("image", 1, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["image"], ["logits"])], "g", [value], [
        onnx.helper.make_tensor_value_info("logits", 1, [1])
    ])  # fmt: skip
    model = onnx.helper.make_model(graph)
    if text is not None:
        onnx.helper.set_model_props(model, {KEY: text})
    onnx.save(model, path)


def write_openvino(path: Path, text: str | None) -> None:
    openvino = pytest.importorskip("openvino")
    image = openvino.opset13.parameter([1], name="image")
    model = openvino.Model([openvino.opset13.relu(image)], [image])
    if text is not None:
        model.set_rt_info(text, KEY)
    openvino.save_model(model, path)


def write_program(path: Path, text: str | None) -> None:
    program = torch.export.export(nn.ReLU(), (torch.ones(1),))
    torch.export.save(program, path, extra_files={} if text is None else {EXTRA_FILE: text})


WRITERS = {".onnx": write_onnx, ".xml": write_openvino, ".pt2": write_program}
each_format = pytest.mark.parametrize("ending", WRITERS)


@each_format
def test_read_from_the_file_as_written(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{ending}"
    WRITERS[ending](path, DESCRIPTION.to_json())
    assert read_description(path) == DESCRIPTION


@each_format
def test_a_file_without_description(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{ending}"
    WRITERS[ending](path, None)
    with pytest.raises(HexavitError, match=r"does not describe its model; write it with hexavit export"):
        read_description(path)


@each_format
@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 50, b"<net name='x'>"])
def test_a_damaged_file(ending: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"model{ending}"
    path.write_bytes(content)
    with pytest.raises(HexavitError, match=rf"model\{ending}: this (is not a valid|file does not describe)"):
        read_description(path)


def test_onnx_weights_outside_the_file_are_not_read(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    write_onnx(tmp_path / "a.onnx", DESCRIPTION.to_json())
    model = onnx.load(tmp_path / "a.onnx")
    model.graph.initializer.append(onnx.numpy_helper.from_array(torch.ones(4000).numpy(), "w"))
    onnx.save(model, tmp_path / "b.onnx", save_as_external_data=True, location="b.onnx.data")
    (tmp_path / "b.onnx.data").unlink()
    assert read_description(tmp_path / "b.onnx") == DESCRIPTION


def test_a_program_is_not_unpickled(tmp_path: Path) -> None:
    """Sample inputs that are no valid pickle: whoever unpickled them would fail."""
    write_program(tmp_path / "a.pt2", DESCRIPTION.to_json())
    with zipfile.ZipFile(tmp_path / "a.pt2") as old, zipfile.ZipFile(tmp_path / "b.pt2", "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, b"no pickle" if "sample_inputs" in entry.filename else old.read(entry))
    assert read_description(tmp_path / "b.pt2") == DESCRIPTION


def test_another_ending_or_no_file(tmp_path: Path) -> None:
    with pytest.raises(HexavitError, match=r"written as \.onnx or \.xml or \.pt2, not as '\.pth'"):
        read_description(tmp_path / "model.pth")
    with pytest.raises(HexavitError, match=r"model\.onnx: there is no such file"):
        read_description(tmp_path / "model.onnx")


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "format": ({"format": 2}, r"has the format 2, and this version of hexavit \(.+\) reads format 1"),
    "task": ({"task": "detection"}, r"task must be 'classification' or 'multilabel' or 'features', not 'detection'"),
    "classes": ({"classes": "cat"}, r"classes must be a list of names or null, not 'cat'"),
    "no classes": ({"classes": None}, r"a classifier names its classes"),
    "size": ({"image_size": [32]}, r"image_size must be \[height, width\] in pixels, not \(32,\)"),
    "negative size": ({"image_size": [32, -1]}, r"image_size must be"),
    "chans": ({"in_chans": True}, r"in_chans must be a whole number from 1, not True"),
    "mean": ({"mean": [0.5]}, r"3 channels need as many means and deviations"),
    "nan": ({"mean": [float("nan"), 0, 0]}, r"mean must be a list of numbers"),
    "std": ({"std": [1, 1, 0]}, r"std must be a list of positive numbers"),
    "interpolation": ({"interpolation": ["bicubic"]}, r"interpolation must be 'bilinear' or 'bicubic'"),
    "dynamic": ({"dynamic": ["depth"]}, r"dynamic must be a list of 'batch' and 'size'"),
    "multiple": ({"size_multiple": 0}, r"size_multiple must be a whole number from 1 or null, not 0"),
    "thresholds": ({"task": "multilabel", "thresholds": [0.5]}, r"2 classes have 1 thresholds"),
    "several": ({"task": "multilabel"}, r"a multilabel model has thresholds"),
    "output": ({"output": "features"}, r"the task classification does not go with the output features"),
    "input": ({"input": "x"}, r"input must be 'image', not 'x'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_value_is_named(fault: str) -> None:
    change, sentence = FAULTS[fault]
    values = {**json.loads(DESCRIPTION.to_json()), **change}
    with pytest.raises(HexavitError, match=rf"m\.onnx: its description .*{sentence}"):
        ExportDescription.from_json(json.dumps(values), "m.onnx")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", r"is not valid JSON"),
        ("[" * 100_000, r"is not valid JSON"),
        ("[]", r"must be a JSON object, not list"),
        ("{}", r"has the format None"),
        ('{"format": 1, "model": "x"}', r"does not say hexavit, task, classes"),
    ],
)
def test_another_document(text: str, sentence: str) -> None:
    with pytest.raises(HexavitError, match=sentence):
        ExportDescription.from_json(text)


def test_fields_that_were_added_later_have_defaults() -> None:
    values = json.loads(DESCRIPTION.to_json())
    assert values.pop("crop_mode") == "center"
    assert values.pop("white") == 65535
    values["added_later"] = 1
    assert ExportDescription.from_json(json.dumps(values)) == DESCRIPTION


def test_the_preprocessing_is_an_input_spec() -> None:
    spec = replace(DESCRIPTION, crop_mode="squash", white=4095).input_spec
    assert spec == InputSpec((32, 48), 3, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), "bicubic", 0.875, "squash", 4095)
