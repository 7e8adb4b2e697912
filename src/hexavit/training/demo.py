"""``hexavit demo``: trains a small CvT on handwritten digits and predicts some validation digits."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hexavit.data.digits import Digits
from hexavit.files import replacing
from hexavit.inference.prediction import predict
from hexavit.runs.run_folder import Run, next_free_path
from hexavit.training.config import TrainConfig
from hexavit.training.trainer import Trained, train

RECIPE = TrainConfig(model="cvt_nano", data=Digits.name, epochs=20, batch_size=64, lr=4e-3)
"""The settings of the demo; the recipe ``digits`` holds the same."""


def demo(
    out: str | Path | None = None,
    *,
    config: TrainConfig = RECIPE,
    overwrite: bool = False,
    console: Console | None = None,
) -> Trained:
    """Train, predict one validation digit of each class, and print commands to try next.

    Args:
        out: the run folder; by default ``runs/demo``, or the next free name after it.
        config: the settings; the data is the digits.
        overwrite: replace a run that is there.
        console: where it is printed; by default the standard output.
    """
    console = console or Console()
    trained = train(config, out or next_free_path(Path("runs", "demo")), overwrite=overwrite, console=console)
    truths = _keep_examples(trained.run)
    console.print("\nvalidation digits, which were not trained on:", highlight=False)
    table = Table("image", "true class", "prediction", "probability")
    for found in predict(trained.run, truths, top=1):
        (name, probability), truth = found.top[0], truths[found.image]
        table.add_row(found.image.name, truth, name if name == truth else f"{name} (wrong)", f"{probability:.2%}")
    console.print(table)
    metrics = trained.metrics
    console.print(
        f"validation accuracy {metrics['last_accuracy']:.2%} after the last epoch, {metrics['accuracy']:.2%} after "
        f"epoch {metrics['best_epoch']} of {metrics['epochs']}, the best; {metrics['seconds']:.0f} s of training\n\n"
        "to try next:\n" + "\n".join(_next_commands(trained.run)),
        highlight=False,
        soft_wrap=True,
    )
    return trained


def _keep_examples(run: Run) -> dict[Path, str]:
    """One validation digit of each class as a PNG in the run folder, with its true class."""
    source = Digits()
    numbers = {name: number for number, name in enumerate(source.names)}
    kept: dict[str, Path] = {}
    for name in run.split_record()["parts"]["val"]:
        truth = source.classes[source.labels[numbers[name]]]
        if truth not in kept:
            kept[truth] = run.examples / f"digit-{truth}-{name}.png"
            with replacing(kept[truth]) as temporary:
                source.load(numbers[name]).save(temporary, format="png")
    return {kept[truth]: truth for truth in sorted(kept)}


def _next_commands(run: Run) -> list[str]:
    folder = shlex.quote(str(run.path))
    return [
        f"  hexavit predict {folder} {shlex.quote(str(run.examples))}",
        f"  hexavit evaluate {folder} --data digits",
        "  hexavit profile cvt_nano",
        "  hexavit show cvt_nano --set stages.2.attention.method=linear",
        "  hexavit train --model cvt_nano --data digits --epochs 10 --set stages.2.attention.method=linear",
        f"  tensorboard --logdir {shlex.quote(str(run.tensorboard))}",
    ]
