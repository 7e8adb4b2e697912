import pickle

from PIL import Image

from hexavit.data.augment import training_transform
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
