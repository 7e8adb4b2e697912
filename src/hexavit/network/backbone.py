"""The one forward: image, stages, head; with the conventions that timm's users know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hexavit.architecture import Architecture, Part, image_size
from hexavit.errors import ArchitectureError
from hexavit.network.composition import StageModule, as_tokens, check_fits, compose
from hexavit.network.initialisation import initialise, initialise_branches, initialise_classifier
from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.heads import Head
from hexavit.parts.positions import LearnedPosition
from hexavit.parts.registry import options


class FeatureInfo:
    """What each feature map is: `module`, `num_chs` (channels), `reduction` (stride in pixels), `index`.

    timm's interface: its questions are about the chosen maps, or with `idx` about others by their numbers among all.
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
        """The maps' entries, or of each what `keys` name."""
        entries = [self.info[i] for i in (self.out_indices if idx is None else idx)]
        return entries if keys is None else [{key: entry[key] for key in keys} for entry in entries]

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Channels."""
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Strides, in pixels."""
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """Paths of the modules that give the maps."""
        return self.get("module", idx)


class Backbone(nn.Module):
    """A vision transformer built from an `Architecture`.

    `forward` takes images (B, in_chans, H, W) and gives logits (B, num_classes). H and W may differ from `img_size`
    and from each other; what then holds is stated by the parts (a learned position table is resized, all else here
    computes as at the built size).

    Raises:
        ArchitectureError: an architecture whose parts do not exist or do not fit together.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        stages, head = compose(architecture)
        self.architecture = architecture
        self.stages = nn.ModuleList(stages)
        self.head: nn.Module = head
        self.pretrained_cfg: dict[str, Any] = {}
        self._points = _feature_points(architecture, stages)
        initialise(self, architecture.init)
        initialise_branches(self)

    # Facts

    @property
    def num_classes(self) -> int:
        """Width of the answer; 0 gives pooled features."""
        return self.architecture.num_classes

    @property
    def num_features(self) -> int:
        """Width of the last stage."""
        return self.architecture.stages[-1].dim

    head_hidden_size = num_features
    embed_dim = num_features

    @property
    def default_cfg(self) -> dict[str, Any]:
        """timm's older name for `pretrained_cfg`."""
        return self.pretrained_cfg

    @property
    def num_prefix_tokens(self) -> int:
        """Extra tokens in front of the last stage's: P."""
        tokens = (stage.class_token for stage in self._stages())
        return sum(token.shape[1] for token in tokens if token is not None)

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """One entry a feature map: every block of a column, every stage of a pyramid."""
        return [
            {"num_chs": self.architecture.stages[i].dim, "reduction": stride, "module": path}
            for i, stride, path in self._points
        ]

    # The forward

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) to (B, num_classes); from a head with two classifiers a pair of answers in training."""
        logits: Tensor = self._head()(self._tokens(x))
        return logits

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) to (B, P + N, C): the last tokens after the final norm, extra ones first."""
        tokens = self._tokens(x)
        return self.head.features(tokens) if isinstance(self.head, Head) else tokens.sequence

    def _tokens(self, x: Tensor) -> Tokens:
        tokens = self._enter(x)
        for stage in self.stages:
            tokens = stage(tokens)
        return tokens

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """`forward_features`' answer to logits (B, num_classes), or with `pre_logits` to the vector (B, C) before."""
        head = self._head()
        pooled = head.pooled(x, self.num_prefix_tokens)
        return head.embedding(pooled) if pre_logits else head.classify(pooled)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: Literal["NCHW", "NLC"] = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """The last features and feature maps on the way.

        Args:
            x: images (B, in_chans, H, W).
            indices: which of `feature_info`'s maps: the last n for a number, else by index; all for None.
            return_prefix_tokens: pair each map with the extra tokens (B, P, C) there, None where there are none.
            norm: apply the head's final norm to each map whose width is the last stage's.
            stop_early: end after the last map asked for.
            output_fmt: `NCHW` for (B, C, H, W), `NLC` for (B, H W, C).
            intermediates_only: return the list of maps alone.

        Returns:
            (features, maps) or maps.

        Raises:
            ArchitectureError: an index or a format that there is not.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise ArchitectureError(f"output_fmt is 'NCHW' or 'NLC', not {output_fmt!r}")
        wanted = self._indices(indices)
        tokens, kept = self._walk(x, wanted, stop_early)
        maps = [self._as_map(kept[i], norm, output_fmt, return_prefix_tokens) for i in wanted]
        if intermediates_only:
            return maps
        return (self.head.features(tokens) if isinstance(self.head, Head) else tokens.sequence), maps

    def _walk(self, x: Tensor, wanted: Sequence[int], stop_early: bool) -> tuple[Tokens, dict[int, Tokens]]:
        paths = {path: i for i, (_, _, path) in enumerate(self._points) if i in wanted}
        kept: dict[int, Tokens] = {}
        tokens = None
        for path, tokens in self._steps(x):
            if path in paths:
                kept[paths[path]] = tokens
            if stop_early and len(kept) == len(paths):
                break
        assert tokens is not None  # there is at least one stage
        return tokens, kept

    def _steps(self, x: Tensor) -> Iterator[tuple[str, Tokens]]:
        """The tokens after every block and every stage, with the path of what gave them."""
        tokens = self._enter(x)
        for s, stage in enumerate(self._stages()):
            tokens = stage.enter(tokens)
            for b, block in enumerate(stage.blocks):
                tokens = stage.run(block, tokens)
                yield f"stages.{s}.blocks.{b}", tokens
            tokens = stage.leave(tokens)
            yield f"stages.{s}", tokens

    def _as_map(self, tokens: Tokens, norm: bool, output_fmt: str, prefix: bool) -> Any:
        if norm and isinstance(self.head, Head) and tokens.image.shape[2] == self.num_features:
            tokens = tokens.each(self.head.norm)
        out = tokens.map if output_fmt == "NCHW" else tokens.image
        return (out, tokens.extra) if prefix else out

    def _enter(self, x: Tensor) -> Tokens:
        chans = self.architecture.in_chans
        if not torch.compiler.is_compiling() and (x.ndim != 4 or x.shape[1] != chans):
            raise ArchitectureError(
                f"images are (B, {chans}, H, W), not {tuple(x.shape)}: set in_chans for other channels"
            )
        return as_tokens(x)

    def _stages(self) -> list[StageModule]:
        return list(self.stages)  # type: ignore[arg-type]  # a ModuleList is untyped

    def _head(self) -> Head:
        if not isinstance(self.head, Head):
            raise ArchitectureError("this model has no head left: it gives features only")
        return self.head

    def _indices(self, indices: int | Sequence[int] | None) -> list[int]:
        count = len(self._points)
        chosen = range(count) if indices is None else range(-indices, 0) if isinstance(indices, int) else indices
        for i in chosen:
            if not -count <= i < count:
                raise ArchitectureError(f"there is no feature map {i}: this model has {count}, 0 to {count - 1}")
        return [i % count for i in chosen]

    # Changes

    def get_classifier(self) -> nn.Module:
        """The last linear; of a head with two, the class token's."""
        return self._head().fc

    def reset_classifier(self, num_classes: int, global_pool: Literal["avg", "token"] | None = None) -> None:
        """A new last linear, and with `global_pool` another way to read the tokens; 0 classes give pooled features.

        Raises:
            ArchitectureError: a pooling that there is not, or `token` for a model without a class token.
        """
        part = self.architecture.head if global_pool is None else _pool_part(global_pool, self.architecture.head)
        pooling_changes = part != self.architecture.head
        architecture = self.architecture.with_(num_classes=num_classes, head=part)
        if pooling_changes:
            check_fits(architecture)
        self.architecture = architecture
        if pooling_changes:
            self._rebuild()
        head = self._head()
        head.reset_classifier(num_classes)
        for name in head.classifiers:
            initialise_classifier(getattr(head, name), self.architecture.init)
        head.to(next(self.stages.parameters()).device)

    def _rebuild(self) -> None:
        """Build the modules of an architecture that changed, and keep all weights whose place is left."""
        fresh = Backbone(self.architecture).to(next(self.parameters()).device)
        kept = fresh.state_dict()
        kept.update({k: v for k, v in self.state_dict().items() if k in kept and kept[k].shape == v.shape})
        fresh.load_state_dict(kept)
        for old, new in zip(self._stages(), fresh._stages(), strict=True):
            if isinstance(old.position, LearnedPosition) and isinstance(new.position, LearnedPosition):
                new.position.adopt(old.position)
        self.stages, self.head = fresh.stages, fresh.head

    def set_input_size(self, img_size: int | Size) -> None:
        """Rebuild what depends on the image size (position tables) for another one."""
        self.architecture = self.architecture.with_(img_size=image_size(img_size))
        size = self.architecture.img_size
        for stage in self._stages():
            if isinstance(stage.tokens, PartModule):
                size = stage.tokens.out_size(size)
            if isinstance(stage.position, PartModule):
                stage.position.set_size(size)
            for block in stage.blocks:
                for part in block.children():
                    if isinstance(part, PartModule):
                        part.set_size(size)
                attention = block.attention
                size = attention.out_size(size) if isinstance(attention, PartModule) else size
        if self.pretrained_cfg:
            self.pretrained_cfg = {
                **self.pretrained_cfg,
                "input_size": (self.architecture.in_chans, *self.architecture.img_size),
            }

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations; the output is unchanged."""
        for stage in self._stages():
            stage.grad_checkpointing = enable

    # Parameter groups

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay leaves alone, besides all of one dimension."""
        names = {f"stages.{i}.class_token" for i, stage in enumerate(self._stages()) if stage.class_token is not None}
        for path, module in self.named_modules():
            spared = set(getattr(module, "no_decay", ()))
            names.update(f"{path}.{name}" for name, _ in module.named_parameters() if name in spared)
        return names

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Layers in order for layer-wise rates, in timm's form: a stem, then every block (or stage, if `coarse`)."""
        entry = r"^stages\.0\.(?:tokens|position|class_token|shared)"
        if coarse:
            return {"stem": entry, "blocks": r"^stages\.(\d+)"}
        return {
            "stem": entry,
            "blocks": [
                (r"^stages\.(\d+)\.(?:tokens|position|class_token|shared)", (-1,)),
                (r"^stages\.(\d+)\.blocks\.(\d+)", None),
                (r"^stages\.(\d+)\.norm", (99999,)),
                (r"^head\.(?:norm|pre_logits)", (99999,)),
            ],
        }


