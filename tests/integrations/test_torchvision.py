"""Backbones for detectors."""

from collections import OrderedDict

import pytest
import torch
from torchvision.models.detection import RetinaNet
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FeaturePyramidNetwork

import hexavit
from hexavit.integrations import SimplePyramid
from hexavit.network.stage import StageModule
from hexavit.parts.heads import Head

pytestmark = pytest.mark.usefixtures("one_thread")
SHALLOW = ["stages.0.depth=2"]


def images(height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_the_maps_as_they_are() -> None:
    backbone = hexavit.backbone("cvt_nano")
    maps = backbone(images())
    assert isinstance(maps, OrderedDict)
    assert {name: tuple(m.shape) for name, m in maps.items()} == {
        "0": (2, 32, 16, 24),
        "1": (2, 64, 8, 12),
        "2": (2, 128, 4, 6),
    }
    assert backbone.out_channels == [32, 64, 128]
    assert hexavit.backbone("cvt_nano", out_indices=(1,)).out_channels == [64]


@pytest.mark.parametrize(
    ("name", "pyramid", "strides", "overrides"),
    [
        ("cvt_nano", "fpn", [4, 8, 16, 32], []),
        ("cvt_nano", "simple", [4, 8, 16, 32, 64], []),
        ("vit_tiny_patch16_224", "simple", [4, 8, 16, 32, 64], SHALLOW),
        ("vit_tiny_patch16_224", None, [16], SHALLOW),
    ],
)
def test_pyramids(name: str, pyramid: str | None, strides: list[int], overrides: list[str]) -> None:
    backbone = hexavit.backbone(name, img_size=64, pyramid=pyramid, channels=24, overrides=overrides)
    maps = backbone(images())
    assert list(maps) == backbone.names
    if pyramid:
        assert backbone.out_channels == 24
        assert list(maps)[-1] == "pool"
    else:
        assert backbone.out_channels == [192]
    assert [(-(-64 // s), -(-96 // s)) for s in strides] == [tuple(m.shape[2:]) for m in maps.values()]
    assert all(m.is_contiguous() or m.is_contiguous(memory_format=torch.channels_last) for m in maps.values())
    sum(m.square().sum() for m in maps.values()).backward()
    assert not [key for key, parameter in backbone.named_parameters() if parameter.grad is None]
    assert not [key for key, _ in backbone.named_parameters() if "head" in key]


def test_what_torchvision_builds_on_it() -> None:
    backbone = hexavit.backbone("cvt_nano")
    maps = FeaturePyramidNetwork(backbone.out_channels, 16)(backbone(images()))
    assert {name: m.shape[1] for name, m in maps.items()} == {"0": 16, "1": 16, "2": 16}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: hexavit.backbone("cvt_nano", pyramid="pyramid"), "pyramid is 'fpn', 'simple' or None, not 'pyramid'"),
        (
            lambda: hexavit.backbone("vit_tiny_patch16_224", pyramid="fpn"),
            "pyramid='fpn' needs maps of several strides, and vit_tiny_patch16_224 has one: use 'simple'",
        ),
        (lambda: hexavit.backbone("cvt12"), "there is no model 'cvt12': did you mean"),
    ],
)
def test_error_messages(call, sentence: str) -> None:
    with pytest.raises(hexavit.HexavitError) as error:
        call()
    assert sentence in str(error.value)


def test_the_simple_pyramid_takes_odd_maps() -> None:
    maps = SimplePyramid(16, channels=8)({"0": torch.randn(1, 16, 5, 3)})
    assert [tuple(m.shape[2:]) for m in maps.values()] == [(20, 12), (10, 6), (5, 3), (3, 2), (2, 1)]


def test_default_anchors_do_not_fit_four_levels() -> None:
    """As documented in docs/integrations.md, which shows the anchors to set."""
    detector = RetinaNet(hexavit.backbone("cvt_nano", pyramid="fpn"), 3, min_size=64, max_size=64).eval()
    with pytest.raises(Exception, match="Anchors should be"):
        detector([torch.rand(3, 64, 64)])


@pytest.mark.parametrize("name", ["cvt_nano", "cait_nano", "swin_nano"])
def test_create_feature_extractor(name: str) -> None:
    """torch.fx traces a model whose stages and head are nodes of the graph."""
    model = hexavit.create_model(name).eval()
    leaves = {"leaf_modules": [StageModule, Head]}
    extractor = create_feature_extractor(model, ["head"], tracer_kwargs=leaves)
    x = torch.randn(2, 3, *model.architecture.img_size)
    assert torch.equal(extractor(x)["head"], model(x))
