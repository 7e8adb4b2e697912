"""Conversion: exact round trips, results that load in transformers and timm, options that a layout cannot express."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from tests.checkpoints.files import authors_state, tiny
from tests.parity import golden
from tests.parity.test_reference import MODELS
from torch import Tensor

import hexavit
from hexavit.checkpoints import convert, inspect_checkpoint
from hexavit.errors import CheckpointError
from hexavit.images.preprocess import InputSpec

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def cvt_13(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CvT-13 in its authors' layout, with the reference's weights."""
    path = tmp_path_factory.mktemp("cvt") / "CvT-13-224x224-IN-1k.pth"
    torch.save(golden.state_of(MODELS["cvt-13-224"]), path)
    return path


def vit(**options: Any) -> Any:
    torch.manual_seed(0)
    model = hexavit.create_model("vit_tiny_patch16_224", img_size=64, num_classes=7, **options).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return model


def images(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def off(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / a.abs().max()).item()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Bit for bit, types too."""
    return a.keys() == b.keys() and all(t.dtype == b[k].dtype and torch.equal(t, b[k]) for k, t in a.items())


def test_cvt_13_around_all_layouts_gives_the_same_bytes(cvt_13: Path, tmp_path: Path) -> None:
    steps = [("huggingface", "hf"), ("hexavit", "own.safetensors"), ("timm", "t.safetensors"), ("authors", "back.pth")]
    source = cvt_13
    for to, name in steps:
        report = convert(source, tmp_path / name, to)
        assert report.model == "cvt_13"
        source = tmp_path / name
    assert same(torch.load(cvt_13, weights_only=True), torch.load(source, weights_only=True))


def test_converted_cvt_loads_in_transformers(tmp_path: Path) -> None:
    edits = ["stages.*.feedforward.act=gelu", "stages.2.depth=3"]
    torch.manual_seed(0)
    ours = hexavit.create_model("cvt_13", num_classes=7, overrides=edits).eval()
    report = convert(ours.state_dict(), tmp_path / "hf", "huggingface", model=ours.architecture)
    assert not report.notes
    peer, info = transformers.CvtForImageClassification.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        assert off(ours(images(64)), peer.eval()(images(64)).logits) <= 2e-5


def test_the_activation_of_transformers_cvt_is_reported(cvt_13: Path, tmp_path: Path) -> None:
    report = convert(cvt_13, tmp_path / "a.safetensors", "huggingface")
    assert "exact GELU" in report.notes[0]
    assert "activation=gelu" in report.notes[0]
    assert not convert(cvt_13, tmp_path / "g.safetensors", "huggingface", activation="gelu").notes
    with pytest.raises(CheckpointError, match=r"cannot express stages\.0\.feedforward\.act=relu"):
        convert(cvt_13, tmp_path / "b.safetensors", "huggingface", activation="relu")


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("timm", "t.safetensors"),
        ("timm", "t.pth"),
        ("authors", "a.npz"),
        ("huggingface", "hf"),
        ("hexavit", "o.safetensors"),
    ],
)
def test_vit_there_and_back(to: str, name: str, tmp_path: Path) -> None:
    state = vit().state_dict()
    convert(state, tmp_path / name, to)
    convert(tmp_path / name, tmp_path / "back.safetensors", "hexavit")
    assert same(dict(state), load_file(tmp_path / "back.safetensors"))
    facts = inspect_checkpoint(tmp_path / name)
    assert (facts.model, facts.classes, facts.img_size) == ("vit_tiny_patch16_224", 7, (64, 64))


def test_converted_vit_loads_in_timm_and_transformers(tmp_path: Path) -> None:
    ours, x = vit(), images(64)
    for to, name in (("timm", "t.safetensors"), ("authors", "a.npz"), ("huggingface", "hf")):
        convert(ours.state_dict(), tmp_path / name, to)
    named = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=7)
    named.load_state_dict(load_file(tmp_path / "t.safetensors"))
    arrays = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=7)
    arrays.load_pretrained(str(tmp_path / "a.npz"))  # timm's own reader of the authors' files
    peer = transformers.ViTForImageClassification.from_pretrained(tmp_path / "hf").eval()
    with torch.no_grad():
        logits = ours(x)
        assert off(logits, named.eval()(x)) <= 2e-5
        assert off(logits, arrays.eval()(x)) <= 2e-5
        assert off(logits, peer(x).logits) <= 2e-5


def test_folders_of_transformers_load_whole_in_shards_and_without_a_head(tmp_path: Path) -> None:
    ours, x = vit(), images(64)
    convert(ours.state_dict(), tmp_path / "hf", "huggingface")
    peer = transformers.ViTForImageClassification.from_pretrained(tmp_path / "hf").eval()
    peer.save_pretrained(tmp_path / "shards", max_shard_size="4MB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    peer.vit.save_pretrained(tmp_path / "trunk")
    with torch.no_grad():
        logits = peer(x).logits
        for source in (tmp_path / "shards", peer.state_dict()):
            model = vit()
            report = hexavit.load_checkpoint(model, source)
            assert (report.origin, report.left_over, report.missing) == ("huggingface", {}, {})
            assert off(logits, model(x)) <= 2e-5
    report = hexavit.load_checkpoint(vit(), tmp_path / "trunk", adapt="classes")
    assert set(report.missing) == {"head.fc.weight", "head.fc.bias"}


def test_what_a_configuration_holds_beyond_the_keys_is_reported(tmp_path: Path) -> None:
    convert(vit().state_dict(), tmp_path / "hf", "huggingface", activation="gelu_tanh")
    path = tmp_path / "hf" / "config.json"
    config = json.loads(path.read_text())
    assert config["hidden_act"] == "gelu_pytorch_tanh"
    path.write_text(json.dumps({**config, "layer_norm_eps": 1e-12}))
    notes = hexavit.load_checkpoint(vit(), tmp_path / "hf").notes
    assert "hidden_act 'gelu_tanh'; this model computes gelu" in notes[0]
    assert "norm_eps=1e-12" in notes[1]
    assert not convert(tmp_path / "hf", tmp_path / "again", "huggingface").notes
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    assert (again["hidden_act"], again["layer_norm_eps"]) == ("gelu_pytorch_tanh", 1e-12)


def test_both_numberings_of_the_authors_arrays_are_read(tmp_path: Path) -> None:
    ours = vit()
    convert(ours.state_dict(), tmp_path / "a.npz", "authors")
    renamed = {}
    with np.load(tmp_path / "a.npz") as arrays:
        for key in arrays.files:
            new = key.replace("LayerNorm_2", "LayerNorm_1").replace("MlpBlock_3", "MlpBlock_0")
            renamed[new.replace("Attention_1", "Attention_0")] = arrays[key]
    np.savez(tmp_path / "b.npz", **renamed)
    model = vit()
    torch.nn.init.zeros_(model.head.fc.weight)
    assert hexavit.load_checkpoint(model, tmp_path / "b.npz").origin == "authors"
    assert same(dict(ours.state_dict()), dict(model.state_dict()))


def test_vit_pytorchs_layout_there_and_back(tmp_path: Path) -> None:
    model = hexavit.create_model("cvt_13_vit_pytorch", num_classes=3)
    convert(model.state_dict(), tmp_path / "v.pth", "vit_pytorch")
    assert inspect_checkpoint(tmp_path / "v.pth").model == "cvt_13_vit_pytorch"
    convert(tmp_path / "v.pth", tmp_path / "o.safetensors", "hexavit")
    assert same(dict(model.state_dict()), load_file(tmp_path / "o.safetensors"))
    with pytest.raises(CheckpointError, match=r"'authors' of cvt cannot express .*share_kv=true"):
        convert(tmp_path / "v.pth", tmp_path / "a.pth", "authors")


def test_options_that_a_layout_cannot_express_are_rejected(cvt_13: Path, tmp_path: Path) -> None:
    for edit in ("stages.*.attention.method=avg", "stages.1.attention=global", "stages.0.position=learned"):
        model = hexavit.create_model("cvt_13", overrides=["stages.2.depth=3", edit])
        with pytest.raises(CheckpointError, match="cannot express"):
            convert(model.state_dict(), tmp_path / "hf", "huggingface", model=model.architecture)
    with pytest.raises(CheckpointError, match=r"are a folder, \.safetensors, \.pth, not \.npz"):
        convert(cvt_13, tmp_path / "a.npz", "huggingface")
    with pytest.raises(CheckpointError, match="did you mean 'huggingface'"):
        convert(cvt_13, tmp_path / "a", "hugingface")
    small = hexavit.create_model("cvt_nano").state_dict()
    with pytest.raises(CheckpointError, match="needs at least 2 blocks in stage 1"):
        convert(small, tmp_path / "hf", "huggingface")
    assert not (tmp_path / "hf").exists()


def test_models_without_a_name_are_converted_as_far_as_keys_go(tmp_path: Path) -> None:
    report = convert(authors_state(), tmp_path / "own.safetensors", "hexavit")
    assert report.model is None
    assert same(dict(tiny().state_dict()), load_file(tmp_path / "own.safetensors"))
    with pytest.raises(CheckpointError, match="pass model="):
        convert(authors_state(), tmp_path / "hf", "huggingface")
    with pytest.raises(CheckpointError, match="pass model="):
        convert(tmp_path / "own.safetensors", tmp_path / "a.pth", "authors")


def test_inspect_reports_what_shapes_show(tmp_path: Path) -> None:
    model = hexavit.create_model(
        "cvt_13", num_classes=4, in_chans=1, overrides=["head=pool", "stages.*.attention.method=linear"]
    )
    facts = inspect_checkpoint(model.state_dict())
    assert facts.model == "cvt_13"
    assert {"head=pool", "stages.0.attention.method=linear"} <= set(facts.edits)
    assert (facts.classes, facts.in_chans, facts.dims, facts.depths) == (4, 1, (64, 192, 384), (1, 2, 10))
    assert json.loads(json.dumps(facts.as_dict()))["parameters"] == facts.parameters
    assert "none of the named models" in str(inspect_checkpoint(authors_state()))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_text("before")
    bad = authors_state()
    bad["norm.weight"][0] = float("inf")
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        convert(bad, tmp_path / "a.safetensors", "hexavit", overwrite=True)
    assert (tmp_path / "a.safetensors").read_text() == "before"
    half = {key: t.bfloat16() for key, t in vit().state_dict().items()}
    with pytest.raises(CheckpointError, match="no bfloat16"):
        convert(half, tmp_path / "a.npz", "authors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


PEERS = {
    "pvt_tiny": "PvtForImageClassification",
    "pvt_v2_b0": "PvtV2ForImageClassification",
    "pvt_v2_b2_li": "PvtV2ForImageClassification",
}


@pytest.mark.parametrize("name", PEERS)
def test_a_converted_pyramid_loads_in_transformers(name: str, tmp_path: Path) -> None:
    edits = ["stages.*.tokens.eps=1e-6", "stages.*.attention.eps=1e-6"]
    torch.manual_seed(0)
    ours = hexavit.create_model(name, num_classes=7, img_size=64, overrides=edits).eval()
    report = convert(ours.state_dict(), tmp_path / "hf", "huggingface", model=ours.architecture)
    assert not report.notes
    peer, info = getattr(transformers, PEERS[name]).from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        assert off(ours(images(64)), peer.eval()(images(64)).logits) <= 2e-5


def test_the_one_eps_of_transformers_pyramids_is_reported(tmp_path: Path) -> None:
    model = hexavit.create_model("pvt_v2_b0", num_classes=7)
    notes = convert(model.state_dict(), tmp_path / "a.safetensors", "huggingface", model=model.architecture).notes
    assert len(notes) == 2
    assert all("one eps" in note and "activation" not in note for note in notes)


@pytest.mark.parametrize(
    "name",
    [
        "pvt_tiny",
        "pvt_v2_b2_li",
        "twins_pcpvt_small",
        "p2t_tiny",
        "rest_lite",
        "cswin_nano",
        "dwnet_nano",
        "elsa_swin_nano",
        "shuffle_nano",
        "msg_nano",
    ],
)
def test_a_pyramid_in_its_authors_layout_and_back(name: str, tmp_path: Path) -> None:
    model = hexavit.create_model(name)
    state = model.state_dict()
    convert(state, tmp_path / "a.pth", "authors", model=name)
    report = convert(tmp_path / "a.pth", tmp_path / "own.safetensors", "hexavit", model=name)
    assert report.origin == "authors" or name.startswith("twins")  # whose names are timm's
    assert same(load_file(tmp_path / "own.safetensors"), state)


@pytest.mark.parametrize("name", ["pvt_v2_b0", "twins_pcpvt_small"])
def test_a_converted_pyramid_loads_in_timm(name: str, tmp_path: Path) -> None:
    ours = hexavit.create_model(name, num_classes=7).eval()
    convert(ours.state_dict(), tmp_path / "t.safetensors", "timm", model=ours.architecture)
    peer = timm.create_model(name, num_classes=7).eval()
    peer.load_state_dict(load_file(tmp_path / "t.safetensors"))
    with torch.no_grad():
        assert off(ours(images(64)), peer(images(64))) <= 2e-5


def test_convert_reads_the_configuration_of_a_saved_folder(tmp_path: Path) -> None:
    ours = vit(overrides=["stages.0.attention.heads=6", "norm_eps=1e-5"])
    hexavit.save_pretrained(ours, tmp_path / "own", class_names=[f"kind {i}" for i in range(7)])
    convert(tmp_path / "own", tmp_path / "hf", "huggingface")
    peer = transformers.ViTForImageClassification.from_pretrained(tmp_path / "hf").eval()
    assert peer.config.id2label[6] == "kind 6"
    processor = json.loads((tmp_path / "hf" / "preprocessor_config.json").read_text())
    assert (processor["image_mean"], processor["size"]) == ([0.5, 0.5, 0.5], {"height": 64, "width": 64})
    with torch.no_grad():
        assert off(ours(images(64)), peer(images(64)).logits) <= 2e-5


ONE_EPS = ["stages.*.tokens.eps=1e-6", "stages.*.attention.eps=1e-6"]
SMALL_V2 = [
    *(
        "stages.0.depth=2",
        "stages.2.depth=2",
        "stages.0.dim=16",
        "stages.1.dim=32",
        "stages.2.dim=64",
        "stages.3.dim=128",
    ),
    *("stages.0.attention.heads=1", "stages.1.attention.heads=2", "stages.2.attention.heads=4"),
    "stages.3.attention.heads=4",
]
PIPELINES: dict[str, tuple[str, int, list[str]]] = {
    "vit": ("vit_tiny_patch16_224", 64, ["stages.0.depth=2"]),
    "deit": ("deit_tiny_distilled_patch16_224", 64, ["stages.0.depth=2"]),
    "cvt": ("cvt_13", 64, ["stages.2.depth=3", "stages.*.feedforward.act=gelu"]),
    "pvt": ("pvt_nano", 64, ONE_EPS),
    "pvt_v2": ("pvt_v2_nano", 64, ONE_EPS),
    "swin": ("swin_nano", 64, []),
    "swin_v2": ("swinv2_tiny_window8_256", 64, SMALL_V2),  # the windows of the last two stages are smaller than 8
}


def photo() -> Any:
    """A smooth picture of 128 x 160 pixels, whose centre crops have whole margins."""
    from PIL import Image

    coarse = torch.rand(1, 3, 8, 10, generator=torch.Generator().manual_seed(1))
    fine = torch.nn.functional.interpolate(coarse, (128, 160), mode="bicubic").clamp(0, 1)
    return Image.fromarray((255 * fine[0].permute(1, 2, 0)).byte().numpy())


def expect_our_probabilities(ours: Any, folder: Path) -> None:
    """The probabilities of the pipeline equal those of the model on the image that hexavit preprocesses."""
    names = [f"kind {i}" for i in range(7)]
    hexavit.save_pretrained(ours, folder / "own", class_names=names)
    convert(folder / "own", folder / "hf", "huggingface")
    with torch.no_grad():
        expected = ours(InputSpec.of_model(ours).transform()(photo())[None]).softmax(-1)[0]
    found = transformers.pipeline("image-classification", str(folder / "hf"))(photo(), top_k=7)
    for each in found:  # Pillow and torchvision resize with other roundings, by 1 of 255
        assert abs(each["score"] - expected[names.index(each["label"])].item()) <= 2e-3


def seeded(name: str, side: int, edits: list[str]) -> Any:
    torch.manual_seed(0)
    model = hexavit.create_model(name, num_classes=7, img_size=side, overrides=edits).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model


@pytest.mark.parametrize("family", PIPELINES)
def test_the_pipeline_of_transformers_gives_our_probabilities(family: str, tmp_path: Path) -> None:
    ours = seeded(*PIPELINES[family])
    ours.pretrained_cfg |= {"crop_pct": 0.8, "crop_mode": "center", "interpolation": "bicubic"}
    expect_our_probabilities(ours, tmp_path)


@pytest.mark.parametrize(
    ("crop_pct", "crop_mode", "interpolation"),
    [(1.0, "squash", "bilinear"), (0.75, "squash", "bicubic"), (1.0, "center", "bilinear")],
)
def test_every_preprocessing_is_written(crop_pct: float, crop_mode: str, interpolation: str, tmp_path: Path) -> None:
    ours = seeded(*PIPELINES["vit"])
    ours.pretrained_cfg |= {"crop_pct": crop_pct, "crop_mode": crop_mode, "interpolation": interpolation}
    expect_our_probabilities(ours, tmp_path)


def test_a_swin_at_192_pixels_is_known_and_rejected_for_transformers(tmp_path: Path) -> None:
    ours = hexavit.create_model("swin_tiny_patch4_window7_224", img_size=192)  # its last map is 6 x 6
    facts = inspect_checkpoint(ours.state_dict())
    assert (facts.model, facts.img_size) == ("swin_tiny_patch4_window7_224", (192, 192))
    with pytest.raises(CheckpointError, match="needs maps of at least a window of 7, not of 6"):
        convert(ours.state_dict(), tmp_path / "hf", "huggingface")
    assert not (tmp_path / "hf").exists()
    larger = hexavit.create_model("swin_tiny_patch4_window7_224", img_size=224, overrides=["stages.2.depth=2"])
    convert(larger.state_dict(), tmp_path / "hf", "huggingface", model=larger.architecture)


@pytest.mark.parametrize(
    ("name", "side", "edit", "sentence"),
    [
        ("swin_nano", 64, "stages.1.attention.window=5", r"cannot express stages\.1\.attention\.window=5 beside 3"),
        ("swin_nano", 64, "stages.1.attention.shifted=true", "shifts the windows of every second block"),
        ("swin_nano", 64, "stages.1.dim=96", "doubles the width in every stage, from 32, and not 96 in stage 1"),
        ("pvt_nano", (64, 32), "stages.*.tokens.eps=1e-6", "reads square images"),
        ("pvt_v2_nano", 64, "stages.1.feedforward.ratio=2.5", "needs whole MLP ratios, not 2.5"),
    ],
)
def test_what_transformers_cannot_build_is_rejected(
    name: str, side: Any, edit: str, sentence: str, tmp_path: Path
) -> None:
    ours = hexavit.create_model(name, img_size=side, overrides=[edit])
    with pytest.raises(CheckpointError, match=sentence):
        convert(ours.state_dict(), tmp_path / "hf", "huggingface", model=ours.architecture)


def test_an_existing_file_is_not_overwritten_by_default(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_text("before")
    with pytest.raises(CheckpointError, match="already exists: pass overwrite=True"):
        convert(authors_state(), tmp_path / "a.pth", "hexavit")
    assert (tmp_path / "a.pth").read_text() == "before"
    convert(authors_state(), tmp_path / "a.pth", "hexavit", overwrite=True)
    with pytest.raises(CheckpointError, match="already exists"):
        convert(tmp_path / "a.pth", tmp_path / "a.pth", "hexavit")


def test_a_file_of_cswin_with_one_branch_in_its_third_stage(tmp_path: Path) -> None:
    """As the authors' classification code makes it where both sides of a map are the width of the stripes."""
    ours = hexavit.create_model("cswin_nano", img_size=64, overrides=["stages.2.attention.split=4"])
    convert(ours.state_dict(), tmp_path / "a.pth", "authors", model=ours.architecture)
    theirs = torch.load(tmp_path / "a.pth")
    assert [key for key in theirs if key.startswith("stage3.0.attns")] == [
        "stage3.0.attns.0.get_v.weight",
        "stage3.0.attns.0.get_v.bias",
    ]
    assert theirs["stage3.0.attns.0.get_v.weight"].shape == (96, 1, 3, 3)
    for img_size in (64, 80):  # the names here do not depend on the size
        model = hexavit.create_model("cswin_nano", img_size=img_size, overrides=["stages.2.attention.split=4"])
        assert hexavit.load_checkpoint(model, tmp_path / "a.pth").origin == "authors"
        assert same(model.state_dict(), ours.state_dict())
    assert hexavit.checkpoints.inspect_checkpoint(tmp_path / "a.pth").model == "cswin_nano"


@pytest.mark.parametrize("option", ["window=(3,4)", "window=(none,3)", "spread=true"])
@pytest.mark.parametrize("target", ["authors", "timm", "torchvision", "huggingface"])
def test_other_libraries_have_square_windows_of_neighbours(option: str, target: str, tmp_path: Path) -> None:
    edits = [f"stages.*.attention.{option}", "stages.*.blocks.*.attention.shifted=false"]
    model = hexavit.create_model("swin_nano", overrides=edits)
    with pytest.raises(CheckpointError, match=rf"cannot express .*{option.partition('=')[0]}="):
        convert(model.state_dict(), tmp_path / "a.safetensors", target, model=model.architecture)
