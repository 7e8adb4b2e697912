"""Class logits per position: against the classifier applied by hand, and against the model's own logits."""

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import hexavit
from hexavit.errors import HexavitError
from hexavit.images.preprocess import InputSpec
from hexavit.inference import LoadedModel
from hexavit.teachers.spatial import SpatialClassifier


def loaded(model: nn.Module, size: tuple[int, int], count: int = 5) -> LoadedModel:
    spec = InputSpec(size, 3, (0.5,) * 3, (0.5,) * 3, "bilinear", 0.9, "center")
    return LoadedModel(tuple(map(str, range(count))), spec, "file", source="it", model=model.eval())


def built(name: str) -> nn.Module:
    """A model of a library with five classes and random weights, running statistics included."""
    torch.manual_seed(0)
    library, _, stem = name.partition(":")
    if library == "timm":
        model = timm.create_model(stem, num_classes=5)
    elif library == "torchvision":
        quick = {"init_weights": False} if stem == "googlenet" else {}
        model = torchvision.models.get_model(stem, num_classes=5, **quick)
    else:
        model = hexavit.create_model(stem, num_classes=5)
    for each in model.modules():
        if isinstance(each, nn.BatchNorm2d):
            nn.init.uniform_(each.running_var, 0.5, 1.5)
    return model.eval()


