"""The objective of a run: from the model and a batch to the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from hexavit.data.source import Source, Split
from hexavit.errors import HexavitError
from hexavit.images.preprocess import InputSpec
from hexavit.models.registry import list_models
from hexavit.network.block import out_size
from hexavit.teachers.label_maps import LabelMaps
from hexavit.teachers.teacher import load_teacher
from hexavit.training.config import ConfigError, TrainConfig
from hexavit.training.objectives.distillation import Distillation
from hexavit.training.objectives.label_maps import check_augmentation
from hexavit.training.objectives.losses import BinaryCrossEntropy, CrossEntropy, MeanCrossEntropy
from hexavit.training.objectives.token_labels import Box, TokenLabels, mixed_tokens, token_label_targets


class Objective(nn.Module):
    """Cross-entropy of every output of the model with the labels, which Mixup or CutMix may have mixed.

    :meth:`mixed` is called once per batch; :meth:`loss` with its result, whole or in parts.

    Args:
        model: the model to train.
        config: the settings.
        num_classes: K.
        base: the loss of one output; by default cross-entropy.

    Attributes:
        maps: label maps of the images, if the objective needs them.
        mixture: Mixup or CutMix, if set.
        base: the loss of one output.
        criterion: the loss of the model's output and the target.
        shares: names of what is logged for each epoch as a mean over the training images, besides the loss.
    """

    maps: LabelMaps | None = None
    shares: tuple[str, ...] = ()

    def __init__(self, model: nn.Module, config: TrainConfig, num_classes: int, base: nn.Module | None = None) -> None:
        super().__init__()
        several = len(getattr(getattr(model, "head", None), "classifiers", ())) > 1
        self.base = base or CrossEntropy(config.label_smoothing)
        self.criterion: nn.Module = MeanCrossEntropy(base=self.base) if several else self.base
        self.mixture = _mixture(config, num_classes)

    def mixed(self, images: Tensor, target: Any) -> tuple[Tensor, Tensor]:
        """Apply Mixup or CutMix to images (B, C, H, W) and their target; the new target has B rows."""
        return (images, target) if self.mixture is None else self.mixture(images, target)

    def loss(self, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        """The loss () of images and their rows of the target."""
        return cast("Tensor", self.criterion(model(images), target))

    def take_sums(self) -> list[float]:
        """For each of :attr:`shares` the sum over the images since the last call."""
        return []


class DistillationObjective(Objective):
    """Distillation: the class token learns from labels, the distillation token from a teacher.

    A model with one output learns from both by it.

    Teacher and student see the same images, mixed ones included (DeiT: Touvron et al., ICML 2021).
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        num_classes: int,
        teacher: Callable[[Tensor], Tensor],
        base: nn.Module | None = None,
    ) -> None:
        super().__init__(model, config, num_classes, base)
        self.teacher = teacher
        self.criterion = Distillation(
            self.base, config.distillation, config.distillation_alpha, config.distillation_tau
        )

    def loss(self, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        return cast("Tensor", self.criterion(model(images), target, self.teacher(images)))


class TokenLabelObjective(Objective):
    """Token labels and MixToken (LV-ViT: Jiang et al., NeurIPS 2021).

    The target is labels (B,), or a batch of :class:`~.label_maps.Mapped`. `train_accuracy` is the share of images whose
    class token has its highest logit at the most probable class of its label, `train_token_accuracy` that of tokens.
    """

    shares = ("train_accuracy", "train_token_accuracy")

    def __init__(self, model: nn.Module, config: TrainConfig, num_classes: int, maps: LabelMaps | None = None) -> None:
        super().__init__(model, config, num_classes)
        self.maps = maps
        self.num_classes, self.smoothing, self.mixes = num_classes, config.label_smoothing, config.mix_token
        self.swapped = config.swapped_boxes
        self.criterion = TokenLabels(config.token_loss_weight, label_smoothing=config.label_smoothing)
        self._sums: list[Tensor] = []
        described = cast("Any", model)
        self.grid = described.stages[0].tokens.out_size(described.architecture.img_size)

    def mixed(self, images: Tensor, target: Any) -> tuple[Tensor, Tensor]:
        return images, target if isinstance(target, Tensor) else self._targets(*target)

    def loss(self, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        if self.mixes:
            box = Box.draw(self.grid)
            with mixed_tokens(model, box):
                outputs = model(images)
        else:
            box, outputs = None, model(images)
        self._sums.append(cast("TokenLabels", self.criterion).hits(outputs, target, box))
        return cast("Tensor", self.criterion(outputs, target, box))

    def take_sums(self) -> list[float]:
        sums: list[float] = torch.stack(self._sums).sum(0).tolist() if self._sums else [0.0, 0.0]
        self._sums.clear()
        return sums

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
            swapped=self.swapped,
        )


def make_objective(model: nn.Module, config: TrainConfig, source: Source, split: Split, spec: InputSpec) -> Objective:
    """The objective that the settings define.

    Args:
        model: the model to train.
        config: the settings.
        source: the data.
        split: the split of the data.
        spec: preprocessing of the model's input.

    Raises:
        HexavitError: the model has another head than the objective needs, the teacher cannot be loaded, or an image has
            no label map.
    """
    _check_head(model, config)
    count = len(source.classes)
    base = _base_loss(config, source, split)
    if config.teacher is not None:
        teacher = load_teacher(config.teacher, source.classes, spec, config.teacher_cache)
        return DistillationObjective(model, config, count, teacher, base)
    if config.label_maps is not None:
        check_augmentation(source.hints.augment if config.augment == "auto" else config.augment)
        return TokenLabelObjective(model, config, count, LabelMaps(config.label_maps, source, split["train"]))
    return TokenLabelObjective(model, config, count) if config.mix_token else Objective(model, config, count, base)


def _base_loss(config: TrainConfig, source: Source, split: Split) -> nn.Module:
    """The loss of one output: binary for images with several classes, with weights if the settings balance by them."""
    multilabel = source.label_sets is not None
    special = "distillation (teacher)" if config.teacher is not None else _of_tokens(config)
    if multilabel and special:
        raise ConfigError(f"{special} needs data with one class per image, and {source.place} has several")
    weight = None
    if config.balance == "weights":
        if _of_tokens(config):
            raise ConfigError(f"balance weights cannot be combined with {_of_tokens(config)}: use balance sampler")
        weight = balancing_weights(source, split["train"])
    return (BinaryCrossEntropy if multilabel else CrossEntropy)(config.label_smoothing, weight)


def balancing_weights(source: Source, numbers: Sequence[int]) -> Tensor:
    """Weights (K,) under which classes with few images count as much as those with many.

    One class per image: n / (k n_c) with n images, k classes that occur and n_c images of the class, 1 on average over
    the images. Several classes per image: (n - n_c) / n_c, by which images with and without the class weigh the same.

    Args:
        source: the data.
        numbers: of the training images.
    """
    counts = torch.tensor(source.class_counts(numbers), dtype=torch.float32)
    total = float(len(numbers))
    if source.label_sets is not None:
        return (total - counts).clamp_min(1) / counts.clamp_min(1)
    return total / (counts.count_nonzero() * counts.clamp_min(1))


def _check_head(model: nn.Module, config: TrainConfig) -> None:
    """Raise if the model has another head than the settings need."""
    architecture = cast("Any", model).architecture
    found, what = architecture.head.name, (config.teacher and "a teacher") or _of_tokens(config)
    head = "two_heads" if config.teacher else "token_labels"
    several = len(cast("Any", model).head.classifiers) > 1
    if what and found != head and (several or not config.teacher):
        examples = ", ".join(list_models("*_nano", head=head) or list_models(head=head)[:2])
        or_one = ", or with one output" if config.teacher else ""
        raise HexavitError(
            f"{what} needs a model with head={head}, such as {examples}{or_one}, and {architecture.name} has "
            f"head={found}"
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
    """Mixup, CutMix, one of both at random per batch, or None."""
    kinds = [
        kind(alpha=alpha, num_classes=num_classes)
        for kind, alpha in ((v2.MixUp, config.mixup), (v2.CutMix, config.cutmix))
        if alpha > 0
    ]
    return v2.RandomChoice(kinds) if kinds else None