class FeatureBackbone(nn.Module):
    """A backbone that gives feature maps alone: a list of (B, C, H, W), with nothing of a head left over."""

    def __init__(
        self, model: Backbone, out_indices: Sequence[int] | int | None = None, output_fmt: str = "NCHW"
    ) -> None:
        super().__init__()
        indices = model._indices(out_indices)
        self.feature_info = FeatureInfo(model.feature_info, indices)
        self.output_fmt = output_fmt
        model.head = nn.Identity()
        _prune(model, max(indices))
        self.model = model
        self.architecture = model.architecture
        self.pretrained_cfg = model.pretrained_cfg

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
        """As the whole model's."""
        self.model.set_grad_checkpointing(enable)


def _prune(model: Backbone, last: int) -> None:
    """Drop what stands behind the last map that is asked for."""
    path = model.feature_info[last]["module"].split(".")
    stage = int(path[1])
    if len(path) == 4:
        kept = model._stages()[stage]
        kept.blocks = kept.blocks[: int(path[3]) + 1]
    model.stages = model.stages[: stage + 1]


def _pool_part(global_pool: str, part: Part) -> Part:
    names = {"avg": "pool", "token": "class_token"}
    if global_pool not in names:
        raise ArchitectureError(f"global_pool is 'avg' or 'token', not {global_pool!r}")
    if names[global_pool] == part.name:
        return part
    if global_pool == "token":
        raise ArchitectureError("this model was not built with a class token to read: build it with head=class_token")
    known = options("head", "pool")
    return Part("pool", **{key: value for key, value in part.options.items() if key in known})


def _feature_points(architecture: Architecture, stages: Sequence[StageModule]) -> list[tuple[int, int, str]]:
    """(stage, stride, path) of every feature map: blocks where all stages share one grid, else stages.

    Stages that leave the image tokens as they are (class attention) have none.
    """
    size, img = architecture.img_size, architecture.img_size
    strides: list[int] = []
    for stage in stages:
        size = stage.tokens.out_size(size) if isinstance(stage.tokens, PartModule) else size
        for block in stage.blocks:
            size = block.attention.out_size(size) if isinstance(block.attention, PartModule) else size
        strides.append(max(1, round(img[0] / size[0])))
    changing = [i for i, stage in enumerate(stages) if not all(_keeps_image(block) for block in stage.blocks)]
    if len(set(strides)) > 1:
        return [(i, strides[i], f"stages.{i}") for i in changing]
    return [(i, strides[i], f"stages.{i}.blocks.{k}") for i in changing for k in range(len(stages[i].blocks))]


def _keeps_image(block: nn.Module) -> bool:
    residuals = (block.attention_residual, block.feedforward_residual)
    return all(getattr(residual, "keeps_image", False) for residual in residuals)
