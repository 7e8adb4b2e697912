"""Every training setting takes effect: a setting that is parsed and then ignored fails here.

Each function registered with ``wires`` observes one setting in the loop that ``train`` builds; expected values are
written out here, not taken from the package. A field of :class:`TrainConfig` without such a function fails too.
"""

import sqlite3
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.using import digits_folder, make_folder, silent, tiny, trained
from timm.data.auto_augment import AugMixAugment, RandAugment
from timm.data.random_erasing import RandomErasing
from torch import Tensor, nn
from torch._dynamo.eval_frame import OptimizedModule
from torchvision.transforms import ColorJitter

from hexavit.data.loader import Draw
from hexavit.errors import DataError, HexavitError
from hexavit.training import TrainConfig, train
from hexavit.training import trainer as trainer_module
from hexavit.training.loop import loop as loop_module
from hexavit.training.loop.loop import TrainingLoop

SHALLOW = ("stages.*.depth=1",)
TWO_HEADS = {"model": "deit_nano", "overrides": SHALLOW, "teacher": None}
CHECKS: dict[str, Callable[["Bench"], None]] = {}


class _BuiltError(Exception):
    """Carries the loop out of ``train``, before its first step."""


class Bench:
    """Builds the loop of a run with given settings."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tmp_path, self.monkeypatch, self.count = tmp_path, monkeypatch, 0

    def out(self) -> Path:
        self.count += 1
        return self.tmp_path / f"run{self.count}"

    def loop(self, data: str | Path | None = None, **settings: Any) -> TrainingLoop:
        """The loop that ``train`` builds, not started."""

        def stop(self: TrainingLoop) -> None:
            raise _BuiltError(self)

        config = tiny(data or digits_folder(), **{"overrides": SHALLOW, "augment": "none", **settings})
        with self.monkeypatch.context() as patched:
            patched.setattr(TrainingLoop, "fit", stop)
            with pytest.raises(_BuiltError) as built:
                train(config, self.out(), console=silent())
        loop: TrainingLoop = built.value.args[0]
        torch.set_rng_state(torch.Generator().manual_seed(0).get_state())
        return loop

    def history(self, **settings: Any) -> list[dict[str, float]]:
        """The epochs of a whole run."""
        found: list[list[dict[str, float]]] = []
        fit = TrainingLoop.fit

        def watched(self: TrainingLoop) -> None:
            fit(self)
            found.append(self.history)

        config = tiny(digits_folder(), **{"overrides": SHALLOW, **settings})
        with self.monkeypatch.context() as patched:
            patched.setattr(TrainingLoop, "fit", watched)
            train(config, self.out(), console=silent())
        return found[0]


def wires(name: str) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    def register(check: Callable[[Bench], None]) -> Callable[[Bench], None]:
        CHECKS[name] = check
        return check

    return register


@pytest.mark.parametrize("name", [each.name for each in fields(TrainConfig)])
@pytest.mark.usefixtures("one_thread")
def test_a_setting_takes_effect(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert name in CHECKS, f"add a function with @wires({name!r}) that fails if the setting is ignored"
    CHECKS[name](Bench(tmp_path, monkeypatch))


def batch_of(loop: TrainingLoop) -> tuple[Tensor, Any]:
    images, target = next(iter(loop.train_loader))
    return images, target


def moved(loop: TrainingLoop, gradient: float = 1.0) -> dict[str, Tensor]:
    """How far one update moves each weight, where every element of the gradient is ``gradient``."""
    before = {name: value.detach().clone() for name, value in loop.model.named_parameters()}
    for parameter in loop.model.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    loop.update_weights()
    return {name: value.detach() - before[name] for name, value in loop.model.named_parameters()}


def speed(loop: TrainingLoop, name: str) -> float:
    """The learning rate of a weight: the first step of Adam without weight decay moves by exactly that much."""
    return -float(moved(loop)[name].double().mean())


STEADY = {"warmup_epochs": 0.0, "weight_decay": 0.0}
BODY, STEM, HEAD = "stages.2.blocks.0.feedforward.fc1.weight", "stages.0.tokens.conv.weight", "head.fc.weight"


@wires("model")
def _(bench: Bench) -> None:
    for name in ("cvt_nano", "deit_nano"):
        model: Any = bench.loop(model=name).model
        assert (model.architecture.name, len(model.head.classifiers)) == (name, 1 + (name == "deit_nano"))


@wires("data")
def _(bench: Bench) -> None:
    assert bench.loop(digits_folder()).model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert bench.loop("digits", in_chans=3).model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@wires("overrides")
def _(bench: Bench) -> None:
    model: Any = bench.loop(overrides=["stages.0.depth=3", "stages.1.depth=2", "stages.2.depth=1"]).model
    assert [len(stage.blocks) for stage in model.stages] == [3, 2, 1]


@wires("start")
def _(bench: Bench) -> None:
    name = "stages.0.blocks.0.feedforward.fc1.weight"
    weights = load_file(trained().weights("best"))[name]
    assert torch.equal(bench.loop(start=str(trained().path)).model.state_dict()[name], weights)
    assert not torch.equal(bench.loop().model.state_dict()[name], weights)


def _wrapped(bench: Bench) -> dict[str, Any]:
    """Settings that start from one of two state dicts in a file, under a prefix that no wrapper has."""
    weights = load_file(trained().weights("best"))
    file = bench.tmp_path / "wrapped.pth"
    inside = {f"student.encoder.{key}": tensor for key, tensor in weights.items()}
    other = {f"teacher.{key}": torch.zeros_like(tensor) for key, tensor in weights.items()}
    torch.save({"second": {**other, **inside}, "first": {"student.encoder.x": torch.zeros(1)}}, file)
    return {"start": str(file), "entry": "second", "prefix": "student.encoder"}


@wires("entry")
def _(bench: Bench) -> None:
    name = "stages.0.blocks.0.feedforward.fc1.weight"
    expected = load_file(trained().weights("best"))[name]
    assert torch.equal(bench.loop(**_wrapped(bench)).model.state_dict()[name], expected)
    with pytest.raises(HexavitError):
        bench.loop(**{**_wrapped(bench), "entry": "first"})


@wires("prefix")
def _(bench: Bench) -> None:
    name = "stages.0.blocks.0.feedforward.fc1.weight"
    assert not bench.loop(**{**_wrapped(bench), "prefix": "teacher"}).model.state_dict()[name].any()
    with pytest.raises(HexavitError, match="an entry or a prefix is chosen in a file"):
        bench.loop(start=str(trained().path), prefix="student")


@wires("img_size")
def _(bench: Bench) -> None:
    loop = bench.loop(img_size=[48, 64])
    assert batch_of(loop)[0].shape == (8, 3, 48, 64)
    assert next(iter(loop.val_loader))[0].shape[-2:] == (48, 64)


@wires("in_chans")
def _(bench: Bench) -> None:
    loop = bench.loop(in_chans=1)
    assert batch_of(loop)[0].shape == (8, 1, 32, 32)
    assert loop.model.state_dict()[STEM].shape[1] == 1


@wires("epochs")
def _(bench: Bench) -> None:
    assert [row["step"] for row in bench.history(epochs=3)] == [3, 6, 9]  # 24 images in batches of 8


@wires("steps")
def _(bench: Bench) -> None:
    assert [row["step"] for row in bench.history(steps=5, epochs=9)] == [3, 5]  # 24 images in batches of 8


@wires("repeats")
def _(bench: Bench) -> None:
    loop = bench.loop(repeats=2, augment="crop")
    batches = [list(batch) for batch in loop.train_loader.batch_sampler]  # type: ignore[union-attr]
    assert len(batches) == 3
    for batch in batches:
        shown = [draw.position for draw in batch]
        assert sorted(shown) == sorted([*set(shown)] * 2)
        assert all(one != other for one, other in zip(shown, shown[1:] + shown[:1], strict=True))  # for Mixup
    draws = [draw for draw in batches[0] if draw.position == batches[0][0].position]
    assert not torch.equal(*(loop.train_loader.dataset[draw][0] for draw in draws))


@wires("optimizer")
def _(bench: Bench) -> None:
    assert speed(bench.loop(lr=1e-3, optimizer="momentum", **STEADY), BODY) == pytest.approx(1e-3, rel=1e-4)
    assert speed(bench.loop(lr=1e-3, optimizer="sgd", **STEADY), BODY) == pytest.approx(1.9e-3, rel=1e-4)  # Nesterov
    assert type(bench.loop(optimizer="lamb").optimizer.optimizer).__name__ == "Lamb"


@wires("optimizer_options")
def _(bench: Bench) -> None:
    options = {"lr": 1e-3, "optimizer": "sgd", "optimizer_options": ["momentum=0.5"], **STEADY}
    assert speed(bench.loop(**options), BODY) == pytest.approx(1.5e-3, rel=1e-4)
    betas = bench.loop(optimizer_options=["betas=0.8,0.9", "eps=1e-3"]).optimizer.param_groups[0]
    assert (betas["betas"], betas["eps"]) == ((0.8, 0.9), 1e-3)
    with pytest.raises(HexavitError, match=r"optimizer adamw cannot be made: .*unexpected keyword argument 'wings'"):
        bench.loop(optimizer_options=["wings=2"])


@wires("lr_batch")
def _(bench: Bench) -> None:
    loop = bench.loop(lr=1e-3, lr_batch=16, batch_size=8, **STEADY)
    assert speed(loop, BODY) == pytest.approx(0.5e-3, rel=1e-4)


@wires("head_precision")
def _(bench: Bench) -> None:
    for precision, dtype in (("same", torch.bfloat16), ("float32", torch.float32)):
        loop = bench.loop(precision="bfloat16", head_precision=precision, ema=0.5)
        seen: list[tuple[nn.Module, torch.dtype]] = []
        heads: list[Any] = [model.head.fc for model in (loop.model, loop.evaluated_model)]
        for head in heads:
            head.register_forward_hook(lambda head, _, output, seen=seen: seen.append((head, output.dtype)))
        loop.training_step(*batch_of(loop))
        loop.validation_step(loop.evaluated_model, *batch_of(loop))
        assert seen == [(head, dtype) for head in heads]  # the average has a head of its own


def rates(steps: list[int], bench: Bench, **settings: Any) -> list[float]:
    """The learning rate at steps of a run of four epochs of three steps, as a multiple of ``lr``, 0.01."""
    loop = bench.loop(**{"lr": 0.01, "epochs": 4, "warmup_epochs": 0.0, **settings})
    found = []
    for step in steps:
        loop.state.epoch, loop.state.step = divmod(step, 3)
        moved(loop)
        found.append(round(100 * loop.optimizer.param_groups[0]["lr"], 6))
    return found


@wires("schedule")
def _(bench: Bench) -> None:
    assert rates([0, 4, 6, 8], bench) == [1.0, 0.75, 0.5, 0.25]
    assert rates([0, 6, 8, 9], bench, schedule="epoch_cosine") == [1.0, 0.5, 0.5, 0.146447]
    assert rates([0, 6, 11], bench, schedule="constant") == [1.0, 1.0, 1.0]
    assert rates([0, 11], bench, schedule="step") == [1.0, 1.0]  # the first decay is after 30 epochs
    assert rates([0, 11], bench, schedule="exponential", warmup_lr=1e-4) == [0.01, 1.0]


@wires("warmup_steps")
def _(bench: Bench) -> None:
    assert rates([0, 1, 3, 5], bench, warmup_steps=4, schedule="constant") == [0.25, 0.5, 1.0, 1.0]


@wires("warmup_lr")
def _(bench: Bench) -> None:
    settings = {"warmup_lr": 0.002, "warmup_epochs": 2.0, "schedule": "constant"}
    assert rates([0, 3, 6], bench, **settings) == [0.2, 0.6, 1.0]


@wires("min_lr")
def _(bench: Bench) -> None:
    assert rates([0, 6, 12], bench, min_lr=0.002) == [1.0, 0.6, 0.2]
    assert rates([0, 9], bench, min_lr=0.002, schedule="step", decay_epochs=1.0) == [1.0, 0.2]


@wires("cooldown_epochs")
def _(bench: Bench) -> None:
    assert rates([0, 3, 6, 11], bench, cooldown_epochs=2.0) == [1.0, 0.5, 0.0, 0.0]


@wires("decay_epochs")
def _(bench: Bench) -> None:
    assert rates([0, 5, 6, 11], bench, schedule="step", decay_epochs=2.0) == [1.0, 1.0, 0.1, 0.1]


@wires("decay_rate")
def _(bench: Bench) -> None:
    assert rates([0, 3, 6], bench, schedule="step", decay_epochs=1.0, decay_rate=0.5) == [1.0, 0.5, 0.25]


@wires("batch_size")
def _(bench: Bench) -> None:
    loop = bench.loop(batch_size=6)
    assert len(batch_of(loop)[0]) == 6
    assert len(loop.train_loader) == 4


@wires("lr")
def _(bench: Bench) -> None:
    assert speed(bench.loop(lr=3e-3, **STEADY), BODY) == pytest.approx(3e-3, rel=1e-4)


@wires("head_lr")
def _(bench: Bench) -> None:
    change = moved(bench.loop(lr=1e-3, head_lr=5.0, **STEADY))
    assert float(change[HEAD].mean()) == pytest.approx(-5e-3, rel=1e-4)
    assert float(change[BODY].mean()) == pytest.approx(-1e-3, rel=1e-4)


@wires("layer_decay")
def _(bench: Bench) -> None:  # one block in each of three stages, and the stem before them
    change = moved(bench.loop(lr=1e-3, layer_decay=0.5, **STEADY))
    assert float(change[BODY].mean()) == pytest.approx(-1e-3, rel=1e-4)
    assert float(change["stages.1.blocks.0.feedforward.fc1.weight"].mean()) > -0.6e-3
    assert float(change[STEM].mean()) > -0.3e-3


@wires("freeze")
def _(bench: Bench) -> None:
    loop = bench.loop(freeze=2, lr=0.1)
    loop.train_epoch()
    fresh = bench.loop(freeze=2, lr=0.1).model.state_dict()
    changed = {name for name, value in loop.model.state_dict().items() if not torch.equal(value, fresh[name])}
    assert {name.split(".")[1] for name in changed if name.startswith("stages")} == {"2"}


@wires("weight_decay")
def _(bench: Bench) -> None:
    loop = bench.loop(lr=0.1, weight_decay=0.5, warmup_epochs=0.0)
    before = loop.model.state_dict()[BODY].clone()
    norm = next(name for name, value in loop.model.named_parameters() if value.ndim == 1)
    change = moved(loop, gradient=0.0)
    torch.testing.assert_close(change[BODY], before * -0.05)  # AdamW: w - lr weight_decay w
    assert float(change[norm].abs().max()) == 0


@wires("warmup_epochs")
def _(bench: Bench) -> None:  # three steps an epoch
    settings = {"lr": 1e-3, "epochs": 4, "weight_decay": 0.0}
    assert speed(bench.loop(warmup_epochs=2.0, **settings), BODY) == pytest.approx(1e-3 / 6, rel=1e-4)
    assert speed(bench.loop(warmup_epochs=1.0, **settings), BODY) == pytest.approx(1e-3 / 3, rel=1e-4)


@wires("clip_grad")
def _(bench: Bench) -> None:
    def norm(clip: float) -> float:
        loop = bench.loop(clip_grad=clip)
        loop.training_step(*batch_of(loop))
        return float(sum(each.grad.double().square().sum() for each in loop.model.parameters()).sqrt())  # type: ignore

    free = norm(0.0)
    assert free > 0.1
    assert norm(0.01) == pytest.approx(0.01, rel=1e-3)
    assert norm(2 * free) == pytest.approx(free, rel=1e-6)


@wires("drop_path")
def _(bench: Bench) -> None:
    def differs(rate: float) -> bool:
        model = bench.loop(drop_path=rate, overrides=[]).model.train()
        images = torch.randn(8, 3, 32, 32)
        return not torch.equal(model(images), model(images))

    assert differs(0.5)
    assert not differs(0.0)


def smoothed(logits: Tensor, labels: Tensor, share: float) -> float:
    """Cross-entropy against targets of which ``share`` is spread evenly over the classes, by its definition."""
    log_p = logits.double() - logits.double().exp().sum(1, keepdim=True).log()
    rows = range(len(labels))
    return float(sum(-(1 - share) * log_p[i, labels[i]] - share * log_p[i].mean() for i in rows) / len(labels))


@wires("label_smoothing")
def _(bench: Bench) -> None:
    for share in (0.0, 0.4):
        loop = bench.loop(label_smoothing=share)
        images, labels = batch_of(loop)
        loop.model.eval()
        with torch.no_grad():
            expected = smoothed(loop.model(images), labels, share)
            assert float(loop.loss(images, labels)) == pytest.approx(expected, rel=1e-5)


def mixed(bench: Bench, **settings: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    """A batch, the image that is mixed with each, the mixed batch, and the share that each image keeps."""
    loop = bench.loop(**settings)
    labels = torch.tensor([0, 1, 2, 0])
    images = torch.rand(4, 3, 32, 32)
    result, target = loop.mix(images, labels)
    before = images.roll(1, 0)
    keep = float(target[1, 1])
    expected = torch.tensor([[keep, 0, 0], [1 - keep, keep, 0], [0, 1 - keep, keep], [keep, 0, 1 - keep]])
    expected[0, 0] += 1 - keep  # its partner, the last image, is of the same class
    expected[3] = torch.tensor([keep, 0, 1 - keep])
    torch.testing.assert_close(target, expected)
    return images, before, result, target, keep


@wires("balance")
def _(bench: Bench) -> None:
    data = make_folder(bench.tmp_path / "data", 20)
    for file in sorted((data / "two").iterdir())[5:]:
        file.unlink()
    options: dict[str, Any] = {"data": data, "val_fraction": 0.2, "label_smoothing": 0.0}  # 16, 4 and 16 to train on
    plain, weighted, drawn = (bench.loop(balance=kind, **options) for kind in ("none", "weights", "sampler"))
    images, labels = torch.rand(3, 3, 32, 32), torch.tensor([0, 1, 2])
    with torch.no_grad():
        each = torch.tensor([smoothed(plain.model(images)[i : i + 1], labels[i : i + 1], 0.0) for i in range(3)])
        assert float(plain.loss(images, labels)) == pytest.approx(float(each.mean()), rel=1e-4)
        expected = (each * torch.tensor([36 / 48, 36 / 12, 36 / 48])).mean()  # images / (classes x images of the class)
        assert float(weighted.loss(images, labels)) == pytest.approx(float(expected), rel=1e-4)
    shares = []
    for loop in (plain, drawn):
        sampler: Any = loop.train_loader.batch_sampler.sampler  # type: ignore[union-attr]
        targets: list[int] = []
        for epoch in range(20):
            sampler.set_epoch(epoch)
            targets += [loop.train_loader.dataset.target(draw) for draw in sampler]  # type: ignore[attr-defined]
        shares.append(targets.count(1) / len(targets))
    assert shares[0] == pytest.approx(4 / 36)
    assert shares[1] == pytest.approx(1 / 3, abs=0.06)  # of 720 draws, three standard deviations


@wires("mixup")
def _(bench: Bench) -> None:
    images, before, result, _, keep = mixed(bench, mixup=1.0)
    assert 0.01 < keep < 0.99
    torch.testing.assert_close(result, keep * images + (1 - keep) * before)
    loop = bench.loop(mixup=0.0)
    assert torch.equal(loop.mix(images, torch.arange(4))[0], images)


@wires("cutmix")
def _(bench: Bench) -> None:
    images, before, result, _, keep = mixed(bench, cutmix=1.0)
    kept = (result == images).all(1)
    assert bool((kept | (result == before).all(1)).all())
    assert float(kept.float().mean()) == pytest.approx(keep, abs=1e-5)
    assert 0 < keep < 1


def sample(loop: TrainingLoop, epoch: int) -> Tensor:
    return torch.stack([loop.train_loader.dataset[Draw(epoch, number)][0] for number in range(8)])  # type: ignore[index]


@wires("augment")
def _(bench: Bench) -> None:
    random = ("mirror", "shift", "flip", "crop", "rand")
    found = {kind: bench.loop(augment=kind) for kind in ("none", *random)}
    assert torch.equal(sample(found["none"], 0), sample(found["none"], 1))
    seen = [sample(loop, 0) for loop in found.values()]
    assert not any(torch.equal(one, other) for i, one in enumerate(seen) for other in seen[:i])
    assert all(
        not torch.equal(sample(found[kind], 0), sample(found[kind], 1))
        for kind in ("mirror", "shift", "flip", "crop", "rand")
    )


def steps_of(loop: TrainingLoop, kind: type) -> list[Any]:
    transform: Any = loop.train_loader.dataset.transform  # type: ignore[attr-defined]
    return [each for each in transform.after.transforms if isinstance(each, kind)]


@wires("magnitude")
def _(bench: Bench) -> None:
    (policy,) = steps_of(bench.loop(augment="rand", magnitude=3), RandAugment)
    assert {each.magnitude for each in policy.ops} == {3}


@wires("policy")
def _(bench: Bench) -> None:
    (policy,) = steps_of(bench.loop(augment="rand", policy="rand-m3-n4-inc1"), RandAugment)
    assert ({each.magnitude for each in policy.ops}, policy.num_layers) == ({3}, 4)
    assert len(steps_of(bench.loop(augment="rand", policy="augmix-m5"), AugMixAugment)) == 1
    with pytest.raises(DataError, match="policy 'rund-m3' is none of timm's"):
        bench.loop(augment="rand", policy="rund-m3")


@wires("color_jitter")
def _(bench: Bench) -> None:
    def strengths(**settings: Any) -> list[Any]:
        return [each.brightness for each in steps_of(bench.loop(**settings), ColorJitter)]

    assert strengths(augment="crop") == [pytest.approx((0.6, 1.4))]
    assert strengths(augment="crop", color_jitter=0.1) == [pytest.approx((0.9, 1.1))]
    assert strengths(augment="rand") == []
    assert strengths(augment="rand", color_jitter=0.1) == [pytest.approx((0.9, 1.1))]
    with pytest.raises(
        HexavitError, match="color_jitter and random interpolation need augment crop or rand, not shift"
    ):
        bench.loop("digits", augment="auto", color_jitter=0.1)


@wires("interpolation")
def _(bench: Bench) -> None:
    def modes(interpolation: str) -> Any:
        loop = bench.loop(augment="crop", interpolation=interpolation)
        return loop.train_loader.dataset.transform.after.transforms[0].interpolation  # type: ignore[attr-defined]

    assert [modes(each).value for each in ("bilinear", "bicubic")] == ["bilinear", "bicubic"]
    assert [each.value for each in modes("random")] == ["bilinear", "bicubic"]


@wires("crop_pct")
def _(bench: Bench) -> None:
    loop, whole = bench.loop(crop_pct=0.5), bench.loop(crop_pct=1.0)
    assert loop.run.input_spec().crop_pct == 0.5
    assert not torch.equal(next(iter(loop.val_loader))[0], next(iter(whole.val_loader))[0])


@wires("erasing")
def _(bench: Bench) -> None:
    whole = sample(bench.loop(erasing=0.0), 0)
    assert torch.equal(sample(bench.loop(), 0), whole)  # augment=none erases nothing by default
    assert all(not torch.equal(*pair) for pair in zip(whole, sample(bench.loop(erasing=1.0), 0), strict=True))
    assert [each.probability for each in steps_of(bench.loop(augment="rand"), RandomErasing)] == [0.25]
    assert steps_of(bench.loop(augment="crop"), RandomErasing) == []


def distilled(bench: Bench, **settings: Any) -> tuple[float, Tensor, Tensor, Tensor, Tensor]:
    """The loss of a batch with a teacher, the logits of the two heads, of the teacher, and the labels."""
    loop = bench.loop(**{**TWO_HEADS, "teacher": str(trained().path), "label_smoothing": 0.0, **settings})
    images, labels = batch_of(loop)
    with torch.no_grad():
        loss = float(loop.loss(images, labels))  # the model is in training mode: it has both outputs
        first, second = loop.model(images)
        teacher = trained().model("best")(images)  # of the same size and normalisation
    return loss, first, second, teacher, labels


@wires("teacher")
def _(bench: Bench) -> None:
    loss, _, second, teacher, _ = distilled(bench, distillation_alpha=1.0)
    assert loss == pytest.approx(smoothed(second, teacher.argmax(1), 0.0), rel=1e-4)


@wires("teacher_cache")
def _(bench: Bench) -> None:
    folder = bench.tmp_path / "cache"
    loss, _, second, teacher, labels = distilled(bench, distillation_alpha=1.0, teacher_cache=str(folder))
    with sqlite3.connect(folder / "outputs.sqlite") as file:
        (count,) = file.execute("SELECT COUNT(*) FROM outputs").fetchone()
    file.close()
    assert count == len(labels)
    assert loss == pytest.approx(smoothed(second, teacher.argmax(1), 0.0), rel=1e-4)


@wires("distillation_alpha")
def _(bench: Bench) -> None:
    for alpha in (0.0, 0.3):
        loss, first, second, teacher, labels = distilled(bench, distillation_alpha=alpha)
        hard = smoothed(second, teacher.argmax(1), 0.0)
        assert loss == pytest.approx((1 - alpha) * smoothed(first, labels, 0.0) + alpha * hard, rel=1e-4)


def soft(second: Tensor, teacher: Tensor, tau: float) -> float:
    """tau^2 KL(teacher || student) / (B K) at a temperature."""
    p, q = ((each.double() / tau).softmax(1) for each in (teacher, second))
    return float((p * (p.log() - q.log())).sum() * tau**2 / p.numel())


@wires("distillation")
def _(bench: Bench) -> None:
    loss, _, second, teacher, _ = distilled(bench, distillation="soft", distillation_alpha=1.0)
    assert loss == pytest.approx(soft(second, teacher, 1.0), rel=1e-3)


@wires("distillation_tau")
def _(bench: Bench) -> None:
    loss, _, second, teacher, _ = distilled(bench, distillation="soft", distillation_alpha=1.0, distillation_tau=3.0)
    assert loss == pytest.approx(soft(second, teacher, 3.0), rel=1e-3)
    assert loss != pytest.approx(soft(second, teacher, 1.0), rel=1e-2)


TOKEN_LABELS = {"model": "lvvit_nano", "overrides": SHALLOW}


def write_halves(folder: Path) -> None:
    """Label maps with two classes, left and right."""
    names = ("one", "two", "zero")
    for file in digits_folder().rglob("*.png"):
        label = names.index(file.parent.name)
        halves = torch.tensor([(label + 1) % 3] * 3 + [(label + 2) % 3] * 3).float()
        cells = torch.stack((torch.full((1, 6, 6), 20.0), halves.expand(1, 6, 6)))
        target = folder / file.parent.name / f"{file.stem}.pt"
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.save(cells, target)


@wires("label_maps")
def _(bench: Bench) -> None:
    write_halves(bench.tmp_path / "maps")
    loop = bench.loop(**TOKEN_LABELS, label_maps=str(bench.tmp_path / "maps"), label_smoothing=0.0)
    images, target = batch_of(loop)
    _, rows = loop.mix(images, target)  # (8, 3, 2 + tokens): the label, then the maps
    labels = rows[:, :, 0].argmax(1)
    side = round((rows.shape[2] - 2) ** 0.5)
    shift = torch.tensor([1] * (side // 2) + [2] * (side // 2)).expand(side, side).flatten()  # of columns, not rows
    assert torch.equal(rows[:, :, 2:].argmax(1), (labels[:, None] + shift) % 3)
    left = torch.tensor([0.0, 0.0, 1.0, 0.4]).expand(len(labels), 4)  # a crop of the left columns: one class alone
    _, rows = loop.mix(images, target._replace(crop=left))
    assert torch.equal(rows[:, :, 2:].argmax(1), ((labels + 1) % 3)[:, None].expand(-1, rows.shape[2] - 2))


@wires("swapped_boxes")
def _(bench: Bench) -> None:
    write_halves(bench.tmp_path / "maps")
    left = torch.tensor([0.0, 0.0, 1.0, 0.4])  # of the columns, which then are rows: both classes in each row
    for swapped in (False, True):
        loop = bench.loop(**TOKEN_LABELS, label_maps=str(bench.tmp_path / "maps"), swapped_boxes=swapped)
        images, target = batch_of(loop)
        _, rows = loop.mix(images, target._replace(crop=left.expand(len(images), 4)))
        assert all(len(set(row.tolist())) == 1 + swapped for row in rows[:, :, 2:].argmax(1))


@wires("token_loss_weight")
def _(bench: Bench) -> None:
    found = []
    for weight in (1.0, 0.5, 0.0):
        write_halves(bench.tmp_path / "maps")
        loop = bench.loop(**TOKEN_LABELS, label_maps=str(bench.tmp_path / "maps"), token_loss_weight=weight)
        images, target = loop.mix(*batch_of(loop))
        loop.model.eval().head.train()  # both outputs
        with torch.no_grad():
            found.append(float(loop.loss(images, target)))
            first, tokens = loop.model(images)
            of_class = -(target[:, :, 1] * first.log_softmax(1)).sum(1).mean()
            of_tokens = -(target[:, :, 2:] * tokens.log_softmax(2).transpose(1, 2)).sum(1).mean()
        assert found[-1] == pytest.approx(float(of_class + weight * of_tokens), rel=1e-4)
    assert found[0] != pytest.approx(found[2], rel=0.1)


@wires("mix_token")
def _(bench: Bench) -> None:
    def losses(mixes: bool) -> set[float]:
        loop = bench.loop(**TOKEN_LABELS, mix_token=mixes)
        images, labels = batch_of(loop)
        loop.model.train()
        found = set()
        for seed in range(4):
            torch.manual_seed(seed)
            with torch.no_grad():
                found.add(float(loop.loss(images, labels)))
        return found

    assert len(losses(True)) > 1  # a box is drawn for each batch
    assert len(losses(False)) == 1


@wires("val_fraction")
def _(bench: Bench) -> None:
    loop = bench.loop(val_fraction=0.5)
    assert (len(loop.train_loader.dataset), len(loop.val_loader.dataset)) == (15, 15)  # type: ignore[arg-type]


def val_names(loop: TrainingLoop) -> list[str]:
    return list(loop.run.split_record()["parts"]["val"])


@wires("split_seed")
def _(bench: Bench) -> None:
    assert val_names(bench.loop(split_seed=1)) == val_names(bench.loop(split_seed=1, seed=5))
    assert val_names(bench.loop(split_seed=1)) != val_names(bench.loop(split_seed=2))


@wires("train_images")
def _(bench: Bench) -> None:
    loop = bench.loop(train_images=9)
    assert len(loop.train_loader.dataset) == 9  # type: ignore[arg-type]


@wires("on_bad_image")
def _(bench: Bench) -> None:
    data = make_folder(bench.tmp_path / "data", 5)
    next(data.rglob("*.png")).write_bytes(b"no image")
    assert len(bench.loop(data, on_bad_image="skip").run.split_record()["skipped"]) == 1
    with pytest.raises(DataError):
        train(tiny(data, on_bad_image="error"), bench.out(), console=silent())


@wires("seed")
def _(bench: Bench) -> None:
    one, same, other = (bench.loop(seed=seed, augment="crop") for seed in (1, 1, 2))
    assert torch.equal(one.model.state_dict()[BODY], same.model.state_dict()[BODY])
    assert not torch.equal(one.model.state_dict()[BODY], other.model.state_dict()[BODY])
    assert torch.equal(sample(one, 0), sample(same, 0))
    assert not torch.equal(sample(one, 0), sample(other, 0))
    orders = [[draw.position for draw in next(iter(each.train_loader.batch_sampler))] for each in (one, same, other)]  # type: ignore
    assert orders[0] == orders[1] != orders[2]


@wires("workers")
def _(bench: Bench) -> None:
    loop = bench.loop(workers=2)
    assert (loop.train_loader.num_workers, loop.val_loader.num_workers) == (2, 2)
    assert bench.loop(workers=0).train_loader.num_workers == 0


@wires("precision")
def _(bench: Bench) -> None:
    def computed(precision: str) -> torch.dtype:
        loop = bench.loop(precision=precision)
        seen: list[torch.dtype] = []
        linear = next(each for each in loop.model.modules() if isinstance(each, nn.Linear))
        linear.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
        loop.training_step(*batch_of(loop))
        assert loop.model.state_dict()[BODY].dtype == torch.float32
        return seen[0]

    assert computed("float32") == torch.float32
    assert computed("bfloat16") == torch.bfloat16


@wires("device")
def _(bench: Bench) -> None:
    assert bench.loop(device="cpu").fabric.device.type == "cpu"
    if torch.cuda.is_available():
        assert bench.loop(device="cuda").fabric.device.type == "cuda"
    else:
        with pytest.raises(HexavitError, match="cuda"):
            train(tiny(digits_folder(), device="cuda"), bench.out(), console=silent())


@wires("devices")
def _(bench: Bench) -> None:
    def find(devices: int, **_: Any) -> None:
        raise _BuiltError(devices)

    config = tiny(digits_folder(), devices=3)
    with bench.monkeypatch.context() as patched:
        patched.setattr(trainer_module.Launch, "find", find)
        with pytest.raises(_BuiltError, match="3"):
            train(config, bench.out(), console=silent())


@wires("micro_batch")
def _(bench: Bench) -> None:
    loop = bench.loop(micro_batch=3)
    sizes: list[int] = []
    loop.model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    loop.training_step(*batch_of(loop))
    assert sizes == [3, 3, 2]


@wires("ema")
def _(bench: Bench) -> None:
    loop = bench.loop(ema=0.5)
    averaged = loop.model.state_dict()[BODY].clone()
    for _ in range(20):  # far enough for timm's warm-up of the decay
        moved(loop)
        loop.state.add(0.0, 8)
        before, averaged = averaged, loop.evaluated_model.state_dict()[BODY].clone()
    torch.testing.assert_close(averaged, 0.5 * before + 0.5 * loop.model.state_dict()[BODY], rtol=1e-4, atol=1e-6)
    assert bench.loop(ema=0.0).ema is None


@wires("grad_checkpointing")
def _(bench: Bench) -> None:
    def calls(recomputed: bool) -> int:
        loop = bench.loop(grad_checkpointing=recomputed)
        seen: list[int] = []
        loop.model.stages[0].blocks[0].register_forward_pre_hook(lambda *_: seen.append(1))  # type: ignore
        loop.training_step(*batch_of(loop))
        return len(seen)

    assert (calls(False), calls(True)) == (1, 2)


@wires("compile")
def _(bench: Bench) -> None:
    bench.monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    compiled, plain = bench.loop(compile=True), bench.loop()
    assert isinstance(compiled.module._forward_module, OptimizedModule)
    assert not isinstance(plain.module._forward_module, OptimizedModule)
    assert list(compiled.state_dict()["model"]) == list(plain.state_dict()["model"])
    losses = [loop.training_step(*batch_of(loop))[0] for loop in (compiled, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@wires("shard")
def _(bench: Bench) -> None:  # test_distributed.py trains with it
    with pytest.raises(HexavitError, match="shard needs several processes"):
        bench.loop(shard=True)
    assert bench.loop(shard=False).config.shard is False


@wires("ema_warmup")
def _(bench: Bench) -> None:
    for warmup, decay in ((False, 0.9), (True, 1 - 2 ** (-2 / 3))):
        loop = bench.loop(ema=0.9, ema_warmup=warmup)
        moved(loop)  # begins the average
        loop.state.add(0.0, 8)
        before = loop.evaluated_model.state_dict()[BODY].clone()
        moved(loop)
        now = loop.model.state_dict()[BODY]
        averaged = loop.evaluated_model.state_dict()[BODY]
        torch.testing.assert_close(averaged, decay * before + (1 - decay) * now, rtol=1e-4, atol=1e-6)


@wires("patience")
def _(bench: Bench) -> None:
    still = {"epochs": 5, "lr": 1e-12, "freeze": 3, "augment": "none"}  # nothing that is validated changes
    assert len(bench.history(**still, patience=2)) == 3
    assert len(bench.history(**still, patience=0)) == 5


@wires("save_every")
def _(bench: Bench) -> None:
    def written(seconds: float) -> int:
        calls: list[Any] = []
        with bench.monkeypatch.context() as patched:
            patched.setattr(loop_module, "write_checkpoint", lambda *args: calls.append(args))
            bench.history(save_every=seconds, epochs=1)
        return len(calls)

    assert written(1e9) == 1  # at the end of the epoch
    assert written(0.0) == 1 + 3


@wires("wandb")
def _(bench: Bench) -> None:
    begun: list[Any] = []

    def init(**options: Any) -> SimpleNamespace:
        begun.append(options["project"])
        return SimpleNamespace(id="x", log=lambda *_, **__: None, finish=lambda **_: None)

    bench.monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    bench.history(wandb="project", epochs=1)
    assert begun == ["project"]


@pytest.mark.usefixtures("one_thread")
def test_validation_is_without_augmentation_and_label_smoothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, monkeypatch)
    plain, other = (
        bench.loop(augment=kind, erasing=share, label_smoothing=0.4) for kind, share in (("none", 0.0), ("rand", 1.0))
    )
    for (images, labels), (same, theirs) in zip(plain.val_loader, other.val_loader, strict=True):
        assert torch.equal(images, same)
        assert torch.equal(labels, theirs)
    loss = other.validation_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    assert loss.item() == pytest.approx(0.126928, abs=1e-6)  # log(1 + exp(-2))
