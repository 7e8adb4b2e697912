"""Detect and segment handwritten digits: torchvision's RetinaNet and Mask R-CNN on a hexavit backbone.

    python examples/detection.py                                    # RetinaNet on cvt_13, 20 steps
    python examples/detection.py --detector mask_rcnn --model cvt_nano --steps 100

The images are generated: scikit-learn's digits, enlarged and placed on a dark background, each with its class, its box
and its mask. Training starts from random weights, so the example shows that the detector trains, not its accuracy.
"""

import argparse
from collections.abc import Iterator

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

import hexavit

CLASSES = 1 + 10  # the ground, and the digits
Target = dict[str, Tensor]


def scenes(batch: int, side: int, seed: int = 0) -> Iterator[tuple[list[Tensor], list[Target]]]:
    """Endless batches of images (3, side, side) and targets: boxes (n, 4), labels (n) and masks (n, side, side)."""
    digits = load_digits()
    pixels, labels = torch.tensor(digits.images, dtype=torch.float32) / 16, torch.tensor(digits.target)
    rng = torch.Generator().manual_seed(seed)
    while True:
        made = [scene(pixels, labels, side, rng) for _ in range(batch)]
        yield [image for image, _ in made], [target for _, target in made]


def scene(pixels: Tensor, labels: Tensor, side: int, rng: torch.Generator) -> tuple[Tensor, Target]:
    """One image with a digit of random size and position in each quarter."""
    image, masks, classes = torch.rand(side, side, generator=rng) * 0.1, [], []
    half = side // 2
    for quarter in range(4):
        which = int(torch.randint(len(labels), (), generator=rng))
        size = int(torch.randint(half // 2, half + 1, (), generator=rng))
        top, left = (int(torch.randint(half - size + 1, (), generator=rng)) for _ in range(2))
        digit = F.interpolate(pixels[None, None, which], size=(size, size), mode="bilinear")[0, 0]
        canvas = torch.zeros(side, side)
        top, left = top + half * (quarter // 2), left + half * (quarter % 2)
        canvas[top : top + size, left : left + size] = digit
        image = torch.maximum(image, canvas)
        masks.append(canvas > 0.25)
        classes.append(1 + int(labels[which]))
    return image.expand(3, -1, -1).contiguous(), {
        "boxes": torch.stack([box_of(mask) for mask in masks]),
        "labels": torch.tensor(classes),
        "masks": torch.stack(masks).to(torch.uint8),
    }


def box_of(mask: Tensor) -> Tensor:
    """The smallest box (left, top, right, bottom) around a mask."""
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    return torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()


def detector(kind: str, model: str, side: int) -> nn.Module:
    """A detector on a model's feature pyramid. CvT gives maps at strides 4, 8, 16 and 32, with 256 channels each."""
    backbone = hexavit.backbone(model, pyramid="fpn")
    levels = len(backbone.names)
    anchors = AnchorGenerator(
        sizes=tuple((side / 8 * 2**i,) for i in range(levels)), aspect_ratios=((0.5, 1.0, 2.0),) * levels
    )
    sizes = {"min_size": side, "max_size": side}
    if kind == "retinanet":
        return RetinaNet(backbone, CLASSES, anchor_generator=anchors, **sizes)
    maps = [name for name in backbone.names if name != "pool"]
    return MaskRCNN(
        backbone,
        CLASSES,
        rpn_anchor_generator=anchors,
        box_roi_pool=MultiScaleRoIAlign(maps, output_size=7, sampling_ratio=2),
        mask_roi_pool=MultiScaleRoIAlign(maps, output_size=14, sampling_ratio=2),
        **sizes,
    )


def train(kind: str, model: str, steps: int, batch: int, side: int) -> tuple[nn.Module, list[float]]:
    """Train a detector with AdamW. Returns the detector and the loss of each step."""
    torch.manual_seed(0)
    net = detector(kind, model, side).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    losses: list[float] = []
    for _, (images, targets) in zip(range(steps), scenes(batch, side), strict=False):
        parts = net(images, targets)
        loss = sum(parts.values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        print(f"step {len(losses):>4}  loss {losses[-1]:.3f}  " + "  ".join(f"{k} {v:.3f}" for k, v in parts.items()))
    return net, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", choices=("retinanet", "mask_rcnn"), default="retinanet")
    parser.add_argument("--model", default="cvt_13")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--side", type=int, default=128)
    asked = parser.parse_args()
    net, _ = train(asked.detector, asked.model, asked.steps, asked.batch, asked.side)
    images, _ = next(scenes(1, asked.side, seed=1))
    with torch.no_grad():
        (found,) = net.eval()(images)
    print(f"\nin a new scene: {len(found['boxes'])} boxes; the surest:")
    for box, label, score in zip(found["boxes"][:4], found["labels"], found["scores"], strict=False):
        print(f"  a {int(label) - 1} at {[round(x) for x in box.tolist()]}, {score:.0%}")


if __name__ == "__main__":
    main()
