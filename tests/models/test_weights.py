"""Published weights: complete, consistent with their models, and equal to timm's entries."""

import re

import pytest
import timm
import torch

import hexavit
from hexavit.errors import HexavitError
from hexavit.hub.download import link_name
from hexavit.models import Entry, Weight, build_model, find_weight, model_entry, register, resolve
from hexavit.network.backbone import Backbone

ALL = hexavit.list_weights()


def test_the_list() -> None:
    assert hexavit.list_weights("cvt_*") == [
        "cvt_13.in1k",
        "cvt_13.in1k_384",
        "cvt_13.in22k_ft_in1k_384",
        "cvt_21.in1k",
        "cvt_21.in1k_384",
        "cvt_21.in22k_ft_in1k_384",
        "cvt_w24.in22k_ft_in1k_384",
    ]
    assert hexavit.list_weights("cvt_21.*", trained_on="imagenet-22K") == ["cvt_21.in22k_ft_in1k_384"]
    assert len(ALL) == len(set(ALL))


def test_filters_of_models() -> None:
    assert hexavit.list_models(license="CC-BY-NC-4.0") == hexavit.list_models("vit_*_224", license="cc-by-nc-4.0")
    assert hexavit.list_models("cvt_*", trained_on="ImageNet-22k") == ["cvt_13", "cvt_21", "cvt_w24"]
    assert hexavit.list_models(license="cc-by-nc-4.0", trained_on="ImageNet-21k") == []  # no set of weights is both
    assert "cvt_nano" not in hexavit.list_models(license="apache-2.0")
    with pytest.raises(HexavitError, match=r"no weights have license 'apache': did you mean 'apache-2\.0'\?"):
        hexavit.list_models(license="apache")
    with pytest.raises(HexavitError, match="no weights have trained_on 'ImageNet-2k': did you mean"):
        hexavit.list_weights(trained_on="ImageNet-2k")


@pytest.mark.parametrize("name", ALL)
def test_a_weight_is_whole(name: str) -> None:
    weight = find_weight(name)
    assert re.fullmatch(r"[\w-]+/[\w.-]+", weight.hub_id or "") or re.fullmatch(r"https://\S+\.(pth|tar)", weight.place)
    assert weight.trained_on
    assert weight.license
    assert weight.code_license
    assert (weight.top1 is None) == (weight.source is None)
    assert all(re.fullmatch("[0-9a-f]{64}", known) for known in weight.sha256.values())
    published = {(each.img_size, each.top1) for each in model_entry(name).published}
    assert weight.top1 is None or (weight.img_size, weight.top1) in published
    architecture = resolve(name)
    assert architecture.num_classes == weight.num_classes
    with torch.device("meta"):
        Backbone(architecture)
    assert weight.urls[0] == weight.link or weight.urls[0].endswith(f"{weight.hub_id}/resolve/main/model.safetensors")


@pytest.mark.parametrize(
    ("model", "figures"),
    [
        ("cvt_13", {"in1k": 0.816, "in1k_384": 0.830, "in22k_ft_in1k_384": 0.833}),
        ("cvt_21", {"in1k": 0.825, "in1k_384": 0.833, "in22k_ft_in1k_384": 0.849}),
        ("cvt_w24", {"in22k_ft_in1k_384": 0.876}),
        ("swin_tiny_patch4_window7_224", {"ms_in1k": 0.812, "ms_in22k_ft_in1k": 0.809}),
        ("swin_small_patch4_window7_224", {"ms_in1k": 0.832, "ms_in22k_ft_in1k": 0.832}),
        ("swin_base_patch4_window7_224", {"ms_in1k": 0.835, "ms_in22k_ft_in1k": 0.852}),
        ("swin_base_patch4_window12_384", {"ms_in1k": 0.845, "ms_in22k_ft_in1k": 0.864}),
    ],
)
def test_accuracies_belong_to_their_weights(model: str, figures: dict[str, float]) -> None:
    """A model with several published weights; from the README.md of microsoft/CvT and microsoft/Swin-Transformer."""
    found = {name.partition(".")[2]: find_weight(name).top1 for name in hexavit.list_weights(f"{model}.*")}
    assert {tag: top1 for tag, top1 in found.items() if top1 is not None} == figures


def test_files_behind_links_have_names_of_their_own() -> None:
    """The files share one cache folder."""
    files = [link_name(weight.link) for weight in map(find_weight, ALL) if weight.link]
    assert all(re.fullmatch(r"[\w.-]+\.(pth|tar)(\.tar)?", file) for file in files)
    assert len(files) == len(set(files)) > 15


def test_a_weight_has_either_a_repository_or_a_link() -> None:
    fields = {"tag": "here", "img_size": 32, "trained_on": ("digits",), "license": "mit", "code_license": "mit"}
    for places in ({}, {"hub_id": "a/b", "link": "https://example.org/a.pth"}):
        with pytest.raises(HexavitError, match="need either hub_id or link"):
            Weight(**fields, **places)


def test_all_of_timms_weights_are_listed_except_vits() -> None:
    shared = set(hexavit.list_models()) & set(timm.list_models())
    theirs = {name for model in shared if not model.startswith("vit_") for name in timm.list_pretrained(model)}
    assert theirs - set(ALL) == set()


@pytest.mark.parametrize("name", [name for name in ALL if (find_weight(name).hub_id or "").startswith("timm/")])
def test_weights_agree_with_timm(name: str) -> None:
    weight, theirs = find_weight(name), timm.models.get_pretrained_cfg(name)
    assert theirs is not None
    with torch.device("meta"):
        ours = build_model(name).pretrained_cfg
    assert (theirs.hf_hub_id, theirs.license) == (weight.hub_id, weight.license)
    assert (theirs.num_classes, theirs.input_size) == (ours["num_classes"], ours["input_size"])
    assert (theirs.mean, theirs.std, theirs.crop_pct) == (ours["mean"], ours["std"], ours["crop_pct"])
    assert (theirs.interpolation, theirs.crop_mode) == (ours["interpolation"], ours["crop_mode"])


def test_cvt_at_384_resizes_straight() -> None:
    assert hexavit.create_model("cvt_13.in1k").pretrained_cfg["crop_mode"] == "center"
    cfg = build_model("cvt_21.in1k_384").pretrained_cfg
    assert (cfg["crop_mode"], cfg["crop_pct"], cfg["input_size"]) == ("squash", 1.0, (3, 384, 384))


def test_a_name_has_no_dot() -> None:
    architecture = resolve("cvt_nano").with_(name="cvt.nano")
    with pytest.raises(HexavitError, match="a model's name must not have a dot"):
        register(Entry(architecture, "cvt", "", ""))
