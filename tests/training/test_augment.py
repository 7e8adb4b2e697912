import pickle

from PIL import Image

from hexavit.inference.preprocess import InputSpec
from hexavit.training.augment import training_transform
from hexavit.training.randomness import seeded

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
