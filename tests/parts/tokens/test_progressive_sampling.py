"""Sampling at points equals `grid_sample`; rounds move the points; what has no map raises an error."""

import pytest
import torch
from torch.nn import functional as F

import hexavit
from hexavit import HexavitError, Tokens
from hexavit.parts.tokens.progressive_sampling import ProgressiveSampling, sample_bilinear

pytestmark = pytest.mark.usefixtures("one_thread")


def of_torch(grid: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """`grid_sample` with aligned corners and zero padding, at points (y, x) in pixels."""
    h, w = grid.shape[1:3]
    places = torch.stack((2 * points[..., 1] / (w - 1) - 1, 2 * points[..., 0] / (h - 1) - 1), dim=-1)
    sampled = F.grid_sample(grid.permute(0, 3, 1, 2), places[:, None], padding_mode="zeros", align_corners=True)
    return sampled[:, :, 0].transpose(1, 2)


def test_it_is_grid_sample_inside_and_outside_the_map() -> None:
    generator = torch.Generator().manual_seed(0)
    grid = torch.randn(2, 7, 5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    inside = torch.rand(2, 40, 2, generator=generator, dtype=torch.float64) * torch.tensor([9.0, 7.0]) - 1.5
    points = inside.requires_grad_()
    ours, theirs = sample_bilinear(grid, points), of_torch(grid, points)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    for a, b in zip(*(torch.autograd.grad((x * weights).sum(), (grid, points)) for x in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("point", [(-1.0, 2.0), (7.0, 2.0), (2.0, -1.0), (2.0, 5.0), (-30.0, 40.0)])
def test_a_point_a_pixel_or_more_outside_is_0(point: tuple[float, float]) -> None:
    assert not sample_bilinear(torch.ones(1, 7, 5, 3), torch.tensor([[point]])).any()


def test_second_derivatives_exist() -> None:
    grid = torch.randn(1, 4, 4, 2, dtype=torch.float64, requires_grad=True)
    points = (torch.rand(1, 3, 2, dtype=torch.float64) * 2.8 + 0.1).requires_grad_()
    assert torch.autograd.gradgradcheck(sample_bilinear, (grid, points))


def test_the_first_points_are_centres_column_by_column() -> None:
    part = ProgressiveSampling(3, 3, (8, 12), (8, 12), {}, points=2)
    out = part(Tokens.of_grid(torch.randn(1, 8, 12, 3)))
    assert out.carry["points"].tolist() == [[[2, 3], [6, 3], [2, 9], [6, 9]]]
    assert (out.layout, out.size) == ("points", (4, 1))


@pytest.mark.parametrize("gamma", [1.0, 0.1])
def test_a_round_moves_the_points_and_samples_again(gamma: float) -> None:
    """The equations of the docstring, with `grid_sample`."""
    torch.manual_seed(0)
    first = ProgressiveSampling(4, 4, (8, 12), (8, 12), {}, points=3)
    second = ProgressiveSampling(4, 4, (9, 1), (8, 12), {"points": (2,)}, gamma=gamma)
    grid = torch.randn(2, 8, 12, 4)
    before = first(Tokens.of_grid(grid))
    after = second(before)
    points = before.carry["points"]
    offset = second.offset(before.image)
    code = first.position((points + offset) / torch.tensor([8.0, 12.0]))
    torch.testing.assert_close(after.image, before.image + of_torch(grid, points + gamma * offset) + code)
    torch.testing.assert_close(after.carry["points"], points + offset)
    assert not after.carry["points"].requires_grad


def test_offsets_start_at_0() -> None:
    model = hexavit.create_model("ps_vit_nano")
    offsets = [stage.tokens.offset for stage in model.stages[2:5]]
    assert not any(weight.any() for offset in offsets for weight in offset.parameters())


def test_what_has_no_map_raises() -> None:
    model = hexavit.create_model("ps_vit_nano", num_classes=3)
    with pytest.raises(
        HexavitError, match="the last tokens are of layout 'points', which has no map: use output_fmt='NLC'"
    ):
        model.forward_features(torch.randn(1, 3, 32, 32), output_fmt="NCHW")
    maps = hexavit.create_model("ps_vit_nano", features_only=True)
    assert maps.feature_info.reduction() == [4]
    with pytest.raises(HexavitError, match="ps_vit_nano ends with layout 'points', which has no map for a detector"):
        hexavit.backbone("ps_vit_nano")


def test_wrong_options() -> None:
    with pytest.raises(ValueError, match="points must be at least 1, not 0"):
        ProgressiveSampling(3, 3, (8, 8), (8, 8), {}, points=0)
    with pytest.raises(ValueError, match="it reads a map, or points of an earlier progressive_sampling"):
        ProgressiveSampling(3, 3, (9, 1), (8, 8), {})
    with pytest.raises(ValueError, match="the width stays 3 after the first round, and cannot change to 4"):
        ProgressiveSampling(3, 4, (9, 1), (8, 8), {"points": (2,)})


def test_copies_of_the_position_must_be_equal() -> None:
    model = hexavit.create_model("ps_vit_nano")
    layout = next(each for each in hexavit.models.LAYOUTS if each.family == "ps_vit")
    theirs = layout.to_theirs(model.state_dict(), lambda key: 1).state
    assert torch.equal(theirs["ps_layers.3.position_layer.weight"], theirs["pos_layer.weight"])
    theirs["ps_layers.3.position_layer.weight"] = theirs["pos_layer.weight"] + 1
    assert "does not have the form copies of one tensor" in layout.to_ours(theirs).broken[0]
