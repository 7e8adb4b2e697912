"""Images of many channels in training, evaluation and prediction, normalised by the statistics of the data."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.using import digits_folder, silent, tiny

from hexavit.cli import main
from hexavit.data import open_source
from hexavit.data.augment import training_transform
from hexavit.data.check import check_data
from hexavit.data.preview import draw_data, input_of
from hexavit.data.statistics import suited_to
from hexavit.errors import DataError
from hexavit.inference import InputSpec, Run, predict
from hexavit.training import evaluate, train

pytestmark = pytest.mark.usefixtures("one_thread")
CHANNELS = 5


def make_bands(folder: Path, per_class: int = 6, suffix: str = ".npy") -> Path:
    """Two classes that differ in their last channel alone, of 16 bits."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(("dry", "wet")):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = generator.integers(0, 30_000, (24, 20, CHANNELS)).astype(np.uint16)
            pixels[:, :, -1] += np.uint16(30_000 * label)
            place = folder / name / f"{number}{suffix}"
            if suffix == ".npy":
                np.save(place, pixels)
            else:
                pytest.importorskip("tifffile").imwrite(place, pixels, photometric="minisblack", planarconfig="contig")
    return folder


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_train_and_predict_on_multichannel_files(
    tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_bands(tmp_path / "data", 8, suffix)
    source = open_source(str(data))
    assert source.hints.channels == CHANNELS
    trained = train(tiny(data, epochs=4, augment="crop"), tmp_path / "run", console=silent()).run
    spec = trained.input_spec()
    assert (spec.channels, len(spec.mean)) == (CHANNELS, CHANNELS)
    assert spec.mean[0] == pytest.approx(15_000 / 65_535, abs=0.01)
    assert spec.mean[-1] == pytest.approx(30_000 / 65_535, abs=0.01)
    found = evaluate(trained, str(data), part="all", device="cpu", workers=0)
    outputs = list(predict(trained, [data], top=1, device="cpu"))
    right = sum(each.image.parent.name == each.top[0][0] for each in outputs)
    assert (found.count, found.accuracy) == (16, pytest.approx(right / 16))
    assert main(["evaluate", str(trained.path), "--data", str(data), "--report", str(tmp_path / "a.html")]) == 0
    capsys.readouterr()
    (data / "dry" / "z.npy").write_bytes(b"")
    assert main(["predict", str(Run(trained.path).path), str(data), "--json"]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 16


def test_mean_and_deviation_are_those_of_the_images(tmp_path: Path) -> None:
    source = open_source(str(make_bands(tmp_path)))
    spec = InputSpec((20, 20), CHANNELS, (0.0,) * CHANNELS, (1.0,) * CHANNELS, "bicubic", 1.0, "center")
    found = suited_to(source, range(len(source.names)), spec)
    values = torch.stack([spec.transform()(source.load(n)) for n in range(len(source.names))])
    torch.testing.assert_close(torch.tensor(found.mean), values.mean(dim=(0, 2, 3)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.tensor(found.std), values.std(dim=(0, 2, 3)), atol=1e-3, rtol=1e-3)
    assert suited_to(source, range(2), found) != found


@pytest.mark.parametrize("kind", ["none", "mirror", "shift", "flip", "crop", "rand"])
def test_every_augmentation_takes_many_channels(tmp_path: Path, kind: str) -> None:
    source = open_source(str(make_bands(tmp_path, 1)))
    spec = InputSpec((16, 12), CHANNELS, (0.3,) * CHANNELS, (0.2,) * CHANNELS, "bicubic", 0.9, "center")
    made = training_transform(spec, kind)(source.load(0))
    assert (made.shape, made.dtype) == ((CHANNELS, 16, 12), torch.float32)


def test_the_check_and_its_contact_sheet(tmp_path: Path) -> None:
    data = make_bands(tmp_path / "data")
    (data / "wet" / "copy.npy").write_bytes((data / "dry" / "0.npy").read_bytes())
    source = open_source(str(data))
    found = check_data(source)
    assert found.modes == {f"{CHANNELS} x uint16": 13}
    assert len(found.contradictions) == 1
    draw_data(source, input_of(source, "cvt_nano", (32, 32)), tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_images_that_differ_in_channels_are_named(tmp_path: Path) -> None:
    data = make_bands(tmp_path / "data")
    np.save(data / "dry" / "zz.npy", np.zeros((8, 8, 7), np.uint8))
    with pytest.raises(DataError, match=r"dry/zz\.npy: the model takes 5 channels, and this image has 7 \(7 x uint8\)"):
        train(tiny(data, val_fraction=0.1), tmp_path / "run", console=silent())
    assert not (tmp_path / "run").exists()


def test_pictures_stay_as_they_are() -> None:
    source = open_source(str(digits_folder()))
    spec = InputSpec((32, 32), 3, (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0, "center")
    assert suited_to(source, range(3), spec) is spec
    assert json.dumps(spec.as_dict())
