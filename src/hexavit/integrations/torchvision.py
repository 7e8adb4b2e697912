"""Backbones for detectors: feature maps as a dictionary, with a feature pyramid or without."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.architecture import Architecture
from hexavit.errors import HexavitError
from hexavit.factory import create_model
from hexavit.network.backbone import FeatureBackbone
from hexavit.parts.contract import Size

SCALES = (4, 2, 1, 0.5)
"""Sizes of the maps of `SimplePyramid` relative to its input."""


class MapBackbone(nn.Module):
    """Images (B, in_chans, H, W) to an ordered dictionary of maps (B, C_i, H_i, W_i), fine to coarse.

    Attributes:
        names: names of the maps: `"0"`, `"1"`, ... and, with a pyramid, `"pool"`.
        out_channels: channels of every map with a pyramid, as torchvision's detectors require; else a list.
    """

    def __init__(self, body: FeatureBackbone, pyramid: nn.Module | None = None, channels: int = 256) -> None:
        super().__init__()
        self.body = body
        self.pyramid = pyramid
        self.out_channels: int | list[int] = body.feature_info.channels() if pyramid is None else channels
        levels = len(SCALES) if isinstance(pyramid, SimplePyramid) else len(body.feature_info.out_indices)
        self.names = [*map(str, range(levels)), *(["pool"] if pyramid else [])]

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """(B, in_chans, H, W) to maps by name."""
        maps = OrderedDict((str(i), one) for i, one in enumerate(self.body(x)))
        if self.pyramid is None:
            return maps
        out: OrderedDict[str, Tensor] = self.pyramid(maps)
        return out


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SimplePyramid(nn.Module):
    """Maps at 1/4, 1/2, 1 and 2 times the stride of an isotropic model's last map, computed from that map
    (ViTDet: Li et al., ECCV 2022, section 3 and appendix A.2).

    Two transposed convolutions with stride 2 (norm and GELU between), one, none, or a max-pool; then a 1x1 and a 3x3
    convolution without bias to `channels`, each with a norm.

    Shapes: (B, C, H, W) to (B, channels, s H, s W) for s in `SCALES`: 4, 2, 1, 1/2.
    """

    def __init__(self, dim: int, channels: int = 256) -> None:
        super().__init__()
        scales: tuple[list[nn.Module], ...] = (
            [
                nn.ConvTranspose2d(dim, dim // 2, 2, 2),
                ChannelNorm(dim // 2),
                nn.GELU(),
                nn.ConvTranspose2d(dim // 2, dim // 4, 2, 2),
            ],
            [nn.ConvTranspose2d(dim, dim // 2, 2, 2)],
            [],
            [nn.MaxPool2d(2, 2, ceil_mode=True)],
        )
        widths = (dim // 4, dim // 2, dim, dim)
        self.levels = nn.ModuleList(
            nn.Sequential(
                *scale,
                nn.Conv2d(width, channels, 1, bias=False),
                ChannelNorm(channels),
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                ChannelNorm(channels),
            )
            for scale, width in zip(scales, widths, strict=True)
        )

    def forward(self, maps: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
        """The last map to four maps and, as in torchvision's pyramids, a fifth by subsampling the coarsest."""
        last = list(maps.values())[-1]
        out = OrderedDict((str(i), level(last)) for i, level in enumerate(self.levels))
        out["pool"] = F.max_pool2d(out["3"], 1, 2)
        return out


def backbone(
    name_or_architecture: str | Architecture,
    *,
    out_indices: int | Sequence[int] | None = None,
    in_chans: int | None = None,
    img_size: int | Size | None = None,
    pyramid: Literal["fpn", "simple"] | None = None,
    channels: int = 256,
    pretrained: bool = False,
    overrides: Sequence[str] | Mapping[str, Any] = (),
) -> MapBackbone:
    """Build a model without its head as a backbone for detection and segmentation: a dictionary of NCHW maps.

    Args:
        name_or_architecture: a name of `list_models()`, or an `Architecture`.
        out_indices: which maps: the last n for a number, else by index into `feature_info`; None for all, or for the
            last of an isotropic model.
        in_chans: number of image channels; None for the architecture's.
        img_size: side or (H, W) in pixels of the images that the model is built for; other sizes work too.
        pyramid: `fpn` for torchvision's feature pyramid over the stages (Lin et al., CVPR 2017), `simple` for
            `SimplePyramid` over the last map of an isotropic model, None for the maps unchanged. Both pyramids add a
            subsampled map `"pool"`.
        channels: channels of the pyramid's maps.
        pretrained: load published weights, as `create_model` does; the pyramid is not pretrained.
        overrides: edits by path, as for `create_model`.

    Detectors of torchvision need an `AnchorGenerator` with as many sizes as there are `names`: four for CvT with `fpn`,
    where torchvision's default is five.

    Raises:
        ArchitectureError: as for `create_model`.
        HexavitError: the pyramid does not exist, or does not fit the model's maps; or the last tokens have no map.
    """
    if pyramid not in (None, "fpn", "simple"):
        raise HexavitError(f"pyramid is 'fpn', 'simple' or None, not {pyramid!r}")
    options: dict[str, Any] = {"in_chans": in_chans, "img_size": img_size, "overrides": overrides}
    model = create_model(name_or_architecture, pretrained=pretrained, **options)
    if (layout := model.stage_modules[-1].layout) != "raster":
        raise HexavitError(
            f"{model.architecture.name} ends with layout '{layout}', which has no map for a detector to read"
        )
    isotropic = len({entry["reduction"] for entry in model.feature_info}) == 1
    chosen = 1 if isotropic and out_indices is None else out_indices
    body = FeatureBackbone(model, chosen)
    if pyramid == "simple":
        return MapBackbone(body, SimplePyramid(body.feature_info.channels()[-1], channels), channels)
    if pyramid == "fpn":
        if isotropic:
            raise HexavitError(
                f"pyramid='fpn' needs maps of several strides, and {model.architecture.name} has one: use 'simple'"
            )
        from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

        fpn = FeaturePyramidNetwork(body.feature_info.channels(), channels, extra_blocks=LastLevelMaxPool())
        return MapBackbone(body, fpn, channels)
    return MapBackbone(body)
