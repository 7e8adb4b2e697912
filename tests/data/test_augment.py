import pickle
from typing import Any

import pytest
from PIL import Image
from timm.data.auto_augment import RandAugment
from timm.data.random_erasing import RandomErasing
from torchvision import transforms

from hexavit.data.augment import Kind, training_transform
from hexavit.data.seeding import seeded
from hexavit.images.preprocess import InputSpec

SPEC = InputSpec((16, 16), 3, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0, "center")


def test_rand_augment_at_its_highest_keeps_a_bit() -> None:
    made = training_transform(SPEC, "rand")
    (policy,) = (each for each in made.after.transforms if hasattr(each, "ops"))
    for operation in policy.ops:
        operation.magnitude = 10  # the end of the scale, which the drawn magnitudes reach now and then
    with seeded(0, "augment"):
        assert all(made(Image.new("RGB", (20, 20), (200, 100, 50))).isfinite().all() for _ in range(300))


def test_it_travels_to_other_processes() -> None:
    pickle.loads(pickle.dumps(training_transform(SPEC, "rand")))


def test_erasing_and_magnitude_are_settings() -> None:
    image = Image.new("RGB", (16, 16), (128, 128, 128))
    erased = training_transform(SPEC, "none", erasing=1.0)
    with seeded(0, "augment"):
        assert erased(image).unique().numel() > 10  # noise in a grey image
    assert training_transform(SPEC, "none")(image).unique().numel() == 1
    levels = []
    for magnitude in (1, 7):
        made = training_transform(SPEC, "rand", magnitude=magnitude)
        (policy,) = (each for each in made.after.transforms if hasattr(each, "ops"))
        levels.append({operation.magnitude for operation in policy.ops})
    assert levels == [{1}, {7}]


def steps(kind: Any, **settings: Any) -> list[Any]:
    return list(training_transform(SPEC, kind, **settings).after.transforms)


@pytest.mark.parametrize(
    ("kind", "share"),
    [("none", None), ("mirror", None), ("shift", None), ("flip", None), ("crop", None), ("rand", 0.25)],
)
def test_the_default_share_of_erased_images_is_that_of_deit(kind: str, share: float | None) -> None:
    """DeiT's main.py: --reprob 0.25, --remode pixel; without RandAugment nothing is erased."""
    erasing = [step for step in steps(kind) if isinstance(step, RandomErasing)]
    assert [step.probability for step in erasing] == ([] if share is None else [share])
    assert [step.probability for step in steps(kind, erasing=0.7) if isinstance(step, RandomErasing)] == [0.7]
    assert not [step for step in steps(kind, erasing=0.0) if isinstance(step, RandomErasing)]
    assert all(step.rand_color is False and step.per_pixel is True for step in erasing)


def test_rand_augment_is_that_of_deit() -> None:
    """DeiT's main.py: --aa rand-m9-mstd0.5-inc1, two operations of timm's increasing set on each image."""
    (policy,) = (step for step in steps("rand") if isinstance(step, RandAugment))
    assert policy.num_layers == 2
    assert {operation.magnitude for operation in policy.ops} == {9}
    assert {operation.magnitude_std for operation in policy.ops} == {0.5}
    assert {"PosterizeIncreasing", "SolarizeIncreasing"} <= {operation.name for operation in policy.ops}


@pytest.mark.parametrize("kind", ["crop", "rand"])
def test_crops_and_mirroring_are_those_of_imagenet_training(kind: str) -> None:
    crop, mirror, colour = steps(kind)[:3]
    assert (tuple(crop.scale), tuple(crop.ratio), crop.size) == ((0.08, 1.0), (3 / 4, 4 / 3), SPEC.size)
    assert mirror.p == 0.5
    if kind == "crop":
        assert [getattr(colour, name) for name in ("brightness", "contrast", "saturation")] == [(0.6, 1.4)] * 3


def test_shifts_are_small() -> None:
    (shift,) = (step for step in steps("shift") if isinstance(step, transforms.RandomAffine))
    assert shift.degrees == [-10.0, 10.0]
    assert (tuple(shift.translate), tuple(shift.scale)) == ((0.1, 0.1), (0.9, 1.1))
    assert not [step for step in steps("shift") if isinstance(step, transforms.RandomHorizontalFlip)]


@pytest.mark.parametrize(("kind", "most"), [("mirror", 0), ("flip", 2)])
def test_flip_mirrors_and_shifts_by_an_eighth_and_mirror_only_mirrors(kind: Kind, most: int) -> None:
    """A ramp from left to right: each input is the ramp or its mirror image, moved, its edge repeated."""
    image = Image.new("L", (16, 16))
    image.putdata([10 * (x + 1) for _ in range(16) for x in range(16)])
    spec = InputSpec((16, 16), 1, (0.0,), (1.0,), "bilinear", 1.0, "center")
    made = training_transform(spec, kind)
    found = set()
    with seeded(0, "flip"):
        for _ in range(100):
            row = [round(float(value) * 255) for value in made(image)[0, 8]]
            mirrored = row[0] > row[-1]
            row = row[::-1] if mirrored else row
            shift = next(n for n in range(-2, 3) if row == [10 * (min(15, max(0, x + n)) + 1) for x in range(16)])
            found.add((mirrored, shift))
    assert found == {(mirrored, shift) for mirrored in (False, True) for shift in range(-most, most + 1)}
