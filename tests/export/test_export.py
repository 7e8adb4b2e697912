"""Exported files compute what the model computes, describe themselves, and are left out where they would be wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.models.contract import build, tiny
from tests.slow import few_nanos
from torch import nn

import hexavit
from hexavit import Backbone
from hexavit.errors import HexavitError
from hexavit.export import export, export_model, read_description
from hexavit.export.graph import Graph, at_size, fixed_size_reason, for_engine
from hexavit.export.resizing import GraphPreprocessing
from hexavit.images.preprocess import InputSpec
from hexavit.inference import LoadedModel
from hexavit.models import resolve

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("openvino")
pytestmark = pytest.mark.usefixtures("one_thread")

NANO = hexavit.list_models("*_nano")
each_ending = pytest.mark.parametrize("ending", [".onnx", ".xml", ".pt2"])


def loaded(name: str = "deit_nano", **options: Any) -> LoadedModel:
    model = build(tiny(resolve(name), last=1))
    spec = InputSpec((64, 64), 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bicubic", 0.875, "center")
    return LoadedModel(tuple("abcde"), spec, "best", **options, model=model)


@pytest.mark.slow
@each_ending
def test_a_file_describes_itself_and_is_checked_on_every_axis(ending: str, tmp_path: Path) -> None:
    given, path = loaded("pvt_v2_nano", thresholds=(0.1, 0.2, 0.3, 0.4, 0.5)), tmp_path / "sub" / f"model{ending}"
    before = {name: value.clone() for name, value in given.model.state_dict().items()}
    report = export_model(given, path, dynamic=("size", "batch"))
    about = read_description(path)
    assert about == report.description
    assert (about.task, about.classes, about.thresholds) == ("multilabel", given.classes, given.thresholds)
    assert (about.dynamic, about.image_size, about.input_spec) == (("batch", "size"), (64, 64), given.input_spec)
    assert {check.batch for check in report.checks} == {1, 2, 3}
    assert any(h % 32 and w % 32 and h != w for h, w in (check.size for check in report.checks))
    assert report.difference < 1e-4
    assert report.bytes == sum(file.stat().st_size for file in path.parent.iterdir())
    assert {file.name for file in path.parent.iterdir()} == {path.name} | ({"model.bin"} if ending == ".xml" else set())
    assert all(torch.equal(value, before[name]) for name, value in given.model.state_dict().items())


@pytest.mark.slow
@each_ending
def test_float16_weights_halve_the_file(ending: str, tmp_path: Path) -> None:
    wide = LoadedModel(
        tuple("abcde"), loaded().input_spec, "best", model=hexavit.create_model("deit_nano", num_classes=5)
    )
    sizes = {half: export_model(wide, tmp_path / f"{half}{ending}", half=half).bytes for half in (False, True)}
    matrices = sum(p.numel() for p in wide.model.parameters() if p.ndim > 1)
    assert sizes[False] - sizes[True] > 0.8 * 2 * matrices  # the graph gets larger by casts
    assert read_description(tmp_path / f"True{ending}").precision == "float16"


@each_ending
def test_each_engine_gives_the_logits_of_any_batch(ending: str, tmp_path: Path) -> None:
    report = export_model(loaded(), tmp_path / f"model{ending}")
    assert {check.batch for check in report.checks} == {1, 2, 3}
    assert report.difference < 1e-4


def test_onnx_multiplies_matrices_and_fuses_biases(tmp_path: Path) -> None:
    """A Gemm for each linear, two products for each attention, and keys that are transposed without a reshape."""
    onnx = pytest.importorskip("onnx")
    given = loaded("pvt_v2_nano")
    export_model(given, tmp_path / "model.onnx")
    nodes = list(onnx.load(tmp_path / "model.onnx").graph.node)
    kinds = [node.op_type for node in nodes]
    depth = sum(stage.depth for stage in given.model.architecture.stages)
    assert kinds.count("Gemm") == sum(isinstance(m, nn.Linear) for m in given.model.modules())
    assert kinds.count("MatMul") == 2 * depth
    makers = {name: node.op_type for node in nodes for name in node.output}
    read = [makers[node.input[1]] for node in nodes if node.op_type == "MatMul"]
    assert read.count("Transpose") >= depth  # with a reshape between, ONNX Runtime does not fuse the transposition


def test_features_of_one_image(tmp_path: Path) -> None:
    report = export_model(loaded(), tmp_path / "model.pt2", dynamic=(), features=True)
    about = report.description
    assert (about.task, about.output, about.classes, about.dynamic) == ("features", "features", None, ())
    assert [check.batch for check in report.checks] == [1]


@pytest.mark.slow
@pytest.mark.parametrize("name", NANO)
def test_every_model_exports_with_any_batch(name: str, tmp_path: Path) -> None:
    for ending in (".onnx", ".xml", ".pt2"):
        report = export_model(loaded(name), tmp_path / f"model{ending}")
        assert {check.batch for check in report.checks} == {1, 2, 3}
        assert report.difference < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", NANO)
def test_any_size_is_right_or_not_offered(name: str, tmp_path: Path) -> None:
    given = loaded(name)
    for ending in (".onnx", ".xml", ".pt2"):
        path = tmp_path / f"model{ending}"
        if fixed_size_reason(given.model) is None:
            assert export_model(given, path, dynamic=("batch", "size")).difference < 1e-4
        else:
            with pytest.raises(HexavitError, match=r"is exported at one size, as a graph keeps"):
                export_model(given, path, dynamic=("batch", "size"))
            assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_grids_of_one_cell_are_exported_with_any_size(tmp_path: Path) -> None:
    """At 32 pixels the last keys of a CvT are one cell, which PyTorch's exporter would take for one at every size."""
    given = loaded("cvt_nano")
    assert export_model(given, tmp_path / "model.onnx", dynamic=("batch", "size"), img_size=32).difference < 1e-4
    with pytest.raises(HexavitError, match=r"fails on 2 images of 32 x 32 .*; leave size out of dynamic, or choose"):
        export_model(given, tmp_path / "model.pt2", dynamic=("batch", "size"), img_size=32)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pvt_nano", "deit_nano"])
