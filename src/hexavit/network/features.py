"""Feature maps: where a model has them, and a model that gives nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from hexavit.architecture import Architecture
from hexavit.errors import ArchitectureError
from hexavit.network.block import Block
from hexavit.network.stage import StageModule
from hexavit.parts.contract import halves
from hexavit.parts.tokens import KeepTokens

if TYPE_CHECKING:
    from hexavit.network.backbone import Backbone

FeaturePoint = tuple[int, int | None, str, int]
"""Stage, stride in pixels (None for points and sets), path of the module behind which a feature map is taken, width."""


class FeatureInfo:
    """What is known of each feature map: `module`, `num_chs` (channels), `reduction` (stride in pixels), `index`.

    The interface is timm's: methods tell of the chosen maps, or, given `idx`, of maps by their number among all.
    """

    def __init__(self, info: Sequence[dict[str, Any]], out_indices: Sequence[int]) -> None:
        self.info = [{**entry, "index": index} for index, entry in enumerate(info)]
        self.out_indices = tuple(out_indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.info[index]

    def __len__(self) -> int:
        return len(self.info)

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """One property of each map."""
        if isinstance(idx, int):
            return self.info[idx][key]
        return [self.info[i][key] for i in (self.out_indices if idx is None else idx)]

    def get_dicts(self, keys: Sequence[str] | None = None, idx: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """The entry of each map, or the values of `keys` in it."""
        entries = [self.info[i] for i in (self.out_indices if idx is None else idx)]
        return entries if keys is None else [{key: entry[key] for key in keys} for entry in entries]

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Channels."""
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Strides in pixels."""
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """Paths of the modules behind which the maps are taken."""
        return self.get("module", idx)


class FeatureBackbone(nn.Module):
    """A model that gives feature maps alone: a list of (B, C, H, W). The head and unused stages are removed.

    Args:
        model: the model, which is changed.
        out_indices: which maps: the last n for a number, else by index into `feature_info`; None for all that have the
            format.
        output_fmt: `NCHW` for (B, C, H, W), which points and sets do not have, `NLC` for (B, N, C).
    """

    def __init__(
        self, model: Backbone, out_indices: Sequence[int] | int | None = None, output_fmt: str = "NCHW"
    ) -> None:
        super().__init__()
        indices = model.feature_indices(out_indices)
        if out_indices is None and output_fmt == "NCHW":
            indices = [i for i in indices if model.feature_info[i]["reduction"] is not None]
        self.feature_info = FeatureInfo(model.feature_info, indices)
        self.output_fmt = output_fmt
        model.head = nn.Identity().train(model.training)
        _prune(model, indices)
        self.model = model
        self.training = model.training
        self.architecture = model.architecture
        self.pretrained_cfg = model.pretrained_cfg

    @property
    def default_cfg(self) -> dict[str, Any]:
        """timm's older name for `pretrained_cfg`."""
        return self.pretrained_cfg

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_chans, H, W) to maps (B, C_i, H_i, W_i), fine to coarse."""
        maps: list[Tensor] = self.model.forward_intermediates(
            x,
            self.feature_info.out_indices,
            stop_early=True,
            output_fmt=self.output_fmt,  # type: ignore[arg-type]  # checked there
            intermediates_only=True,
        )
        return maps

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As `Backbone.set_grad_checkpointing`."""
        self.model.set_grad_checkpointing(enable)

    def init_non_persistent_buffers(self) -> None:
        """As `Backbone.init_non_persistent_buffers`."""
        self.model.init_non_persistent_buffers()


def _prune(model: Backbone, indices: Sequence[int]) -> None:
    """Remove what comes behind the last map that is asked for, and what gives resolutions that are not."""
    path = model.feature_info[max(indices)]["module"].split(".")
    stage = int(path[1])
    if model.stage_modules[stage].lower_dims:
        for part in model.stage_modules[stage].blocks[-1].children():
            if callable(keep := getattr(part, "keep", None)):
                keep(indices)
    elif len(path) == 4:
        del model.stage_modules[stage].blocks[int(path[3]) + 1 :]
        model.stage_modules[stage].norm = None
    del model.stages[stage + 1 :]


def feature_points(architecture: Architecture, stages: Sequence[StageModule]) -> list[FeaturePoint]:
    """Where the feature maps are taken: behind each block if all stages have one grid, else behind each stage.

    Stages that leave the image tokens unchanged (class attention) have none. Points and sets have no map, and are not
    counted as a grid. Of a model with several resolutions, those of the last stage that has them.
    """
    size = architecture.img_size
    strides: list[int | None] = []
    several: list[FeaturePoint] = []
    for i, stage in enumerate(stages):
        size = stage.out_size(size)
        strides.append(max(1, round(architecture.img_size[0] / size[0])) if stage.layout == "raster" else None)
        if stage.lower_dims:
            paths = (f"stages.{i}", *(f"stages.{i}.lower.{number}" for number in stage.lower))
            sides = (max(1, round(architecture.img_size[0] / h)) for h, _ in halves(size, len(stage.lower_dims)))
            dims = (stage.out_dim, *stage.lower_dims)
            several = [(i, *point) for point in zip(sides, paths, dims, strict=True)]
    if several:
        return several
    changing = [i for i, stage in enumerate(stages) if not _keeps_image(stage)]
    if len({strides[i] for i in changing} - {None}) > 1:
        return [(i, strides[i], f"stages.{i}", stages[i].out_dim) for i in changing]
    return [(i, strides[i], path, stages[i].out_dim) for i in changing for path in _paths(i, stages[i])]


def _keeps_image(stage: StageModule) -> bool:
    if not stage.blocks:
        return isinstance(stage.tokens, KeepTokens)
    return all(keeps_image(block) for block in stage.typed_blocks)


def _paths(i: int, stage: StageModule) -> list[str]:
    """The paths of a stage's blocks; of a stage without blocks its own."""
    return [f"stages.{i}.blocks.{k}" for k in range(len(stage.blocks))] or [f"stages.{i}"]


def keeps_image(block: Block) -> bool:
    """Whether a block leaves the image tokens unchanged."""
    return all(getattr(branch.residual, "keeps_image", False) for branch in block.branches)


def check_format(output_fmt: str) -> None:
    """Check the form of feature maps.

    Raises:
        ArchitectureError: it is neither NCHW nor NLC.
    """
    if output_fmt not in ("NCHW", "NLC"):
        raise ArchitectureError(f"output_fmt is 'NCHW' or 'NLC', not {output_fmt!r}")
