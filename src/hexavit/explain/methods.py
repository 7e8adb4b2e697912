"""Maps of what a prediction depends on, by one name for each method."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hexavit.errors import HexavitError, nearest
from hexavit.explain.attention import Array, attention_maps, to_pixels
from hexavit.explain.reading import backbone_of
from hexavit.explain.rollout import gradient_rollout, rollout
from hexavit.network.feature_map import FeatureMap
from hexavit.parts.contract import Size


@dataclass(frozen=True)
class Attribution:
    """How much each place of an image counts.

    Attributes:
        method: name of the method.
        target: number of the class; None for methods that know none.
        cells: (h, w), row by row over the image; larger counts more.
        image_size: height and width of the image in pixels.
    """

    method: str
    target: int | None
    cells: Array
    image_size: Size

    def pixels(self, smooth: bool = True) -> Array:
        """The values at each pixel (H, W): bilinear, or of the cell that contains it."""
        return np.asarray(to_pixels(self.cells[None], self.image_size, smooth)[0])


def target_layer(model: Any, stage: int | None = None) -> FeatureMap:
    """The layer whose output (B, C, H, W) class activation maps and layer attributions read.

    `GradCAM(model, target_layers=[hexavit.explain.target_layer(model)])` of pytorch-grad-cam and Captum's layer methods
    need no `reshape_transform` with it, for any system.

    Args:
        model: a model of `hexavit.create_model`, or a loaded one.
        stage: number of a stage, for the map that leaves it; None for the last map on all paths to the logits.

    Raises:
        HexavitError: there is no such stage, or its tokens are points or a set.
    """
    backbone = backbone_of(model)
    if stage is None:
        return backbone.cam_layer
    stages = backbone.stage_modules
    if not -len(stages) <= stage < len(stages):
        raise HexavitError(f"there is no stage {stage}: there are {len(stages)}, 0 to {len(stages) - 1}")
    if stages[stage].layout != "raster":
        raise HexavitError(f"stage {stage} gives {stages[stage].layout}, which have no map: choose an earlier stage")
    return stages[stage].output_map


def attribute(
    model: Any, image: Tensor, method: str = "gradcam", *, target: int | None = None, stage: int | None = None
) -> Attribution:
    """Compute what a prediction depends on in an image.

    Args:
        model: a model of `hexavit.create_model`, or a loaded one, in evaluation mode.
        image: (C, H, W), preprocessed.
        method: a key of `METHODS`.
        target: number of the class; None for the predicted one.
        stage: of methods that read a layer or an attention, the stage; None for the last.

    Raises:
        HexavitError: an unknown method, class or stage, a model without a classifier, or a library that is not
            installed.
    """
    if method not in METHODS:
        raise HexavitError(f"there is no method {method!r}: {nearest(method, METHODS)}")
    backbone = backbone_of(model)
    chosen = METHODS[method]
    if chosen.of_class:
        if not backbone.num_classes:
            raise HexavitError(f"{method} needs a classifier, which {backbone.architecture.name} does not have here")
        if target is not None and not 0 <= target < backbone.num_classes:
            raise HexavitError(f"there is no class {target}: there are {backbone.num_classes}, from 0")
        if target is None:
            with torch.no_grad():
                target = int(backbone(image[None])[0].argmax())
    cells = chosen.compute(backbone, image, target, stage).detach().cpu().float().numpy()
    return Attribution(method, target if chosen.of_class else None, cells, (image.shape[1], image.shape[2]))


Compute = Callable[[Any, Tensor, int | None, int | None], Tensor]


@dataclass(frozen=True)
class Method:
    """A way to explain.

    Attributes:
        compute: from the model, the image (C, H, W), the class and the stage to a map (h, w).
        of_class: whether the map is of one class.
        text: one line of help.
    """

    compute: Compute
    of_class: bool
    text: str


def _attention(model: Any, image: Tensor, target: int | None, stage: int | None) -> Tensor:
    found = attention_maps(model, image, stage=stage, block=None)
    return torch.from_numpy(found[-1].cells[0])


def _rollout(model: Any, image: Tensor, target: int | None, stage: int | None) -> Tensor:
    return rollout(model, image)


def _gradient_rollout(model: Any, image: Tensor, target: int | None, stage: int | None) -> Tensor:
    return gradient_rollout(model, image, target)


def _cam(name: str, model: Any, image: Tensor, target: int | None, stage: int | None) -> Tensor:
    """A class of pytorch-grad-cam. Its map has the size of the image, at values from 0 to 1."""
    cams = _library("pytorch_grad_cam")
    targets = _library("pytorch_grad_cam.utils.model_targets")
    with torch.enable_grad(), getattr(cams, name)(model, target_layers=[target_layer(model, stage)]) as cam:
        (found,) = cam(image[None], [targets.ClassifierOutputTarget(target)])
    return torch.from_numpy(found)


def _captum(name: str, model: Any, image: Tensor, target: int | None, stage: int | None, **options: Any) -> Tensor:
    """A class of Captum, on the image; its channels are summed."""
    attr = _library("captum.attr")
    found: Tensor = getattr(attr, name)(model).attribute(image[None], target=target, **options)
    return found[0].sum(dim=0)


def _integrated_gradients(model: Any, image: Tensor, target: int | None, stage: int | None) -> Tensor:
    """Along 32 steps from the mean colour; values as they are, positive and negative."""
    return _captum("IntegratedGradients", model, image, target, stage, n_steps=32, internal_batch_size=8)


@torch.no_grad()
def _occlusion(model: Any, image: Tensor, target: int | None, stage: int | None) -> Tensor:
    """Squares of an eighth of the image, half of it apart, are replaced by the mean colour."""
    sides = [max(1, n // 8) for n in image.shape[1:]]
    window, strides = (image.shape[0], *sides), (image.shape[0], *(max(1, side // 2) for side in sides))
    return _captum(
        "Occlusion",
        model,
        image,
        target,
        stage,
        sliding_window_shapes=window,
        strides=strides,
        perturbations_per_eval=8,
    )


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise HexavitError(f"this method needs {name.partition('.')[0]}: pip install 'hexavit[explain]'") from error


def _of_cam(name: str, text: str) -> Method:
    return Method(partial(_cam, name), of_class=True, text=f"{text} (pytorch-grad-cam)")


METHODS: dict[str, Method] = {
    "attention": Method(_attention, False, "map of the last attention of the model or of the stage"),
    "rollout": Method(_rollout, False, "attention maps of all blocks, multiplied (Abnar & Zuidema)"),
    "gradient_rollout": Method(_gradient_rollout, True, "rollout of attention times its gradients (Chefer et al.)"),
    "gradcam": _of_cam("GradCAM", "Grad-CAM of the last map or of the stage"),
    "gradcam++": _of_cam("GradCAMPlusPlus", "Grad-CAM++"),
    "hirescam": _of_cam("HiResCAM", "HiResCAM"),
    "layercam": _of_cam("LayerCAM", "LayerCAM"),
    "xgradcam": _of_cam("XGradCAM", "XGrad-CAM"),
    "eigencam": _of_cam("EigenCAM", "Eigen-CAM"),
    "integrated_gradients": Method(_integrated_gradients, True, "integrated gradients (Captum)"),
    "occlusion": Method(_occlusion, True, "drop of the logit behind a square (Captum)"),
}
"""The methods of `attribute` by their names."""


@dataclass(frozen=True)
class Curve:
    """How the probability of a class changes while pixels are deleted or inserted, those that count most first.

    Attributes:
        fractions: of pixels that were changed, from 0 to 1.
        probabilities: of the class.
        area: under the curve. Of deletion a smaller one, of insertion a larger one is more faithful.
    """

    fractions: Array
    probabilities: Array
    area: float


@torch.no_grad()
def deletion_insertion(
    model: Any, image: Tensor, found: Attribution, *, target: int | None = None, steps: int = 20
) -> tuple[Curve, Curve]:
    """Deletion and insertion curves of a map (Petsiuk et al., BMVC 2018).

    Deletion replaces pixels by the mean colour (0 after normalisation); insertion puts them into a blurred image.

    Args:
        model: the model.
        image: (C, H, W), preprocessed.
        found: the map.
        target: number of the class; None for that of the map, else the predicted one.
        steps: number of steps.

    Returns:
        The curve of deletion and that of insertion.
    """
    backbone = backbone_of(model)
    target = found.target if target is None else target
    if target is None:
        target = int(backbone(image[None])[0].argmax())
    order = np.argsort(-found.pixels().ravel(), kind="stable")
    rank = torch.empty(order.size, dtype=torch.long)
    rank[torch.from_numpy(order)] = torch.arange(order.size)
    rank = rank.view(image.shape[1:])
    side = 2 * (min(image.shape[1:]) // 8) + 1
    blurred = nn.functional.avg_pool2d(image[None], side, 1, side // 2, count_include_pad=False)[0]
    counts = torch.linspace(0, order.size, steps + 1).round().long()
    curves = []
    for inside, outside in ((torch.zeros_like(image), image), (image, blurred)):
        batch = torch.stack([torch.where(rank < count, inside, outside) for count in counts])
        logits = torch.cat([backbone(part) for part in batch.split(8)])
        values = logits.float().softmax(dim=1)[:, target].cpu().numpy()
        fractions = (counts / order.size).numpy().astype(np.float32)
        curves.append(Curve(fractions, values, float(np.trapezoid(values, fractions))))
    return curves[0], curves[1]