def test_tables_are_resized_to_smaller_grids_in_each_engine(name: str, tmp_path: Path) -> None:
    """OpenVINO's PyTorch frontend resizes to smaller grids by other weights, which gives 5e-3."""
    for ending in (".onnx", ".xml"):
        report = export_model(loaded(name), tmp_path / f"model{ending}", dynamic=("batch", "size"))
        assert any(check.size == (49, 33) for check in report.checks)
        assert report.difference < 1e-4


def test_a_size_at_which_the_graph_would_be_wrong_is_not_offered(tmp_path: Path) -> None:
    with pytest.raises(HexavitError, match=r"exported at one size, as a graph keeps .*windows.*stages\.0\.blocks"):
        export_model(loaded("swin_nano"), tmp_path / "model.onnx", dynamic=("size",))


def test_no_file_is_left_by_a_graph_that_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is made of a model whose classifier is another one."""
    right = export._program

    def wrong(graph: Any, *args: Any) -> Any:
        graph.model.head.fc = nn.Linear(graph.model.head.dim, graph.model.num_classes)
        return right(graph, *args)

    monkeypatch.setattr(export, "_program", wrong)
    (tmp_path / "model.pt2").write_text("old")
    with pytest.raises(HexavitError, match=r"differs from PyTorch by .* so it was not written"):
        export_model(loaded(), tmp_path / "model.pt2", overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt2"]
    assert (tmp_path / "model.pt2").read_text() == "old"


@pytest.mark.parametrize(
    ("path", "options", "sentence"),
    [
        ("model.pth", {}, r"written as \.onnx or \.xml or \.pt2, not as '\.pth'"),
        ("model.onnx", {"dynamic": ("depth",)}, r"dynamic axes are batch and size, not 'depth'"),
        ("model.onnx", {"aot": True}, r"AOTInductor writes \.pt2, not \.onnx"),
        ("there.onnx", {}, r"already exists; pass overwrite=True"),
        ("model.pt2", {"preprocessing": True, "dynamic": ("size",)}, r"leave size out of dynamic"),
    ],
)
def test_wrong_options(path: str, options: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    (tmp_path / "there.onnx").touch()
    with pytest.raises(HexavitError, match=sentence):
        export_model(loaded(), tmp_path / path, **options)
    assert [file.name for file in tmp_path.iterdir()] == ["there.onnx"]


def test_other_models_and_headless_ones(tmp_path: Path) -> None:
    with pytest.raises(HexavitError, match="export takes a model of hexavit, not Linear"):
        export_model(nn.Linear(1, 1), tmp_path / "model.onnx")  # type: ignore[arg-type]
    with pytest.raises(HexavitError, match="no classifier, so it has no logits"):
        export_model(hexavit.create_model("deit_nano", num_classes=0), tmp_path / "model.onnx")


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(HexavitError, match="there is no compiler 'no-such-compiler'; export without --aot"):
        export_model(loaded(), tmp_path / "model.pt2", aot=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_compiled_by_aotinductor(tmp_path: Path) -> None:
    assert export_model(loaded(), tmp_path / "model.pt2", aot=True).difference < 1e-4
    assert read_description(tmp_path / "model.pt2").classes == tuple("abcde")


def test_weights_that_float16_cannot_hold(tmp_path: Path) -> None:
    given = loaded()
    given.model.head.fc.weight.data[0, 0] = 1e5
    with pytest.raises(HexavitError, match=r"head\.fc\.weight holds 100000, and float16 at most 65504"):
        export_model(given, tmp_path / "model.onnx", half=True)


def in_both_forms(name: str, edits: tuple[str, ...] = ()) -> Backbone:
    """A model in the form for engines, whose logits and features of an image are those of the model."""
    model = build(tiny(resolve(name, overrides=edits)))
    for parameter in model.parameters():  # biases and scales start at 0
        nn.init.normal_(parameter, std=0.2)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    fast = for_engine(at_size(model, (64, 64)), dynamic_size=False)
    with torch.no_grad():
        for features in (False, True):
            right = Graph(model.eval(), features, None)(images)
            torch.testing.assert_close(
                Graph(fast, features, None)(images), right, atol=2e-5 * right.abs().max(), rtol=0
            )
    if name == "cvt_nano":
        assert not [m for m in fast.modules() if isinstance(m, nn.BatchNorm2d)]
    return fast


@pytest.mark.parametrize("name", few_nanos())
def test_the_form_for_engines_computes_the_same(name: str) -> None:
    in_both_forms(name)


ALONE = [
    ("cvt_nano", ()),
    ("cvt_nano", ("stages.*.attention.method=avg",)),
    ("cvt_nano", ("stages.*.attention.method=linear",)),
    ("cvt_nano", ("stages.*.attention.share_kv=true", "head=class_token(extra_tokens=3)")),
    ("deit_nano", ()),
    (
        "deit_nano",
        ("stages.*.attention=global(heads=4, scale=dim, qkv_bias=false)", "head=class_token(pre_logits=true)"),
    ),
    ("deit_nano", ("stages.*.residual=pre_norm(layer_scale=0.1, skip_lam=2)", "stages.*.attention.head_dim=5")),
]
NOT_ALONE = [
    ("cvt_nano", ("head=pool",)),
    ("cvt_nano", ("head=class_token(mean=true)",)),
    ("cvt_nano", ("head=token_labels",)),
    ("deit_nano", ("stages.*.residual=post_norm",)),
    ("deit_nano", ("stages.*.residual=pre_norm(block_scale=0.5)",)),
    ("deit_nano", ("stages.*.position=relative_bias",)),
    ("deit_nano", ("stages.*.feedforward=conv_mlp",)),
    ("deit_nano", ("stages.*.attention=re_attention",)),
]


@pytest.mark.parametrize(("name", "edits", "alone"), [(*e, True) for e in ALONE] + [(*e, False) for e in NOT_ALONE])
def test_the_last_block_computes_what_the_head_reads(name: str, edits: tuple[str, ...], alone: bool) -> None:
    fast = in_both_forms(name, edits)
    seen: list[torch.Size] = []
    feedforward = fast.stage_modules[-1].typed_blocks[-1].feedforward
    feedforward.register_forward_hook(lambda module, args, out: seen.append(args[0].sequence.shape))
    fast(torch.zeros(1, 3, 64, 64))
    extra = fast.num_extra_tokens
    assert (seen[0][1] == extra) is alone


# Preprocessing in the graph


@pytest.mark.parametrize(
    "spec",
    [
        InputSpec((32, 32), 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bicubic", 0.875, "center"),
        InputSpec((32, 32), 1, (0.5,), (0.5,), "bilinear", 0.9, "center"),
        InputSpec((30, 45), 3, (0.0,) * 3, (1.0,) * 3, "bicubic", 0.9, "center"),
        InputSpec((32, 24), 3, (0.0,) * 3, (1.0,) * 3, "bilinear", 1.0, "squash"),
    ],
    ids=["square", "grey", "oblong", "squashed"],
)
def test_preprocessing_in_the_graph_is_that_of_the_library(spec: InputSpec) -> None:
    """Single pixels may differ by one of 255 steps: Pillow rounds its weights to 22 bits, and in small images, whose
    ratios are of small numbers, many sums lie between two steps."""
    graph, steps = GraphPreprocessing(spec), torch.tensor(spec.std).view(-1, 1, 1) * 255
    generator = np.random.default_rng(0)
    for height, width in ((100, 60), (61, 150), (20, 20), (33, 31), (32, 32), (35, 37), (1, 90), (375, 500)):
        pixels = generator.integers(0, 256, (height, width, spec.channels), np.uint8)
        right = spec.transform()(Image.fromarray(pixels.squeeze(-1) if spec.channels == 1 else pixels))
        difference = ((graph(torch.from_numpy(pixels)[None])[0] - right) * steps).abs()
        assert difference.max() < 1.01
        assert (difference > 0.5).float().mean() < (0.005 if height > 300 else 0.08)


@pytest.mark.slow
@each_ending
def test_a_file_with_preprocessing_takes_bytes_of_any_size(ending: str, tmp_path: Path) -> None:
    report = export_model(loaded(), tmp_path / f"model{ending}", preprocessing=True)
    assert report.description.preprocessing == "graph"
    assert len({check.size for check in report.checks}) == 3
    assert report.difference < 1e-3


def test_preprocessing_of_many_channels_is_not_for_graphs() -> None:
    with pytest.raises(HexavitError, match="for grey or RGB images, not for 4 channels"):
        GraphPreprocessing(InputSpec((8, 8), 4, (0.0,) * 4, (1.0,) * 4, "bicubic", 1.0, "center"))
