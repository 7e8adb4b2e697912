"""Random architectures over all parts: built, saved, trained a step and exported; random wrong edits are errors."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.parts.contract import every_output
from tests.parts.test_pairs import every

import hexavit
from hexavit import Architecture, Backbone, HexavitError, Part, Stage
from hexavit.architecture import COLUMNS
from hexavit.models import list_models, resolve
from hexavit.parts import part_names

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = (24, 20)


def candidates(seed: int) -> Iterator[Architecture]:
    """Endless random architectures of one to three stages; many do not fit together."""
    choose = random.Random(seed)
    parts = {kind: list(every(kind)) for kind in (*COLUMNS, "head")}
    likely = {
        "tokens": Part("conv", kernel=3, stride=2, padding=1),
        "residual": Part("pre_norm"),
        "position": Part("none"),
    }
    while True:
        stages = []
        for i in range(choose.randint(1, 3)):
            columns = {kind: choose.choice(parts[kind]) for kind in COLUMNS}
            for kind, part in likely.items():  # a few parts fit many others
                if choose.random() < (0.9 if i == 0 and kind == "tokens" else 0.5):
                    columns[kind] = part
            dim = choose.choice((8, 16))
            stages.append(Stage(dim, choose.randint(1, 2), drop_path=choose.choice((0.0, 0.1)), **columns))
        yield Architecture(f"random_{seed}", tuple(stages), choose.choice(parts["head"]), num_classes=3, img_size=SIZE)


def built(architecture: Architecture) -> Backbone | None:
    torch.manual_seed(0)
    try:
        return Backbone(architecture)
    except HexavitError as raised:
        error = str(raised)
    assert "\n" not in error
    return None


def valid(seed: int, count: int) -> Iterator[Backbone]:
    """The first so many of them that can be built; every other one is an error of one sentence."""
    found = 0
    for tried, architecture in enumerate(candidates(seed)):
        assert tried < 200 * count, "hardly any random architecture is valid"
        model = built(architecture)
        if model is None:
            continue
        yield model
        found += 1
        if found == count:
            return


def works(model: Backbone, tmp_path: Path, *, export: bool) -> None:
    architecture = model.architecture
    again = Architecture.from_json(architecture.to_json())
    assert again == architecture
    images = torch.randn(2, 3, *SIZE)
    model.eval()
    with torch.no_grad():
        expected = model(images)
    hexavit.save_pretrained(model, tmp_path / "saved")
    loaded = hexavit.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        assert torch.equal(loaded(images), expected)
    model.train()
    outputs = every_output(model(images))
    torch.stack([output.square().sum() for output in outputs]).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    if export:
        model.eval()  # the step has changed the statistics of batch norms
        with torch.no_grad():
            expected = model(images)
        exported = torch.export.export(model, (images,)).module()
        assert torch.allclose(exported(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_random_compositions_work(seed: int, tmp_path: Path) -> None:
    for number, model in enumerate(valid(seed, 6)):
        works(model, tmp_path / str(number), export=seed == number == 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_many_random_compositions_work(seed: int, tmp_path: Path) -> None:
    for number, model in enumerate(valid(seed, 10)):
        works(model, tmp_path / str(number), export=True)


def wrong_edits(seed: int) -> Iterator[tuple[str, str]]:
    """Endless models with an edit that cannot be valid."""
    choose = random.Random(seed)
    names = sorted(name for name in list_models() if name.endswith("_nano"))
    while True:
        name = choose.choice(names)
        architecture = resolve(name)
        stage, kind = choose.randrange(len(architecture.stages)), choose.choice(list(COLUMNS))
        part = architecture.stages[stage].column(kind, 0).name
        other = choose.choice([k for k in COLUMNS if k != kind])
        foreign = choose.choice([each for each in part_names(other) if each not in part_names(kind)])
        yield (
            name,
            choose.choice(
                [
                    f"stages.{stage}.{kind}={foreign}",
                    f"stages.{stage}.{kind}.{part}_option=1",
                    f"stages.{len(architecture.stages) + choose.randrange(3)}.{kind}={part}",
                    f"stages.{stage}.{kind}s={part}",
                    f"stages.{stage}.dim={choose.choice(('-8', '0', 'wide', '1.5', 'none'))}",
                    f"stages.{stage}.depth={choose.choice(('-1', 'deep', '0.5', 'true'))}",
                    f"stages.{stage}.drop_path={choose.choice(('1.5', '-0.1', 'high'))}",
                    f"stages.{stage}.{kind}={part}(",
                    f"head={foreign}",
                    f"stage.{stage}.{kind}={part}",
                    f"stages.{stage}.{kind}",
                ]
            ),
        )


@pytest.mark.parametrize("seed", range(3))
def test_random_wrong_edits_are_errors_of_one_sentence(seed: int) -> None:
    for _, (name, edit) in zip(range(10), wrong_edits(seed), strict=False):
        with pytest.raises(HexavitError) as caught:
            hexavit.create_model(name, overrides=[edit])
        assert "\n" not in str(caught.value), edit
