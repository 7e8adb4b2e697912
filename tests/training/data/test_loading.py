import pytest
import torch
from tests.using import digits_folder

from hexavit.inference.preprocess import InputSpec
from hexavit.training.augment import training_transform
from hexavit.training.data import ImageFolder
from hexavit.training.data.loading import EpochSampler, Images, make_loader
from hexavit.training.quiet import quiet_lightning

SPEC = InputSpec((16, 16), 3, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0, "center")


def batches(workers: int, epoch: int, kind: str = "rand", channels: int = 3) -> list[torch.Tensor]:
    spec = InputSpec(SPEC.size, channels, SPEC.mean[:channels], SPEC.std[:channels], "bilinear", 1.0, "center")
    source = ImageFolder(digits_folder())
    images = Images(source, range(0, 30, 2), training_transform(spec, kind), seed=5)
    loader = make_loader(images, batch_size=4, workers=workers, training=True)
    loader.sampler.set_epoch(epoch)
    with quiet_lightning():
        return [batch for batch, _ in loader]


@pytest.mark.parametrize("kind", ["shift", "crop", "rand"])
@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_is_a_function_of_seed_epoch_and_image(kind: str, channels: int) -> None:
    torch.manual_seed(1)
    first = batches(0, 0, kind, channels)
    torch.manual_seed(2)
    again, other = batches(0, 0, kind, channels), batches(0, 1, kind, channels)
    assert [len(batch) for batch in first] == [4, 4, 4]
    assert first[0].shape == (4, channels, 16, 16)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_number_of_workers_does_not_matter() -> None:
    assert all(torch.equal(a, b) for a, b in zip(batches(0, 3), batches(2, 3), strict=True))


def test_an_epoch_draws_every_image_once() -> None:
    sampler = EpochSampler(range(10), seed=0, shuffle=True)
    orders = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        orders.append([draw.position for draw in sampler])
        assert sorted(orders[-1]) == list(range(10))
    assert orders[0] != orders[1]
    assert [draw.position for draw in EpochSampler(range(3), seed=0, shuffle=False)] == [0, 1, 2]


def test_fewer_images_than_a_batch_are_not_dropped() -> None:
    images = Images(ImageFolder(digits_folder()), range(3), SPEC.transform(), seed=0)
    assert [len(batch) for batch, _ in make_loader(images, batch_size=8, workers=0, training=True)] == [3]
