"""Conversion: round trips bit for bit, results that load in transformers and timm, and what cannot be said."""

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


def test_the_activation_of_transformers_cvt_is_told_and_may_be_meant(cvt_13: Path, tmp_path: Path) -> None:
    report = convert(cvt_13, tmp_path / "a.safetensors", "huggingface")
    assert "exact GELU" in report.notes[0]
    assert "activation=gelu" in report.notes[0]
    assert not convert(cvt_13, tmp_path / "a.safetensors", "huggingface", activation="gelu").notes
    with pytest.raises(CheckpointError, match=r"no word for stages\.0\.feedforward\.act=relu"):
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
        answer = ours(x)
        assert off(answer, named.eval()(x)) <= 2e-5
        assert off(answer, arrays.eval()(x)) <= 2e-5
        assert off(answer, peer(x).logits) <= 2e-5


def test_folders_of_transformers_load_whole_in_shards_and_without_a_head(tmp_path: Path) -> None:
    ours, x = vit(), images(64)
    convert(ours.state_dict(), tmp_path / "hf", "huggingface")
    peer = transformers.ViTForImageClassification.from_pretrained(tmp_path / "hf").eval()
    peer.save_pretrained(tmp_path / "shards", max_shard_size="4MB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    peer.vit.save_pretrained(tmp_path / "trunk")
    with torch.no_grad():
        answer = peer(x).logits
        for source in (tmp_path / "shards", peer.state_dict()):
            model = vit()
            report = hexavit.load_checkpoint(model, source)
            assert (report.origin, report.left_over, report.missing) == ("huggingface", {}, {})
            assert off(answer, model(x)) <= 2e-5
    report = hexavit.load_checkpoint(vit(), tmp_path / "trunk", adapt="classes")
    assert set(report.missing) == {"head.fc.weight", "head.fc.bias"}


def test_what_a_configuration_says_beyond_the_keys_is_told(tmp_path: Path) -> None:
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
    with pytest.raises(CheckpointError, match=r"'authors' of cvt has no word for .*share_kv=true"):
        convert(tmp_path / "v.pth", tmp_path / "a.pth", "authors")


def test_options_without_a_word_are_refused(cvt_13: Path, tmp_path: Path) -> None:
    for edit in ("stages.*.attention.method=avg", "stages.1.attention=global", "stages.0.position=learned"):
        model = hexavit.create_model("cvt_13", overrides=["stages.2.depth=3", edit])
        with pytest.raises(CheckpointError, match="has no word for"):
            convert(model.state_dict(), tmp_path / "hf", "huggingface", model=model.architecture)
    with pytest.raises(CheckpointError, match=r"written as a folder, \.safetensors, \.pth, not as '?\.npz"):
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
    with pytest.raises(CheckpointError, match="say whose they are with model="):
        convert(authors_state(), tmp_path / "hf", "huggingface")
    with pytest.raises(CheckpointError, match="say whose they are with model="):
        convert(tmp_path / "own.safetensors", tmp_path / "a.pth", "authors")


def test_inspect_says_what_shapes_tell(tmp_path: Path) -> None:
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
        convert(bad, tmp_path / "a.safetensors", "hexavit")
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


def test_the_one_eps_of_transformers_pyramids_is_told(tmp_path: Path) -> None:
    model = hexavit.create_model("pvt_v2_b0", num_classes=7)
    notes = convert(model.state_dict(), tmp_path / "a.safetensors", "huggingface", model=model.architecture).notes
    assert len(notes) == 2
    assert all("one eps" in note and "activation" not in note for note in notes)


@pytest.mark.parametrize("name", ["pvt_tiny", "pvt_v2_b2_li", "twins_pcpvt_small", "p2t_tiny", "rest_lite"])
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


def test_convert_reads_what_a_saved_folder_says(tmp_path: Path) -> None:
    ours = vit(overrides=["stages.0.attention.heads=6", "norm_eps=1e-5"])
    hexavit.save_pretrained(ours, tmp_path / "own", class_names=[f"kind {i}" for i in range(7)])
    convert(tmp_path / "own", tmp_path / "hf", "huggingface")
    peer = transformers.ViTForImageClassification.from_pretrained(tmp_path / "hf").eval()
    assert peer.config.id2label[6] == "kind 6"
    processor = json.loads((tmp_path / "hf" / "preprocessor_config.json").read_text())
    assert (processor["image_mean"], processor["size"]) == ([0.5, 0.5, 0.5], {"height": 64, "width": 64})
    with torch.no_grad():
        assert off(ours(images(64)), peer(images(64)).logits) <= 2e-5


def test_the_pipeline_of_transformers_gives_our_probabilities(tmp_path: Path) -> None:
    from PIL import Image

    ours, names = vit(), [f"kind {i}" for i in range(7)]
    hexavit.save_pretrained(ours, tmp_path / "own", class_names=names)
    convert(tmp_path / "own", tmp_path / "hf", "huggingface")
    pixels = (255 * torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(1))).byte()
    found = transformers.pipeline("image-classification", str(tmp_path / "hf"))(
        Image.fromarray(pixels.numpy()), top_k=7
    )
    x = (pixels.permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5  # of the model's size: nothing is resized
    with torch.no_grad():
        expected = ours(x).softmax(-1)[0]
    for answer in found:
        assert abs(answer["score"] - expected[names.index(answer["label"])].item()) <= 1e-5
