import pytest
import torch
from tests.using import digits_folder

from hexavit.data import ImageFolder
from hexavit.data.augment import training_transform
from hexavit.data.loader import UNCOUNTED, BatchShares, EpochSampler, Images, make_loader, worker_errors
from hexavit.images.preprocess import InputSpec
from hexavit.processes import Processes

SPEC = InputSpec((16, 16), 3, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0, "center")


def batches(workers: int, epoch: int, kind: str = "rand", channels: int = 3) -> list[torch.Tensor]:
    spec = InputSpec(SPEC.size, channels, SPEC.mean[:channels], SPEC.std[:channels], "bilinear", 1.0, "center")
    source = ImageFolder(digits_folder())
    images = Images(source, range(0, 30, 2), training_transform(spec, kind), seed=5)
    loader = make_loader(images, batch_size=4, workers=workers, training=True)
    loader.batch_sampler.sampler.set_epoch(epoch)
    with worker_errors():
        return [batch for batch, _ in loader]


@pytest.mark.parametrize("kind", ["mirror", "shift", "flip", "crop", "rand"])
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


def shares(world: int, count: int = 23, size: int = 8, drop_last: bool = True, **more: object) -> list[list[list[int]]]:
    """By process, by batch: the positions."""
    found = []
    for rank in range(world):
        sampler = EpochSampler(range(count), seed=3, shuffle=True)
        batches = BatchShares(sampler, size, drop_last=drop_last, processes=Processes(rank, world), **more)  # type: ignore[arg-type]
        found.append([[draw.position if draw.counts else -1 for draw in share] for share in batches])
        assert len(found[-1]) == len(batches) - (more.get("begin", (0, 0))[1])  # type: ignore[index]
    return found


@pytest.mark.parametrize("world", [2, 3, 8])
@pytest.mark.parametrize("drop_last", [True, False])
def test_processes_split_the_very_batches_of_one(world: int, drop_last: bool) -> None:
    (alone,) = shares(1, drop_last=drop_last)
    together = shares(world, drop_last=drop_last)
    for number, batch in enumerate(alone):
        parts = [each[number] for each in together]
        assert [position for part in parts for position in part if position >= 0] == batch
        assert all(parts)
        counted = [len([position for position in part if position >= 0]) for part in parts]
        assert max(counted) - min(counted) <= 1


def test_an_epoch_starts_at_the_given_batch_and_the_next_at_its_first() -> None:
    (alone,) = shares(1)
    assert shares(1, begin=(0, 1)) == [alone[1:]]
    sampler = EpochSampler(range(23), seed=3, shuffle=True)
    batches = BatchShares(sampler, 8, drop_last=True, processes=Processes(), begin=(4, 1))
    assert sampler.epoch == 4  # for workers that start before `set_epoch` is called
    assert len(list(batches)) == 1
    sampler.set_epoch(5)
    assert len(list(batches)) == 2


def test_a_mixture_finds_the_image_before() -> None:
    (alone,) = shares(1, halo=True)
    assert alone == shares(1)[0]
    for first, second, batch in zip(*shares(2, halo=True), alone, strict=True):
        assert first == [batch[-1], *batch[:4]]
        assert second == batch[3:]


def test_an_image_for_company_is_not_counted() -> None:
    images = Images(ImageFolder(digits_folder()), range(3), SPEC.transform(), seed=0)
    loader = make_loader(images, batch_size=2, workers=0, training=False, processes=Processes(0, 2))
    assert [labels.tolist() for _, labels in loader] == [[0], [UNCOUNTED]]
    other = make_loader(images, batch_size=2, workers=0, training=False, processes=Processes(1, 2))
    assert [labels.tolist() for _, labels in other] == [[0], [0]]


@pytest.mark.parametrize("count", [10, 600])
def test_repeated_draws_are_timms_and_continue_within_an_epoch(count: int) -> None:
    """The same whole batches for any number of processes and after an interruption; the copies of an image apart."""
    sampler = EpochSampler(range(count), seed=3, shuffle=True, repeats=3)
    assert len(sampler) == (10 if count == 10 else 512)  # timm rounds down to a multiple of 256
    options = {"batch_size": 9, "drop_last": True}
    sampler.set_epoch(4)
    whole = [list(batch) for batch in BatchShares(sampler, **options, processes=Processes(), begin=(4, 0))]
    again = EpochSampler(range(count), seed=3, shuffle=True, repeats=3)
    assert list(BatchShares(again, **options, processes=Processes(), begin=(4, 1))) == whole[1:]
    shares = [BatchShares(sampler, **options, processes=Processes(rank, 2), begin=(4, 0)) for rank in range(2)]
    assert [one + other for one, other in zip(*shares, strict=True)] == whole
    assert {(draw.position, draw.copy) for draw in whole[0]} == {(d.position, c) for d in whole[0] for c in range(3)}
    assert [draw.position for draw in whole[0]][:3] == [draw.position for draw in whole[0]][3:6]
    sampler.set_epoch(5)
    assert [list(batch) for batch in BatchShares(sampler, **options, processes=Processes(), begin=(5, 0))] != whole
