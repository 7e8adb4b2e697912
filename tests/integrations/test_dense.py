"""Every pyramid under detectors and segmenters of other libraries takes a training step on scenes of digits."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

import hexavit
from hexavit.models import resolve
from hexavit.parts import part_class
from hexavit.parts.tokens import AddResolution, KeepTokens

pytestmark = pytest.mark.usefixtures("one_thread")
FILE = Path(__file__).parents[2] / "examples" / "detection.py"
SIDE = 64


def shallow(name: str) -> hexavit.Architecture:
    """A model of one block a stage: its widths and parts are what others see of it."""
    return resolve(name, overrides=["stages.*.depth=1"])


def embeddings(name: str) -> int:
    """How many stages make tokens of their own, each on a smaller grid, or how many resolutions there are."""
    tokens = [part_class("tokens", stage.tokens.name) for stage in resolve(name).stages]
    if any(getattr(cls, "makes", None) in ("points", "set") for cls in tokens):
        return 0  # they have no maps
    if added := sum(cls is AddResolution for cls in tokens):
        return 1 + added  # side by side; a later stage joins them
    return sum(cls is not KeepTokens for cls in tokens)


PYRAMIDS = [name for name in hexavit.list_models() if embeddings(name) > 1]
NANOS = [name for name in PYRAMIDS if name.endswith("_nano")]
LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in PYRAMIDS if name not in NANOS]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("detection_example", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True, scope="module")
def registered() -> list[str]:
    return hexavit.register_with_timm()


def test_pyramids_are_found() -> None:
    assert {"cvt_13", "pvt_tiny", "pvt_v2_b5", "twins_pcpvt_large", "p2t_small", "rest_base"} <= set(PYRAMIDS)
    assert len(NANOS) >= 6
    assert not [name for name in PYRAMIDS if name.startswith(("vit_", "deit_", "cait_"))]
    for name in NANOS:
        assert len({expected["reduction"] for expected in hexavit.create_model(name).feature_info}) == embeddings(name)


DETECTORS = [
    *(pytest.param(name, "retinanet", marks=[pytest.mark.slow] * (name not in NANOS)) for name in PYRAMIDS),
    # Quick for the example itself, in test_detection_example.py.
    *(pytest.param(name, "mask_rcnn", marks=pytest.mark.slow) for name in PYRAMIDS),
]


@pytest.mark.parametrize(("name", "kind"), DETECTORS)
def test_a_detector_takes_a_step(example: ModuleType, name: str, kind: str) -> None:
    net, losses = example.train(kind, shallow(name), steps=1, batch=2, side=SIDE)
    assert all(torch.isfinite(torch.tensor(losses)))
    assert not without_gradient(net)


@pytest.mark.parametrize("name", [*NANOS, *LARGE])
def test_a_unet_takes_a_step(example: ModuleType, name: str) -> None:
    assert_segments(example, smp.Unet, name, decoder_channels=(32, 16, 16, 8, 8)[: depth_of(name)])


@pytest.mark.parametrize("name", [*NANOS, *LARGE])
def test_a_semantic_fpn_takes_a_step(example: ModuleType, name: str) -> None:
    """PVT's head for segmentation: smp's FPN, which reads four maps."""
    if embeddings(name) == 4:
        upsampling = hexavit.create_model(name).feature_info[0]["reduction"]
        options = {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32, "upsampling": upsampling}
        assert_segments(example, smp.FPN, name, **options)


def depth_of(name: str) -> int:
    """As smp counts: its first map is at stride 2, which most models do not have."""
    return embeddings(name) + (hexavit.create_model(name).feature_info[0]["reduction"] > 2)


def assert_segments(example: ModuleType, kind: type[nn.Module], name: str, **options: object) -> None:
    timm_name = name if f"hexavit_{name}" not in hexavit.register_with_timm() else f"hexavit_{name}"
    torch.manual_seed(0)
    net = kind(
        f"tu-{timm_name}",
        encoder_weights=None,
        encoder_depth=depth_of(name),
        classes=11,
        overrides=["stages.*.depth=1"],
        **options,
    ).train()
    images, targets = next(example.scenes(batch=2, side=SIDE))
    truth = torch.stack([classes_of(target) for target in targets])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    loss = nn.functional.cross_entropy(net(torch.stack(images)), truth)
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    assert not without_gradient(net)


def classes_of(target: dict[str, Tensor]) -> Tensor:
    """A map of classes (side, side), 0 for the ground."""
    truth = torch.zeros(target["masks"].shape[1:], dtype=torch.long)
    for mask, label in zip(target["masks"], target["labels"], strict=True):
        truth[mask.bool()] = label
    return truth


def without_gradient(net: nn.Module) -> list[str]:
    return [name for name, parameter in net.named_parameters() if parameter.requires_grad and parameter.grad is None]
