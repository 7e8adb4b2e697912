"""Fifty steps of training give the losses of other libraries' models, from the same weights on the same batches."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from tests.using import tiny
from torch import Tensor, nn

import hexavit
from hexavit.training.loop.optimizer import make_optimizer
from hexavit.training.loop.schedule import scheduled_factor, set_learning_rate
from hexavit.training.objectives.losses import CrossEntropy

transformers = pytest.importorskip("transformers")
STEPS, LR, DECAY = 50, 1e-3, 0.05


def batches() -> list[tuple[Tensor, Tensor]]:
    """Ten batches, five times: images with a gradient whose direction is their class, and noise."""
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(-1, 1, 64)
    found = []
    for _ in range(10):
        labels = torch.randint(4, (8,), generator=generator)
        plain = torch.stack([torch.rot90(ramp.expand(64, 64), int(label)) for label in labels])
        found.append((plain[:, None] + torch.randn(8, 3, 64, 64, generator=generator), labels))
    return found * 5


def our_losses(model: Any) -> list[float]:
    """With the optimizer, schedule and loss of `hexavit train`."""
    config = tiny("digits", lr=LR, weight_decay=DECAY, epochs=5, warmup_epochs=1, label_smoothing=0.1)
    optimizer, loss_of = make_optimizer(model.train(), config), CrossEntropy(config.label_smoothing)
    losses = []
    for step, (images, labels) in enumerate(batches()):
        set_learning_rate(optimizer, scheduled_factor(step, config, 10))
        losses.append(step_of(optimizer, lambda x=images, y=labels: loss_of(model(x), y)))
    return losses


def their_losses(model: nn.Module, undecayed: tuple[str, ...]) -> list[float]:
    """With PyTorch's AdamW, schedule and loss; no decay of vectors and of the parameters named."""
    split: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.train().named_parameters():
        split[parameter.ndim > 1 and not name.endswith(undecayed)].append(parameter)
    groups: list[Any] = [{"params": some, "weight_decay": DECAY * decays} for decays, some in split.items()]
    optimizer = torch.optim.AdamW(groups, lr=LR)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 9)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], [10])
    losses = []
    for images, labels in batches():

        def loss(x: Tensor = images, y: Tensor = labels) -> Tensor:
            output: Any = model(x)
            return F.cross_entropy(getattr(output, "logits", output), y, label_smoothing=0.1)

        losses.append(step_of(optimizer, loss))
        schedule.step()
    return losses


def step_of(optimizer: torch.optim.Optimizer, loss_of: Callable[[], Tensor]) -> float:
    optimizer.zero_grad()
    loss = loss_of()
    loss.backward()
    optimizer.step()
    return loss.item()


def cvt(act: str) -> tuple[Any, nn.Module, tuple[str, ...]]:
    widths, heads, depths = (16, 32, 48), (1, 2, 3), (1, 2, 3)  # theirs needs such depths
    config = transformers.CvtConfig(
        num_labels=4, embed_dim=list(widths), num_heads=list(heads), depth=list(depths), drop_path_rate=[0.0] * 3
    )
    torch.manual_seed(0)
    peer = transformers.CvtForImageClassification(config)
    edits = [f"stages.*.feedforward.act={act}", "stages.*.drop_path=0"]
    for number, (width, count, depth) in enumerate(zip(widths, heads, depths, strict=True)):
        stage = f"stages.{number}"
        edits += [f"{stage}.dim={width}", f"{stage}.attention.heads={count}", f"{stage}.depth={depth}"]
    return hexavit.create_model("cvt_13", num_classes=4, img_size=64, overrides=edits), peer, ("cls_token",)


def deit() -> tuple[Any, nn.Module, tuple[str, ...]]:
    sizes = {"embed_dim": 64, "depth": 3, "num_heads": 2}
    torch.manual_seed(0)
    peer = timm.create_model("deit_tiny_patch16_224", img_size=64, num_classes=4, drop_path_rate=0.0, **sizes)
    edits = ["stages.0.dim=64", "stages.0.depth=3", "stages.0.attention.heads=2", "stages.0.drop_path=0"]
    ours = hexavit.create_model("deit_tiny_patch16_224", num_classes=4, img_size=64, overrides=edits)
    return ours, peer, ("cls_token", "pos_embed")


@pytest.mark.slow
@pytest.mark.parametrize("made", [lambda: cvt("gelu"), deit], ids=["cvt-transformers", "deit-timm"])
@pytest.mark.usefixtures("one_thread")
def test_fifty_steps_give_the_same_losses(made: Callable[[], tuple[Any, nn.Module, tuple[str, ...]]]) -> None:
    ours, peer, undecayed = made()
    report = hexavit.load_checkpoint(ours, peer.state_dict())
    assert (report.left_over, report.missing) == ({}, {})
    own, theirs = our_losses(ours), their_losses(peer, undecayed)
    assert len(own) == STEPS
    assert theirs[-1] < 0.8 * theirs[0]
    assert own == pytest.approx(theirs, abs=1e-4)


@pytest.mark.slow
def test_another_activation_gives_other_losses() -> None:
    """The comparison is sharp enough to see CvT's own activation, x sigmoid(1.702 x), instead of the exact GELU."""
    ours, peer, undecayed = cvt("quick_gelu")
    hexavit.load_checkpoint(ours, peer.state_dict())
    assert our_losses(ours) != pytest.approx(their_losses(peer, undecayed), abs=1e-4)
