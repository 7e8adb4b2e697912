from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.using import digits_folder, history, silent, tiny, train_by_command
from torchvision.transforms import ColorJitter

from hexavit.data import open_source
from hexavit.data.loader import Draw, Images
from hexavit.data.seeding import seeded
from hexavit.errors import DataError
from hexavit.images.preprocess import InputSpec
from hexavit.inference import Run
from hexavit.teachers.label_maps import LabelMaps
from hexavit.training import train
from hexavit.training.objectives.label_maps import MappedImages, TrackedTransform
from hexavit.training.objectives.token_labels import TokenLabels, token_label_targets

CELLS, SIDE, LEVELS = 18, 4, 9


def chequered(generator: np.random.Generator, height: int, width: int) -> tuple[Image.Image, torch.Tensor]:
    """An image of 3 x 3 fields, each with the grey level of its class, and its label map (2, 5, 18, 18)."""
    fields = generator.permutation(LEVELS).reshape(3, 3)
    cells = torch.from_numpy(np.kron(fields, np.ones((CELLS // 3,) * 2)))
    pixels = np.kron(fields, np.ones((height // 3, width // 3))) * 30
    others = torch.stack([(cells + shift) % LEVELS for shift in range(5)])  # five different classes in every cell
    logits = torch.tensor([20.0, 1.0, 1.0, 1.0, 1.0])[:, None, None].expand(5, CELLS, CELLS)
    return Image.fromarray(pixels.astype(np.uint8)).convert("RGB"), torch.stack((logits, others.float()))


@pytest.mark.parametrize("kind", ["none", "mirror", "flip", "crop", "rand"])
@pytest.mark.parametrize("size", [(72, 72), (72, 144), (144, 72)])
@pytest.mark.parametrize("mode", ["center", "squash"])
def test_labels_lie_where_their_pixels_lie(kind: str, size: tuple[int, int], mode: str) -> None:
    spec = InputSpec((64, 64), 3, (0.0,) * 3, (1.0,) * 3, "bilinear", 0.8, mode)
    cut = TrackedTransform(spec, kind, magnitude=9, erasing=0.0)  # type: ignore[arg-type]
    cut.after = [step for step in cut.after if "ToTensor" in str(step)]  # grey levels are the classes here
    mirrored, compared = set(), 0
    for seed in range(24):
        image, map_ = chequered(np.random.default_rng(seed), *size)
        with seeded(seed, "test"):
            pixels, crop, mirror = cut(image)
        mirrored.add(mirror)
        if mirror:
            map_ = map_.flip(-1)
        target = token_label_targets(
            map_[None, 0], map_[None, 1], crop[None], torch.tensor([0]), num_classes=LEVELS, size=SIDE, swapped=False
        )
        found = target[0, :, 2:].argmax(0).view(SIDE, SIDE)
        tokens = pixels[0].unfold(0, 16, 16).unfold(1, 16, 16)  # (4, 4, 16, 16)
        for row, column in np.ndindex(SIDE, SIDE):
            seen = tokens[row, column] * 255 / 30
            if seen.max() - seen.min() < 0.1:  # one field alone
                assert found[row, column] == seen.mean().round()
                compared += 1
    assert compared > 60
    assert mirrored == ({False} if kind == "none" else {False, True})


def test_of_rand_augment_only_colours_are_left() -> None:
    spec = InputSpec((64, 64), 3, (0.0,) * 3, (1.0,) * 3, "bilinear", 0.8, "center")
    (policy,) = (step for step in TrackedTransform(spec, "rand").after if hasattr(step, "ops"))
    assert len(policy.ops) == 10
    assert not any(each.name.startswith(("Shear", "Rotate", "Translate")) for each in policy.ops)
    assert any(isinstance(step, ColorJitter) for step in TrackedTransform(spec, "crop").after)


@pytest.mark.parametrize("policy", ["rand-m5-n3", "rand-m9-tweights", "augmix-m5-w2", "original", "3a"])
def test_no_policy_moves_pixels(policy: str) -> None:
    spec = InputSpec((64, 64), 3, (0.0,) * 3, (1.0,) * 3, "bilinear", 0.8, "center")
    cut = TrackedTransform(spec, "rand", policy=policy, erasing=0.0)
    found = [each for step in cut.after for each in (getattr(step, "ops", []), *getattr(step, "policy", ()))]
    names = {operation.name for operations in found for operation in operations}
    assert names
    assert not any(name.startswith(("Shear", "Rotate", "Translate")) for name in names)
    halves = Image.fromarray(np.repeat(np.array([[60, 200]], np.uint8), 40, axis=0).repeat(20, axis=1)).convert("RGB")
    cut.crop = None  # the whole image
    cut.before = list(spec.transform().after.transforms[:2])  # type: ignore[attr-defined]
    for seed in range(20):
        with seeded(seed, "test"):
            pixels = cut(halves)[0]
        columns = pixels.mean((0, 1))
        assert columns[:30].std() < 0.02
        assert columns[34:].std() < 0.02


def test_maps_of_other_aspect_ratios_are_cropped_by_both_sides() -> None:
    quarters = torch.zeros(1, 1, 4, 12)
    quarters[..., 6:] += 1
    quarters[..., 2:, :] += 2  # four quarters of the image, of classes 0 to 3
    for crop, classes in (((0.0, 0.0, 0.4, 0.4), {0}), ((0.0, 0.6, 0.4, 0.4), {1}), ((0.6, 0.0, 0.4, 1.0), {2, 3})):
        found = token_label_targets(
            torch.full_like(quarters, 9.0),
            quarters,
            torch.tensor([crop]),
            torch.tensor([0]),
            num_classes=4,
            size=2,
            swapped=False,
        )
        assert set(found[0, :, 2:].argmax(0).tolist()) == classes


def write_maps(folder: Path, classes: int = 3, form: str = "pt", last: int = 6) -> Path:
    """A map for each image of :func:`digits_folder`, sure of the true class everywhere."""
    source = open_source(str(digits_folder()))
    for name, label in zip(source.names, source.labels, strict=True):
        values = torch.zeros(2, 2, last, last)
        values[0, 0], values[1, 0], values[1, 1] = 5.0, label, (label + 1) % classes
        file = (folder / name).with_suffix(f".{form}")
        file.parent.mkdir(parents=True, exist_ok=True)
        if form == "pt":
            torch.save(values.half(), file)
        else:
            np.save(file, values.numpy())
    return folder


def test_maps_are_read_with_their_images(tmp_path: Path) -> None:
    source = open_source(str(digits_folder()))
    numbers = range(len(source.names))
    spec = InputSpec((32, 32), 3, (0.5,) * 3, (0.5,) * 3, "bilinear", 0.9, "center")
    for form in ("pt", "npy"):
        maps = LabelMaps(write_maps(tmp_path / form, form=form), source, numbers)
        images = MappedImages(Images(source, numbers, spec.transform(), seed=0), maps, spec, "crop")
        image, (label, logits, classes, crop) = images[Draw(0, 7)]
        assert image.shape == (3, 32, 32)
        assert (label, logits.shape, classes[0, 0, 0]) == (source.labels[7], (2, 6, 6), source.labels[7])
        assert torch.equal(images[Draw(0, 7)][0], image)
        assert 0 <= float(crop[0]) <= 1
        assert not torch.equal(images[Draw(1, 7)][0], image)
    with pytest.raises(DataError, match="not shift, whose rotations they cannot follow"):
        MappedImages(images, maps, spec, "shift")


def test_a_map_is_mirrored_from_left_to_right_with_its_image(tmp_path: Path) -> None:
    source = open_source(str(digits_folder()))
    spec = InputSpec((32, 32), 3, (0.5,) * 3, (0.5,) * 3, "bilinear", 0.9, "center")
    maps = LabelMaps(write_maps(tmp_path / "maps", form="pt"), source, [0])
    plain = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    maps.load = lambda number: torch.stack((plain, 10 * plain))  # type: ignore[method-assign]
    images = MappedImages(Images(source, [0], spec.transform(), seed=0), maps, spec, "crop")
    found = [images[Draw(epoch, 0)][1] for epoch in range(12)]
    assert {tuple(one.logits.flatten().tolist()) for one in found} == {(1, 2, 3, 4), (2, 1, 4, 3)}
    assert all(torch.equal(one.classes, 10 * one.logits) for one in found)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"nonsense", "this label map is damaged or not safe to read"),
        (torch.zeros(3, 4), "a label map holds finite numbers of shape (2, k, n, n)"),
        (torch.full((2, 2, 6, 6), 3.0), "label map with class index 3: indices are 0 to 2"),
        (torch.zeros(2, 2, 5, 5), "label map of shape (2, 2, 5, 5), where others have (2, 2, 6, 6)"),
        (None, "1 of 30 images have no label map, such as zero/0000.png, whose map would be zero/0000.pt"),
    ],
)
def test_wrong_maps_are_named(tmp_path: Path, content: object, sentence: str) -> None:
    source = open_source(str(digits_folder()))
    file = write_maps(tmp_path / "maps") / "zero" / "0000.pt"
    file.unlink()
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(DataError) as raised:
        LabelMaps(tmp_path / "maps", source, range(30)).load(source.names.index("zero/0000.png"))
    assert sentence in str(raised.value)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("more", [[], ["--mix-token"], ["--augment", "rand", "--magnitude", "5"]])
def test_token_labels_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]) -> None:
    maps = write_maps(tmp_path / "maps")
    printed = train_by_command(capsys, tmp_path / "run", "--model", "lvvit_nano", "--label-maps", maps, *more)
    assert "validation accuracy" in printed
    run = Run.open(tmp_path / "run")
    assert f"label_maps: {maps}" in run.config.read_text()
    assert run.model().eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 3)


@pytest.mark.usefixtures("one_thread")
def test_mix_token_without_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "validation accuracy" in train_by_command(capsys, tmp_path / "run", "--model", "lvvit_nano", "--mix-token")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "cvt_nano", "--mix-token"], "mix_token needs a model with head=token_labels, such as lvvit_nano"),
        (
            ["--model", "lvvit_nano", "--mix-token", "--mixup", 0.2],
            "with mixup or cutmix: set these to 0",
        ),
        (["--model", "lvvit_nano", "--label-maps", "nowhere"], "nowhere: there is no such folder of label maps"),
        (
            ["--model", "lvvit_nano", "--label-maps", "MAPS", "--augment", "shift"],
            "not shift, whose rotations they cannot follow",
        ),
        (
            ["--model", "lvvit_nano", "--mix-token", "--teacher", "x"],
            "teacher needs another head",
        ),
    ],
)
def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[object], sentence: str) -> None:
    maps = write_maps(tmp_path / "maps")
    printed = train_by_command(capsys, tmp_path / "run", *(maps if each == "MAPS" else each for each in arguments))
    assert sentence in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("one_thread")
def test_token_accuracy_is_logged_beside_that_of_the_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"model": "lvvit_nano", "label_maps": str(write_maps(tmp_path / "maps")), "micro_batch": 5}
    hits, seen = TokenLabels.hits, []

    def watched(self: TokenLabels, *args: Any) -> torch.Tensor:
        seen.append((hits(self, *args), len(args[1])))
        return seen[-1][0]

    monkeypatch.setattr(TokenLabels, "hits", watched)
    run = train(tiny(digits_folder(), **settings, epochs=1), tmp_path / "run", console=silent()).run
    (row,) = history(run)
    total, images = torch.stack([each for each, _ in seen]).sum(0), sum(count for _, count in seen)
    assert images == 24
    logged = [float(row[name]) for name in ("train_accuracy", "train_token_accuracy")]
    assert logged == pytest.approx((total / images).tolist())
    assert list(row)[3:6] == ["train_loss", "train_accuracy", "train_token_accuracy"]
