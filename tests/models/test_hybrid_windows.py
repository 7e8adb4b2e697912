"""Hybrid window attention as an override: windows everywhere but in the last block of the stages after the first."""

from dataclasses import replace

import pytest
import torch

import hexavit
from hexavit.models import resolve
from hexavit.models.mvit_v2.variants import HYBRID_WINDOWS as OF_MVIT_V2
from hexavit.models.swin.variants import HYBRID_WINDOWS as OF_SWIN
from hexavit.parts.attention import GlobalAttention, PoolingAttention, WindowAttention

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = [f"stages.{i}.dim={16 * 2**i}" for i in range(4)]


def attentions(model: hexavit.Backbone) -> list[list[torch.nn.Module]]:
    return [[block.attention for block in stage.typed_blocks] for stage in model.stage_modules]


@torch.no_grad()
def test_mvit_v2_attends_in_windows_but_in_the_last_block_of_a_stage() -> None:
    name = "mvitv2_small"
    edits = [*SMALL, "stages.2.depth=3"]
    torch.manual_seed(0)
    whole = hexavit.create_model(name, overrides=edits, num_classes=5).eval()
    hybrid = hexavit.create_model(name, overrides=[*edits, *OF_MVIT_V2], num_classes=5).eval()
    found = [[part.window for part in stage if isinstance(part, PoolingAttention)] for stage in attentions(hybrid)]
    assert found == [[56], [56, 0], [28, 14, 0], [14, 0]]
    hybrid.load_state_dict(whole.state_dict())  # the tables of windows are those of the map at 224
    x = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(hybrid(x), whole(x))  # each map is one window


@torch.no_grad()
def test_a_larger_image_has_several_windows() -> None:
    edits = [*SMALL, "stages.2.depth=3"]
    hybrid = hexavit.create_model("mvitv2_small", overrides=[*edits, *OF_MVIT_V2], num_classes=5).eval()
    x = torch.randn(1, 3, 256, 320)
    called = hybrid(x)
    before = {key: tensor.shape for key, tensor in hybrid.state_dict().items()}
    hybrid.set_input_size((256, 320))
    after = {key: tensor.shape for key, tensor in hybrid.state_dict().items()}
    # Tables of windows stay as they are; those of whole maps grow.
    assert {key for key in before if before[key] != after[key]} == {
        f"stages.{i}.blocks.{k}.attention.position.table_{axis}" for i, k in ((1, 1), (2, 2), (3, 1)) for axis in "hw"
    }
    torch.testing.assert_close(hybrid(x), called)
    # What is changed in one corner is not seen in another in the first stage, and is seen in the second.
    other = x.clone()
    other[:, :, :32, :32] = 0
    maps = [hybrid.forward_intermediates(each, intermediates_only=True) for each in (x, other)]
    assert torch.equal(*(each[0][:, :, 57:, 57:] for each in maps))
    assert not torch.equal(*(each[1][:, :, 29:, 29:] for each in maps))


@torch.no_grad()
def test_swin_without_shifts_and_with_whole_maps() -> None:
    edits = [*SMALL, "stages.*.attention.heads=2", "stages.2.depth=4", "stages.*.attention.window=4"]
    model = hexavit.create_model(
        "swin_tiny_patch4_window7_224", overrides=[*edits, *OF_SWIN], img_size=64, num_classes=5
    ).eval()
    for i, stage in enumerate(attentions(model)):
        assert isinstance(stage[-1], GlobalAttention) == (i > 0)
        assert all(isinstance(part, WindowAttention) and not part.shifted for part in stage[: -1 if i else None])
    assert model(torch.randn(2, 3, 96, 64)).shape == (2, 5)


@pytest.mark.xfail(
    torch.__version__ < "2.14", raises=AssertionError, reason="PyTorch 2.11 fixes the parity of sizes that it reshapes"
)
def test_hybrid_windows_are_exported_with_any_size() -> None:
    """Two blocks, one with a stride; the export of the nano model has blocks without windows."""
    edits = ["stages.0.attention.window=4", "stages.1.attention.window=2", "stages.1.depth=1"]
    whole = resolve("mvit_v2_nano", overrides=edits, img_size=64)
    model = hexavit.Backbone(replace(whole, stages=whole.stages[:2])).eval()
    auto = torch.export.Dim.AUTO
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        program = torch.export.export(model, (x,), dynamic_shapes=({0: auto, 2: auto, 3: auto},)).module()
        for shape in ((1, 3, 64, 96), (3, 3, 72, 100)):
            other = torch.randn(shape)
            torch.testing.assert_close(program(other), model(other))
