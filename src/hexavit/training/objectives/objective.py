"""What a model learns from a batch: labels, a teacher's answers, or a label for every token."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn
from torchvision.transforms import v2

from hexavit.data.source import Source, Split
from hexavit.errors import HexavitError
from hexavit.images.preprocess import InputSpec
from hexavit.models.registry import list_models
from hexavit.network.block import out_size
from hexavit.training.config import TrainConfig
from hexavit.training.objectives.distillation import Distillation
from hexavit.training.objectives.label_maps import LabelMaps, check_still
from hexavit.training.objectives.losses import CrossEntropy, EveryAnswer
from hexavit.training.objectives.teacher import open_teacher
from hexavit.training.objectives.token_labels import Box, TokenLabels, mixed_tokens, token_label_targets


class Lesson(nn.Module):
    """Labels, mixed or not, for every answer of the model. A batch goes through :meth:`mixed` once, and what comes out,
    whole or in parts, through :meth:`loss`.

    Args:
        model: that will learn.
        config: the settings.
        num_classes: K.

    Attributes:
        maps: the label maps that the images must bring, if any.
    """

    maps: LabelMaps | None = None

    def __init__(self, model: nn.Module, config: TrainConfig, num_classes: int) -> None:
        super().__init__()
        several = len(getattr(getattr(model, "head", None), "classifiers", ())) > 1
        self.objective: nn.Module = (EveryAnswer if several else CrossEntropy)(config.label_smoothing)
        self.mixture = _mixture(config, num_classes)

    def mixed(self, images: Tensor, target: Any) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and what the data gives with them, to images and one target tensor of B rows."""
        return (images, target) if self.mixture is None else self.mixture(images, target)

    def loss(self, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        """Of images and their rows of the target: ()."""
        return cast("Tensor", self.objective(model(images), target))


class TaughtLesson(Lesson):
    """Labels for the class token, a teacher's answers for the distillation token; both see the same images, mixed ones
    too (DeiT: Touvron et al., ICML 2021)."""

    def __init__(
        self, model: nn.Module, config: TrainConfig, num_classes: int, teacher: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__(model, config, num_classes)
        self.teacher = teacher
        base = CrossEntropy(config.label_smoothing)
        self.objective = Distillation(base, config.distillation, config.distillation_alpha, config.distillation_tau)

    def loss(self, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        return cast("Tensor", self.objective(model(images), target, self.teacher(images)))


class TokenLesson(Lesson):
    """A label for every token, from maps where the target has them, with MixToken where that is asked for (LV-ViT:
    Jiang et al., NeurIPS 2021). The target is labels (B,), or a batch of :class:`~.label_maps.Mapped`."""

    def __init__(self, model: nn.Module, config: TrainConfig, num_classes: int, maps: LabelMaps | None = None) -> None:
        super().__init__(model, config, num_classes)
        self.maps = maps
        self.num_classes, self.smoothing, self.mixes = num_classes, config.label_smoothing, config.mix_token
        self.objective = TokenLabels(label_smoothing=config.label_smoothing)
        described = cast("Any", model)
        self.grid = described.stages[0].tokens.out_size(described.architecture.img_size)

    def mixed(self, images: Tensor, target: Any) -> tuple[Tensor, Tensor]:
        return images, target if isinstance(target, Tensor) else self._targets(*target)

    def loss(self, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        if not self.mixes:
            return cast("Tensor", self.objective(model(images), target))
        box = Box.draw(self.grid)
        with mixed_tokens(model, box):
            answers = model(images)
        return cast("Tensor", self.objective(answers, target, box))

    def _targets(self, labels: Tensor, logits: Tensor, classes: Tensor, crop: Tensor) -> Tensor:
        side = math.isqrt(self.grid[0] * self.grid[1])
        return token_label_targets(
            logits,
            classes,
            crop.to(logits),
            labels,
            num_classes=self.num_classes,
            size=side,
            smoothing=self.smoothing,
            swapped=False,  # where each token truly lies
        )


def make_lesson(model: nn.Module, config: TrainConfig, source: Source, split: Split, spec: InputSpec) -> Lesson:
    """What the settings ask for.

    Args:
        model: that will learn.
        config: the settings.
        source: the data.
        split: of it.
        spec: of the model.

    Raises:
        HexavitError: one of its kinds, when the model's head is not made for it, the teacher cannot be had, or an image
            has no label map.
    """
    _check_head(model, config)
    count = len(source.classes)
    if config.teacher is not None:
        return TaughtLesson(model, config, count, open_teacher(config.teacher, source.classes, spec))
    if config.label_maps is not None:
        check_still(source.hints.augment if config.augment == "auto" else config.augment)
        return TokenLesson(model, config, count, LabelMaps(config.label_maps, source, split["train"]))
    return (TokenLesson if config.mix_token else Lesson)(model, config, count)


def _check_head(model: nn.Module, config: TrainConfig) -> None:
    """Refuse settings that the model's head is not made for, and name the head that would be right."""
    architecture = cast("Any", model).architecture
    asked = {"two_heads": config.teacher and "a teacher", "token_labels": _of_tokens(config)}
    for head, what in asked.items():
        if what and architecture.head.name != head:
            examples = ", ".join(list_models("*_nano", head=head) or list_models(head=head)[:2])
            raise HexavitError(
                f"{what} needs a model with head={head}, such as {examples}, and {architecture.name} has "
                f"head={architecture.head.name}"
            )
    height, width = architecture.img_size
    if config.label_maps is not None and height != width:
        raise HexavitError(f"label_maps needs square images, not {height} x {width}")
    if config.mix_token:
        backbone = cast("Any", model)
        first, last = out_size(backbone.stages[0].tokens, architecture.img_size), backbone.grid_size
        if first != last:
            raise HexavitError(
                "mix_token needs a model whose first and last grid are the same, such as lvvit_nano, and those of "
                f"{architecture.name} are {first[0]} x {first[1]} and {last[0]} x {last[1]}"
            )


def _of_tokens(config: TrainConfig) -> str | None:
    return "label_maps" if config.label_maps is not None else "mix_token" if config.mix_token else None


def _mixture(config: TrainConfig, num_classes: int) -> v2.Transform | None:
    """Mixup, CutMix, either by the toss of a coin, or neither."""
    kinds = [
        kind(alpha=alpha, num_classes=num_classes)
        for kind, alpha in ((v2.MixUp, config.mixup), (v2.CutMix, config.cutmix))
        if alpha > 0
    ]
    return v2.RandomChoice(kinds) if kinds else None
