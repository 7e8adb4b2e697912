"""Models that are built on the meta device and filled later give the results of ordinary ones."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.slow import few_nanos
from torch import nn

import hexavit
from hexavit import Backbone
from hexavit.integrations.timm import register_all

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=hexavit.list_models("*_nano"))
def source(request: pytest.FixtureRequest) -> Backbone:
    torch.manual_seed(0)
    return hexavit.create_model(request.param, num_classes=5).eval()


@pytest.fixture
def blank(source: Backbone) -> Backbone:
    with torch.device("meta"):
        model = Backbone(source.architecture).eval()
    assert {t.device.type for t in (*model.parameters(), *model.buffers())} == {"meta"}
    return model


def assert_same(model: nn.Module, source: nn.Module) -> None:
    """At the built size, and at one that pads maps and resizes tables."""
    for t in (*model.parameters(), *model.buffers()):
        t.data = t.data.clone()  # some kernels add in another order where weights of a file are not aligned
    with torch.no_grad():
        for size in ((64, 64), (72, 60)):
            images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
            assert torch.equal(model(images), source(images))


def fill(model: nn.Module) -> None:
    """Memory as `to_empty` may give it."""
    with torch.no_grad():
        for t in (*model.parameters(), *model.buffers()):
            t.fill_(1)


def test_to_empty_then_load(source: Backbone, blank: Backbone) -> None:
    fill(blank.to_empty(device="cpu"))
    blank.load_state_dict(source.state_dict())
    assert_same(blank, source)


def test_load_by_assignment(source: Backbone, blank: Backbone) -> None:
    blank.load_state_dict(source.state_dict(), assign=True)
    assert_same(blank, source)
    assert not [name for name, t in (*blank.named_parameters(), *blank.named_buffers()) if t.is_meta]


def test_filled_by_hand(source: Backbone, blank: Backbone) -> None:
    """As transformers does for timm's models: tensors are copied one by one, then each module is asked."""
    fill(blank.to_empty(device="cpu"))
    state = source.state_dict()
    with torch.no_grad():
        for name, tensor in blank.state_dict().items():
            tensor.copy_(state[name])
    for module in blank.modules():
        if hasattr(module, "init_non_persistent_buffers"):
            module.init_non_persistent_buffers()
    assert_same(blank, source)


@pytest.mark.parametrize("source", few_nanos(), indirect=True)
def test_accelerate_dispatches_an_empty_model(source: Backbone, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    save_file(source.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    with accelerate.init_empty_weights():
        blank = Backbone(source.architecture).eval()
    assert_same(accelerate.load_checkpoint_and_dispatch(blank, tmp_path, device_map={"": "cpu"}), source)


def test_round_trip_inside_transformers_wrapper(source: Backbone, tmp_path: Path) -> None:
    """`from_pretrained` builds every model on the meta device."""
    transformers = pytest.importorskip("transformers")
    register_all()
    config = transformers.TimmWrapperConfig(architecture=source.architecture.name, num_labels=5, do_pooling=False)
    wrapped = transformers.TimmWrapperForImageClassification(config).eval()
    wrapped.timm_model.load_state_dict(source.state_dict())
    wrapped.save_pretrained(tmp_path)
    assert_same(transformers.TimmWrapperForImageClassification.from_pretrained(tmp_path).timm_model.eval(), source)
