"""The model: image, stages, head; with timm's model conventions."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hexavit.architecture import Architecture, image_size
from hexavit.errors import ArchitectureError
from hexavit.network.checks import check_fits, pool_part
from hexavit.network.composition import as_tokens, compose
from hexavit.network.feature_map import FeatureMap
from hexavit.network.features import FeatureBackbone, FeatureInfo, check_format, feature_points, keeps_image
from hexavit.network.initialisation import initialise, initialise_branches, initialise_classifier
from hexavit.network.parameter_groups import BLOCKS, STAGES, no_weight_decay
from hexavit.network.stage import StageModule
from hexavit.network.surgery import take_in
from hexavit.parts.contract import Size, Tokens
from hexavit.parts.heads import Head

__all__ = ["Backbone", "FeatureBackbone", "FeatureInfo"]

Format = Literal["NCHW", "NLC"]


class Backbone(nn.Module):
    """A vision transformer, built from an `Architecture`.

    `forward` takes images (B, in_chans, H, W) and gives logits (B, num_classes). H and W may differ from `img_size`;
    the parts say what then holds (a learned position table is resized, windows are padded).

    Raises:
        ArchitectureError: parts that do not exist or do not fit together.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        stages, head = compose(architecture)
        self.architecture = architecture
        self.stages = nn.ModuleList(stages)
        self.head: nn.Module = head
        self.pretrained_cfg: dict[str, Any] = {}
        self._points = feature_points(architecture, stages)
        initialise(self, architecture.init)
        initialise_branches(self)

    # Facts

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 for pooled features."""
        return self.architecture.num_classes

    @property
    def in_chans(self) -> int:
        """Number of image channels."""
        return self.architecture.in_chans

    @property
    def num_features(self) -> int:
        """Width of the tokens that leave the last stage."""
        return self.stage_modules[-1].out_dim

    head_hidden_size = num_features
    embed_dim = num_features

    @property
    def default_cfg(self) -> dict[str, Any]:
        """timm's older name for `pretrained_cfg`."""
        return self.pretrained_cfg

    @property
    def num_extra_tokens(self) -> int:
        """Number of extra tokens at the front of what `forward_features` gives: P."""
        return self.stage_modules[-1].extra

    @property
    def num_prefix_tokens(self) -> int:
        """Number of extra tokens beside the last feature map.

        It is `num_extra_tokens`, but 0 where these enter behind the last feature map (CaiT).
        """
        return self.stage_modules[self._points[-1][0]].extra

    @property
    def grid_size(self) -> Size:
        """Grid (H, W) of the last image tokens for images of the architecture's size."""
        size = self.architecture.img_size
        for stage in self.stage_modules:
            size = stage.out_size(size)
        return size

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """One entry for each feature map: every block if all stages have one grid, else every stage; in a model with
        several resolutions each resolution of the last stage that has them."""
        return [{"num_chs": dim, "reduction": stride, "module": path} for _, stride, path, dim in self._points]

    @property
    def cam_layer(self) -> FeatureMap:
        """The last map (B, C, H, W) of image tokens of which all paths to the logits come: a target layer for CAMs.

        In models with extra tokens it is the map that enters the last block, since the image tokens that leave that
        block are not read; else the map that leaves the last stage. Other layers: `stages.N.blocks.M.output_map`.
        """
        path: list[tuple[FeatureMap, bool]] = []
        for stage in self.stage_modules:
            path.append((stage.input_map, stage.layout != "raster"))
            path += [(block.output_map, path[-1][1] or keeps_image(block)) for block in stage.typed_blocks]
        if not self.num_extra_tokens and stage.layout == "raster":
            return stage.output_map
        if self.num_extra_tokens:
            path.pop()
        while path[-1][1]:
            path.pop()
        return path[-1][0]

    @property
    def stage_modules(self) -> list[StageModule]:
        """The stages, typed."""
        return list(self.stages)  # type: ignore[arg-type]  # a ModuleList is untyped

    # The forward pass

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) to (B, num_classes); a pair of outputs in training for a head with two classifiers."""
        logits: Tensor = self._head()(self._tokens(x))
        return logits

    def forward_features(self, x: Tensor, output_fmt: Format = "NLC") -> Tensor:
        """The last tokens, after the final norm.

        Args:
            x: images (B, in_chans, H, W).
            output_fmt: `NLC` for all tokens (B, P + N, C), the extra ones first, which `forward_head` takes; `NCHW` for
                the image tokens alone as a map (B, C, H, W).

        Raises:
            ArchitectureError: an unknown format, or `NCHW` of points or a set.
        """
        check_format(output_fmt)
        tokens = self._tokens(x)
        if output_fmt == "NCHW" and tokens.layout != "raster":
            raise ArchitectureError(
                f"the last tokens are of layout '{tokens.layout}', which has no map: use output_fmt='NLC'"
            )
        features: Tensor = self.head.features(tokens) if isinstance(self.head, Head) else tokens.sequence
        if output_fmt == "NLC":
            return features
        return Tokens(features, tokens.size, prefix=tokens.prefix, layout=tokens.layout).map

    def _tokens(self, x: Tensor) -> Tokens:
        tokens = self._enter(x)
        for stage in self.stages:
            tokens = stage(tokens)
        return tokens

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """What `forward_features` gives to logits (B, num_classes); with `pre_logits` to the vector (B, C) before."""
        head = self._head()
        if head.unpooled:
            return x
        pooled = head.pooled(x, self.num_extra_tokens)
        return head.embedding(pooled) if pre_logits else head.classify(pooled)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: Format = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """The last features, and feature maps.

        Args:
            x: images (B, in_chans, H, W).
            indices: which of `feature_info`'s maps: the last n for a number, else by index; all for None.
            return_prefix_tokens: pair each map with the extra tokens (B, P, C) there, None where there are none.
            norm: apply the head's final norm to each map whose width is the last stage's.
            stop_early: end after the last map asked for.
            output_fmt: `NCHW` for (B, C, H, W), which points and sets have not, `NLC` for (B, N, C).
            intermediates_only: return the list of maps alone.

        Returns:
            (features, maps) or maps.

        Raises:
            ArchitectureError: an index or a format that does not exist.
        """
        check_format(output_fmt)
        wanted = self.feature_indices(indices)
        tokens, kept = self._walk(x, wanted, stop_early)
        maps = [self._as_map(self._points[i][2], kept[i], norm, output_fmt, return_prefix_tokens) for i in wanted]
        if intermediates_only:
            return maps
        return (self.head.features(tokens) if isinstance(self.head, Head) else tokens.sequence), maps

    def feature_indices(self, indices: int | Sequence[int] | None) -> list[int]:
        """Indices into `feature_info`: the last n for a number, all for None, negative ones from the end.

        Raises:
            ArchitectureError: an index that does not exist.
        """
        count = len(self._points)
        chosen = range(count) if indices is None else range(-indices, 0) if isinstance(indices, int) else indices
        for i in chosen:
            if not -count <= i < count:
                raise ArchitectureError(f"there is no feature map {i}: this model has {count}, 0 to {count - 1}")
        return [i % count for i in chosen]

    def _walk(self, x: Tensor, wanted: Sequence[int], stop_early: bool) -> tuple[Tokens, dict[int, Tokens]]:
        paths = {path: i for i, (_, _, path, _) in enumerate(self._points) if i in wanted}
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
        """The tokens behind every block and every stage, with its path."""
        tokens = self._enter(x)
        for s, stage in enumerate(self.stage_modules):
            tokens = stage.enter(tokens)
            for b, block in enumerate(stage.blocks):
                tokens = stage.run(block, tokens)
                yield f"stages.{s}.blocks.{b}", tokens
            tokens = stage.leave(tokens)
            for number, below in stage.lower_tokens(tokens):
                yield f"stages.{s}.lower.{number}", below
            yield f"stages.{s}", tokens

    def _as_map(self, path: str, tokens: Tokens, norm: bool, output_fmt: str, prefix: bool) -> Any:
        if norm and isinstance(self.head, Head) and tokens.image.shape[2] == self.num_features:
            tokens = tokens.each(self.head.norm)
        if output_fmt == "NCHW" and tokens.layout != "raster":
            what = "points, which have" if tokens.layout == "points" else "a set, which has"
            raise ArchitectureError(f"{path} gives {what} no map: use output_fmt='NLC'")
        out = tokens.map if output_fmt == "NCHW" else tokens.image
        return (out, tokens.extra) if prefix else out

    def _enter(self, x: Tensor) -> Tokens:
        return _image_tokens(x, self.architecture.in_chans)

    def _head(self) -> Head:
        if isinstance(self.head, nn.Identity):
            raise ArchitectureError("this model has no head left: it gives features only")
        if not isinstance(self.head, Head):
            raise ArchitectureError(
                f"model.head must pool and classify, which {type(self.head).__name__} does not: to put in a classifier "
                "of your own, call model.set_classifier(module)"
            )
        return self.head

    # Changes

    def get_classifier(self) -> nn.Module:
        """The last linear; of a head with two, the class token's."""
        return self._head().fc

    def reset_classifier(self, num_classes: int, global_pool: Literal["avg", "token", ""] | None = None) -> None:
        """Make a new last linear. Everything else keeps its mode, dtype, device and `requires_grad` flags.

        `pretrained_cfg` loses the class names and thresholds of the classifier before.

        Args:
            num_classes: number of classes; 0 for pooled features.
            global_pool: how tokens become one vector: `avg` (the mean of the image tokens), `token` (the class token),
                "" for none, with `num_classes=0` (`forward` then gives what `forward_features` gives), or None for the
                present way.

        Raises:
            ArchitectureError: an unknown pooling, `token` for a model without a class token, "" with classes, or a part
                that needs the class token which `avg` removes.
        """
        head = self._head()
        if global_pool == "" and num_classes:
            raise ArchitectureError(
                f"global_pool='' gives features of every token: use num_classes=0, not {num_classes}"
            )
        part = pool_part(global_pool, self.architecture.head) if global_pool else self.architecture.head
        architecture = self.architecture.with_(num_classes=num_classes, head=part)
        old = [getattr(head, name) for name in head.classifiers]
        like = self._reference()
        if part != self.architecture.head:
            check_fits(architecture)
            take_in(self, Backbone(architecture), like)
            head = self._head()
        self.architecture = architecture
        head.reset_classifier(num_classes)
        head.unpooled = global_pool == "" or (global_pool is None and head.unpooled and not num_classes)
        of_old = next((p for module in old for p in module.parameters() if p.is_floating_point()), like)
        for name in head.classifiers:
            classifier = getattr(head, name)
            initialise_classifier(classifier, architecture.init)
            classifier.to(of_old.device, of_old.dtype).train(head.training)
        self._describe_classes()

    def set_classifier(self, *classifiers: nn.Module) -> None:
        """Put in classifiers of your own in place of the last linear.

        `pretrained_cfg` loses the class names and thresholds of the classifier before.

        Args:
            *classifiers: one module (B, C) to (B, K) for each of the head's classifiers; the second classifier of a
                head with two is a copy of the first if it is not given.

        Raises:
            ArchitectureError: none, or more than the head has classifiers.
        """
        head = self._head()
        if not 1 <= len(classifiers) <= len(head.classifiers):
            raise ArchitectureError(f"this head has {len(head.classifiers)} classifiers, not {len(classifiers)}")
        given = [*classifiers, *(copy.deepcopy(classifiers[0]) for _ in head.classifiers[len(classifiers) :])]
        for name, classifier in zip(head.classifiers, given, strict=True):
            setattr(head, name, classifier)
        mode, like = classifiers[0].training, self._reference()
        with torch.no_grad():
            out = classifiers[0].eval()(torch.zeros(1, self.num_features, device=like.device, dtype=like.dtype))
        classifiers[0].train(mode)
        self.architecture = self.architecture.with_(num_classes=out.shape[-1])
        self._describe_classes()

    def set_distilled_training(self, enable: bool = True) -> None:
        """Whether a head with two classifiers gives both outputs in training (the default), or one, as in evaluation.

        Raises:
            ArchitectureError: it is enabled for a head with one classifier.
        """
        head = self._head()
        if enable and len(head.classifiers) < 2:
            raise ArchitectureError(f"head={self.architecture.head} has one classifier: use a head with two, two_heads")
        head.pair_in_training = enable

    def set_input_size(self, img_size: int | Size) -> None:
        """Rebuild what depends on the image size (position tables, windows) for another one."""
        self.architecture = self.architecture.with_(img_size=image_size(img_size))
        size = grid = self.architecture.img_size
        extra = 0
        for stage in self.stage_modules:
            size = stage.set_size(size, grid, extra)
            grid, extra = (size if stage.layout == "raster" else grid), stage.extra
        self._describe(input_size=(self.architecture.in_chans, *self.architecture.img_size), pool_size=size)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations; the output is unchanged."""
        for stage in self.stage_modules:
            stage.grad_checkpointing = enable

    def init_non_persistent_buffers(self) -> None:
        """Compute tables and indices that no state dict holds again; for models that were built on the meta device.

        `load_state_dict` does this by itself.
        """
        for module in self.modules():
            if module is not self and callable(compute := getattr(module, "init_non_persistent_buffers", None)):
                compute()

    def _reference(self) -> Tensor:
        """A weight, of whose dtype and on whose device new ones are made."""
        return next(p for p in self.stages.parameters() if p.is_floating_point())

    def _describe(self, **changes: Any) -> None:
        if self.pretrained_cfg:
            self.pretrained_cfg = {**self.pretrained_cfg, **changes}

    def _describe_classes(self) -> None:
        self._describe(num_classes=self.architecture.num_classes)
        for key in ("label_names", "thresholds"):
            self.pretrained_cfg.pop(key, None)

    # Parameter groups

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that are exempt from weight decay, besides all of one dimension."""
        return no_weight_decay(self)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Layers in order, for layer-wise learning rates, in timm's form: a stem, then blocks (`coarse`: stages)."""
        return dict(STAGES if coarse else BLOCKS)


def _image_tokens(x: Tensor, chans: int) -> Tokens:
    if not torch.compiler.is_compiling() and (x.ndim != 4 or x.shape[1] != chans):
        raise ArchitectureError(f"images are (B, {chans}, H, W), not {tuple(x.shape)}: set in_chans for other channels")
    return as_tokens(x)


torch.fx.wrap("_image_tokens")  # one node of a traced graph