@torch.no_grad()
def maps_of(name: str, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The map (2, 5, h, w) of a model, and its logits."""
    model, images = built(name), torch.randn(2, 3, *size)
    return SpatialClassifier(loaded(model, size))(images), model(images)


# Where a linear follows the mean over positions, the mean of the logits per position is the logits of the image.
POOLED = [
    ("timm:test_resnet", (96, 64), (3, 2)),
    ("timm:test_efficientnet", (64, 64), (2, 2)),
    ("torchvision:resnet18", (96, 64), (3, 2)),
    ("torchvision:shufflenet_v2_x0_5", (64, 96), (2, 3)),
    ("torchvision:mnasnet0_5", (64, 64), (2, 2)),
    ("hexavit:pvt_v2_nano", (64, 96), None),
    ("hexavit:swin_nano", (64, 64), None),
]
POOLED_SLOW = [
    ("timm:regnetx_002", (64, 96), (2, 3)),
    ("timm:swin_tiny_patch4_window7_224", (224, 224), (7, 7)),
    ("timm:densenet121", (64, 64), (2, 2)),
    ("timm:pvt_v2_b0", (64, 96), (2, 3)),
    ("torchvision:densenet121", (64, 96), (2, 3)),
    ("torchvision:efficientnet_b0", (64, 64), (2, 2)),
    ("torchvision:googlenet", (64, 96), (2, 3)),
    ("torchvision:mobilenet_v2", (64, 96), (2, 3)),
    ("torchvision:regnet_y_400mf", (64, 96), (2, 3)),
    ("torchvision:squeezenet1_1", (64, 96), (3, 5)),
    ("torchvision:swin_t", (64, 96), (2, 3)),
]


@pytest.mark.parametrize(
    ("name", "size", "grid"), [*POOLED, *(pytest.param(*each, marks=pytest.mark.slow) for each in POOLED_SLOW)]
)
def test_the_mean_over_positions_is_the_logits_of_the_image(
    name: str, size: tuple[int, int], grid: tuple[int, int] | None
) -> None:
    found, logits = maps_of(name, size)
    if grid is not None:
        assert found.shape == (2, 5, *grid)
    assert found.flatten(2).std(2).max() > 0  # positions differ
    torch.testing.assert_close(found.mean((2, 3)), logits, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_rows_and_columns_are_those_of_the_image() -> None:
    """A change of one corner of the image changes the logits of that corner most."""
    for name in ("timm:test_resnet", "torchvision:resnet18", "hexavit:pvt_v2_nano", "timm:test_vit"):
        size = (160, 160) if "vit" in name.partition(":")[2][:8] and "timm" in name else (128, 128)
        classifier = SpatialClassifier(loaded(built(name), size))
        images = torch.randn(1, 3, *size) * 0.1
        changed = images.clone()
        changed[:, :, : size[0] // 4, -size[1] // 4 :] += 2.0
        moved = (classifier(changed) - classifier(images)).abs().sum((0, 1))
        row, column = divmod(int(moved.argmax()), moved.shape[1])
        assert row < moved.shape[0] / 2 <= column + 0.5, name


@torch.no_grad()
def test_classifiers_that_are_not_linear_are_applied_at_each_position() -> None:
    images = torch.randn(2, 3, 64, 64)
    model: nn.Module = built("timm:mobilenetv3_small_050")
    maps = model.forward_features(images)  # type: ignore[operator]
    by_hand = model.classifier(model.act2(model.conv_head(maps)).permute(0, 2, 3, 1))  # type: ignore[operator]
    found = SpatialClassifier(loaded(model, (64, 64)))(images)
    torch.testing.assert_close(found, by_hand.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-5)
    model = built("timm:test_convnext")
    maps = model.forward_features(images)  # type: ignore[operator]
    rows = maps.permute(0, 2, 3, 1)
    norm: nn.Module = model.head.norm  # type: ignore[union-attr,assignment]
    by_hand = model.head.fc(nn.functional.layer_norm(rows, rows.shape[-1:], norm.weight, norm.bias, norm.eps))  # type: ignore
    found = SpatialClassifier(loaded(model, (64, 64)))(images)
    torch.testing.assert_close(found, by_hand.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "cvt_nano",
        "deit_nano",
        "lvvit_nano",
        pytest.param("cait_nano", marks=pytest.mark.slow),
        pytest.param("ceit_nano", marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_image_tokens_pass_through_the_classifier(name: str) -> None:
    model: nn.Module = built(f"hexavit:{name}")
    images = torch.randn(2, 3, 64, 32)
    model.set_input_size((64, 32))  # type: ignore[operator]
    maps = model.eval().forward_features(images, output_fmt="NCHW")  # type: ignore[operator]
    rows, head = maps.permute(0, 2, 3, 1), model.head
    by_hand = head.fc(rows)  # type: ignore[operator,union-attr]
    if name == "deit_nano":
        by_hand = (by_hand + head.fc2(rows)) / 2  # type: ignore[operator,union-attr]
    if name == "lvvit_nano":
        by_hand = head.fc2(rows)  # type: ignore[operator,union-attr]
    found = SpatialClassifier(loaded(model, (64, 32)))(images)
    torch.testing.assert_close(found, by_hand.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_tokens_of_other_libraries_pass_through_the_classifier() -> None:
    model: nn.Module = built("timm:test_vit")
    images = torch.randn(2, 3, 160, 160)
    rows = model.eval().forward_features(images)[:, model.num_prefix_tokens :]  # type: ignore[operator,index]
    by_hand = model.head(rows).view(2, 10, 10, 5).permute(0, 3, 1, 2)  # type: ignore[operator]
    torch.testing.assert_close(SpatialClassifier(loaded(model, (160, 160)))(images), by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_tokens_of_torchvision_pass_through_the_classifier() -> None:
    model: nn.Module = built("torchvision:vit_b_32")
    images = torch.randn(1, 3, 224, 224)
    kept: list[Tensor] = []
    handle = model.encoder.register_forward_hook(lambda _, __, output: kept.append(output))  # type: ignore[union-attr]
    model.eval()(images)
    handle.remove()
    by_hand = model.heads(kept[0][:, 1:]).view(1, 7, 7, 5).permute(0, 3, 1, 2)  # type: ignore[operator]
    torch.testing.assert_close(SpatialClassifier(loaded(model, (224, 224)))(images), by_hand, rtol=1e-4, atol=1e-5)


def test_a_larger_input_gives_more_positions() -> None:
    for name, side in (("timm:test_resnet", 128), ("hexavit:deit_nano", 64)):
        model = loaded(built(name), (side // 2, side // 2))
        small = SpatialClassifier(model).grid
        assert SpatialClassifier(model, (side, side)).grid == (2 * small[0], 2 * small[1])


@pytest.mark.parametrize("name", ["hexavit:ps_vit_nano", "torchvision:alexnet"])
def test_models_without_a_map(name: str) -> None:
    size = (32, 32) if name.startswith("hexavit") else (64, 64)
    with pytest.raises(HexavitError, match="it: this model has no class logits per position of a map") as raised:
        SpatialClassifier(loaded(built(name), size))
    assert "\n" not in str(raised.value)
