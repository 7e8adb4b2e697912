import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.using import make_folder

from hexavit.cli import main
from hexavit.data import ImageFolder, open_source
from hexavit.data.check import Broken, check_data
from hexavit.data.preview import draw_data, input_of
from hexavit.data.scan import scan
from hexavit.errors import DataError
from hexavit.images.contact_sheet import Cell, contact_sheet
from hexavit.images.font import drawable
from hexavit.training.auto_config.facts import gather_facts
from hexavit.training.auto_config.rules import choose_settings


def harmed(path: Path) -> Path:
    """Parts with a leak between them, a picture under two classes, and two broken files."""
    data = make_folder(path, 4, ("train", "val"))
    (zero, *_), (one, *_) = (sorted((data / "train" / name).iterdir()) for name in ("zero", "one"))
    with Image.open(zero) as image:
        image.save(data / "val" / "zero" / "again.bmp")  # the same pixels, packed otherwise
    (data / "train" / "two" / "wrong.png").write_bytes(one.read_bytes())
    (data / "train" / "two" / "cut.png").write_bytes(one.read_bytes()[:60])
    (data / "val" / "one" / "empty.jpg").touch()
    Image.new("RGB", (30, 20)).save(data / "val" / "one" / "wide.jpg")
    return data


def test_everything_is_found(tmp_path: Path) -> None:
    data = harmed(tmp_path)
    found = check_data(ImageFolder(data))
    assert (found.images, found.split) == (29, "own")
    assert found.classes == {
        "one": {"train": 4, "val": 6},
        "two": {"train": 6, "val": 4},
        "zero": {"train": 4, "val": 5},
    }
    assert (found.heights, found.widths) == ((8, 8, 20), (8, 8, 30))
    assert found.modes == {"L": 26, "RGB": 1}
    (leak,) = found.leaks
    assert (leak.parts, leak.classes) == (("train", "val"), ("zero",))
    assert "val/zero/again.bmp" in leak.names
    (contradiction,) = found.contradictions
    assert contradiction.classes == ("one", "two")
    assert {each.name for each in found.broken} == {"train/two/cut.png", "val/one/empty.jpg"}
    assert Broken("val/one/empty.jpg", f"{data / 'val/one/empty.jpg'}: this file is empty") in found.broken
    printed = str(found)
    assert "duplicates 2, of which 1 across parts and 1 across classes" in printed
    assert all(each.reason in printed for each in found.broken)
    assert json.loads(json.dumps(found.as_dict()))["leaks"] == 1


def test_the_automatic_split_is_the_one_of_training(tmp_path: Path) -> None:
    found = check_data(ImageFolder(make_folder(tmp_path, 5)), val_fraction=0.4)
    assert found.split == "automatic"
    assert found.classes == {name: {"train": 3, "val": 2} for name in ("one", "two", "zero")}


def test_a_class_too_small_to_be_split_is_reported(tmp_path: Path) -> None:
    found = check_data(ImageFolder(make_folder(tmp_path, 1)))
    assert found.split.startswith("none: the class ")
    assert found.classes["one"] == {"all": 1}


def test_a_scan_does_not_depend_on_its_workers(tmp_path: Path) -> None:
    source = ImageFolder(harmed(tmp_path))
    assert scan(source, workers=0) == scan(source, workers=2)
    assert [each.number for each in scan(source, [3, 1])] == [3, 1]


def test_the_sheet_shows_every_class_before_and_after(tmp_path: Path) -> None:
    source = ImageFolder(harmed(tmp_path / "data"))
    spec = input_of(source, "cvt_nano", (48, 32))
    assert (spec.size, spec.channels) == ((48, 32), 3)
    for name in ("a.png", "b.png"):
        draw_data(source, spec, tmp_path / name, rows=3)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.width > 6 * 128
        assert sheet.height > 3 * 128
        assert len(sheet.getcolors(2**20) or ()) > 100  # pictures, not a blank page


def test_the_sheet_keeps_the_normalisation_of_the_data(tmp_path: Path) -> None:
    digits = open_source("digits")
    spec = input_of(digits, "cvt_nano")
    assert (spec.size, spec.mean, spec.crop_pct) == ((32, 32), (0.305,), 1.0)
    draw_data(digits, spec, tmp_path / "a.png", augment="none", rows=2)
    assert (tmp_path / "a.png").is_file()


def test_without_a_readable_image_there_is_no_sheet(tmp_path: Path) -> None:
    data = make_folder(tmp_path, 2)
    for file in data.rglob("*.png"):
        file.write_bytes(b"nothing")
    source = ImageFolder(data)
    with pytest.raises(DataError, match="no image can be read, so there is nothing to draw"):
        draw_data(source, input_of(source, "cvt_nano", (32, 32)), tmp_path / "a.png")


def twelve_bits(path: Path) -> Path:
    """Two classes of 12-bit images in 16-bit files."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (path / name).mkdir(parents=True)
        for number in range(6):
            values = generator.integers(0, 1000, (16, 16)) + 3000 * label
            Image.fromarray(values.astype(np.uint16)).save(path / name / f"{number}.png")
    return path


def test_data_of_12_bits_is_named_and_brightened_in_training(tmp_path: Path) -> None:
    source = ImageFolder(twelve_bits(tmp_path))
    found = check_data(source)
    assert found.modes == {"I;16": 12}
    assert found.peak is not None
    assert 3900 < found.peak < 4000
    assert f"16 bits    values up to {found.peak:,} of 65,535 (12 bits), brightened in training" in str(found)
    spec = input_of(source, "cvt_nano", (32, 32))
    assert spec.white == 4095
    light = spec.pixels()(source.load(source.names.index("light/0.png"))).float().mean().item()
    assert light == pytest.approx(255 * 3500 / 4095, abs=5)


def test_the_sheet_shows_the_augmentation_that_train_chooses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, Any] = {}
    monkeypatch.setattr("hexavit.data.preview.draw_data", lambda *_, **settings: drawn.update(settings))
    data = str(make_folder(tmp_path / "data", 6))
    assert main(["data", "check", data, "--sheet", str(tmp_path / "a.png")]) == 0
    config, _ = choose_settings(gather_facts({"data": data}), {"data": data})
    assert drawn == {"augment": config.augment, "magnitude": config.magnitude, "erasing": config.erasing}
    assert drawn["augment"] == "mirror"  # small images: light augmentation, not the data's own RandAugment
    assert main(["data", "check", data, "--sheet", str(tmp_path / "b.png"), "--augment", "rand"]) == 0
    assert drawn["augment"] == "rand"


def test_class_names_outside_ascii_are_drawn(tmp_path: Path) -> None:
    assert drawable("läufer Ω ж") == "läufer Ω ж"
    assert drawable("走\n") == "\\u8d70\\n"
    blank = contact_sheet([Cell(Image.new("L", (8, 8), 255), ("",))], 1)
    for name in ("läufer", "走"):
        assert contact_sheet([Cell(Image.new("L", (8, 8), 255), (name,))], 1).tobytes() != blank.tobytes()
