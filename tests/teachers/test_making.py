"""Label maps: made with a teacher, continued after a kill, verified, read with other names, and trained on."""

import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.killing import in_process
from tests.teachers.test_sources import timm_folder
from tests.using import digits_folder, history, make_folder, tiny, train_by_command, trained

from hexavit.cli import main
from hexavit.data import open_source
from hexavit.errors import DataError, HexavitError, RunError
from hexavit.inference import Run
from hexavit.teachers import LabelMaps, load_any_model, make_label_maps, making
from hexavit.teachers.making import check_label_maps
from hexavit.teachers.shards import INDEX
from hexavit.training.setup import check_settings

CNN = {"input_size": [3, 64, 64], "mean": [0.4] * 3, "std": [0.3] * 3, "interpolation": "bilinear", "crop_pct": 0.5}
NUMBERS = range(30)


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A convolutional teacher with a map of 2 x 2 at 64 pixels."""
    folder = timm_folder(tmp_path_factory.mktemp("cnn") / "cnn", ["zero", "one", "two"], **CNN)
    return f"timm:local-dir:{folder}"


@pytest.fixture(scope="module")
def made(cnn: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Label maps of the digits in three shards; not to be written to."""
    out = tmp_path_factory.mktemp("maps") / "maps"
    make_label_maps(cnn, str(digits_folder()), out, shard_size=12, batch_size=5, top=2)
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def expected(cnn: str, image: Image.Image, side: int, top: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest logits and classes of the data (one, two, zero), by hand: the whole image, without a crop."""
    resized = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None] / 255
    model: Any = load_any_model(cnn).model
    with torch.no_grad():
        maps = model.forward_features((pixels - 0.4) / 0.3)
        logits = model.fc(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)[0]  # of zero, one, two
    return torch.topk(logits[[1, 2, 0]], top, dim=0)


def test_a_map_has_the_highest_logits_of_the_whole_image(cnn: str, made: Path) -> None:
    source = open_source(str(digits_folder()))
    maps = LabelMaps(made, source, NUMBERS)
    assert maps.shape == (2, 2, 2, 2)
    for number in (0, 13, 29):
        values, classes = expected(cnn, source.load(number), 64, 2)  # type: ignore[arg-type]
        logits, found = maps.load(number)
        torch.testing.assert_close(logits, values, rtol=2e-3, atol=2e-3)  # 16 bits
        assert torch.equal(found, classes.float())
    assert [path.name for path in sorted(made.iterdir())] == [
        *(f"00000{shard}.safetensors" for shard in range(3)),
        INDEX,
    ]
    assert sum(path.stat().st_size for path in made.glob("*.safetensors")) < 30 * 100


def test_the_share_of_images_whose_maps_are_right(cnn: str, made: Path) -> None:
    source = open_source(str(digits_folder()))
    right = 0
    for number in NUMBERS:
        logits, classes = expected(cnn, source.load(number), 64, 3)  # type: ignore[arg-type]
        means = torch.zeros(3, 2, 2).scatter_(0, classes, logits).mean(dim=(1, 2))
        right += int(means.argmax()) == source.labels[number]
    assert check_label_maps(made).accuracy == right / 30


def test_options(cnn: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("one", "two", "zero"):
        (data / name).mkdir(parents=True)
        pixels = np.random.default_rng(0).integers(0, 255, (24, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(data / name / "wide.png")
        Image.fromarray(pixels[::-1]).save(data / name / "other.png")
    (data / "one" / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad\.png"):
        make_label_maps(cnn, str(data), tmp_path / "maps")
    shown: list[str] = []
    options: dict[str, Any] = {"top": 3, "size": 128, "on_bad_image": "skip", "shard_size": 4, "tell": shown.append}
    found = make_label_maps(cnn, str(data), tmp_path / "maps", overwrite=True, **options)
    assert (found.images, found.shape, list(found.skipped)) == (6, (3, 4, 4), ["one/bad.png"])
    assert [each.partition(" images")[0] for each in shown] == ["4 of 7", "7 of 7"]
    source = open_source(str(data))
    number = source.names.index("two/wide.png")
    values, classes = expected(cnn, source.load(number), 128, 3)  # type: ignore[arg-type]
    logits, of = LabelMaps(tmp_path / "maps", source, [number]).load(number)
    torch.testing.assert_close(logits, values, rtol=2e-2, atol=2e-3)  # stretched, from 48 x 24
    assert float((of == classes).float().mean()) > 0.9
    with pytest.raises(DataError, match="1 of 7 images have no label map, such as one/bad"):
        LabelMaps(tmp_path / "maps", source, range(7))


def test_the_parts_for_validation_and_test_have_no_maps(cnn: str, tmp_path: Path) -> None:
    make_folder(tmp_path / "data", 2, ("train", "val"))
    assert make_label_maps(cnn, str(tmp_path / "data"), tmp_path / "maps").images == 6


def test_the_images_of_a_run_with_fewer(cnn: str, tmp_path: Path) -> None:
    source = open_source(str(digits_folder()))
    for fraction, seed in ((0.2, 0), (0.2, 1), (0.4, 0)):
        settings: dict[str, Any] = {"train_images": 12, "val_fraction": fraction, "split_seed": seed}
        folder = tmp_path / f"{fraction} {seed}"
        assert make_label_maps(cnn, str(digits_folder()), folder, **settings).images == 12
        numbers = check_settings(tiny(digits_folder(), **settings), source)["train"]
        assert len(numbers) == 12
        LabelMaps(folder, source, numbers)  # raises for an image without a map


def test_an_interrupted_call_continues(cnn: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(stop_at: int) -> int:
        written: list[Path] = []
        write = making.write_shard

        def watched(path: Path, *args: Any) -> str:
            if len(written) == stop_at:
                raise KeyboardInterrupt
            written.append(path)
            return write(path, *args)

        with monkeypatch.context() as patched:
            patched.setattr(making, "write_shard", watched)
            make_label_maps(cnn, str(digits_folder()), tmp_path / "maps", shard_size=12, batch_size=5, top=2)
        return len(written)

    with pytest.raises(KeyboardInterrupt):
        make(2)
    with pytest.raises(DataError, match="these label maps are incomplete: the same `hexavit label-maps make`"):
        LabelMaps(tmp_path / "maps", open_source(str(digits_folder())), NUMBERS)
    with pytest.raises(DataError, match="incomplete"):
        check_label_maps(tmp_path / "maps")
    assert make(9) == 1
    assert files(tmp_path / "maps") == files(made)
    shard = tmp_path / "maps" / "000001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match=r"000001\.safetensors: this shard of label maps is missing or damaged"):
        check_label_maps(tmp_path / "maps")
    assert make(9) == 1
    assert files(tmp_path / "maps") == files(made)
    assert make(9) == 0


def _make_and_kill(cnn: str, data: str, out: Path, moment: int) -> None:
    """Make label maps; kill the process at a write of a file, by number: within it, before or after it is renamed."""
    torch.set_num_threads(1)
    count = 0

    def mark(cut: int | None = None) -> None:
        nonlocal count
        count += 1
        if count == moment:
            if cut is not None:
                os.ftruncate(cut, os.fstat(cut).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    fsync, replace = os.fsync, os.replace

    def synced(file: int) -> None:
        mark(file)
        fsync(file)

    def replaced(source: Any, target: Any) -> None:
        mark()
        replace(source, target)
        mark()

    os.fsync, os.replace = synced, replaced
    make_label_maps(cnn, data, out, shard_size=12, batch_size=5, top=2)


MOMENTS = [1, 2, 4, 6, 8, 9, 11, 13, 16, 19, 21, 23, 24]


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_call_leaves_the_same_files(cnn: str, made: Path, tmp_path: Path, moment: int) -> None:
    given = cnn, str(digits_folder()), tmp_path / "maps"
    assert in_process(_make_and_kill, *given, moment) == -signal.SIGKILL
    assert in_process(_make_and_kill, *given, 0) == 0
    assert files(tmp_path / "maps") == files(made)


def test_images_are_found_by_content_where_names_have_changed(made: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    for file in digits_folder().rglob("*.png"):
        target = moved / file.parent.name / f"img{file.stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    source, before = open_source(str(moved)), open_source(str(digits_folder()))
    maps, first = LabelMaps(made, source, NUMBERS), LabelMaps(made, before, NUMBERS)
    for number, name in enumerate(source.names):
        same = before.names.index(name.replace("/img", "/"))
        assert torch.equal(maps.load(number), first.load(same))
    other = make_folder(tmp_path / "other", 10, first=40)
    for number, file in enumerate(sorted(other.rglob("*.png"))):  # the same names, other content
        file.rename(file.with_name(Path(before.names[number]).name))
    source = open_source(str(other))
    with pytest.raises(DataError, match="30 of 30 images have no label map, such as one/"):
        LabelMaps(made, source, NUMBERS)


def test_classes_are_matched_by_name(made: Path) -> None:
    source = open_source(str(digits_folder()))
    before = LabelMaps(made, source, NUMBERS).load(3)
    source.set_classes(["zero", "two", "one"])
    after = LabelMaps(made, source, NUMBERS).load(3)
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1], 2 - before[1])
    source.classes = ("zero", "two", "three")
    with pytest.raises(DataError, match=r"these label maps have the classes one, two, zero, \.\.\. \(3\)"):
        LabelMaps(made, source, NUMBERS)


def test_a_damaged_map_is_named(made: Path, tmp_path: Path) -> None:
    source, maps = open_source(str(digits_folder())), shutil.copytree(made, tmp_path / "maps")
    shard = maps / "000000.safetensors"
    content = bytearray(shard.read_bytes())
    length = int.from_bytes(content[:8], "little")
    content[8 + length + json.loads(content[8 : 8 + length])["logits"]["data_offsets"][0]] ^= 1  # of the first image
    shard.write_bytes(content)
    opened = LabelMaps(maps, source, NUMBERS)
    assert opened.load(1).shape == (2, 2, 2, 2)
    with pytest.raises(DataError, match=r"the label map of one/\d+\.png is damaged"):
        opened.load(0)
    for damage in (lambda: shard.write_bytes(content[:-1]), shard.unlink):
        damage()
        with pytest.raises(DataError, match="this shard of label maps is missing or damaged"):
            LabelMaps(maps, source, NUMBERS)
    (maps / INDEX).write_text("{}")
    with pytest.raises(DataError, match="this index of label maps is damaged"):
        LabelMaps(maps, source, NUMBERS)


def test_errors_of_a_call(cnn: str, made: Path, tmp_path: Path) -> None:
    data, maps = str(digits_folder()), shutil.copytree(made, tmp_path / "maps")
    with pytest.raises(RunError, match="were begun with another top: pass --overwrite"):
        make_label_maps(cnn, data, maps, shard_size=12, batch_size=5, top=1)
    with pytest.raises(RunError, match="were begun with another teacher"):
        make_label_maps(str(trained().path), data, maps, shard_size=12, batch_size=5, top=2)
    assert files(maps) == files(made)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(RunError, match="this folder holds other files"):
        make_label_maps(cnn, data, tmp_path / "full", overwrite=True)
    with pytest.raises(HexavitError, match="the teacher has no class '0', which the data has"):
        make_label_maps(cnn, "digits", tmp_path / "new")
    with pytest.raises(HexavitError, match="top is at least 1, not 0"):
        make_label_maps(cnn, data, tmp_path / "new", top=0)
    with pytest.raises(DataError, match=f"this folder has no {INDEX}"):
        check_label_maps(tmp_path / "full")
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("one_thread")
def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def ask(*arguments: object) -> str:
        assert main(["label-maps", *map(str, arguments), "--out", str(tmp_path / "maps")]) == 0
        return capsys.readouterr().out

    asked = "--teacher", trained().path, "--data", digits_folder(), "--img-size", 64, "--top", 2, "--workers", 0
    printed = ask("make", *asked).splitlines()
    assert printed[0].startswith("30 of 30 images, ")
    assert f"{tmp_path / 'maps'}: 30 label maps of 4 x 4 positions, the 2 highest of 3 logits at each" in printed[1]
    assert re.search(r"; right for \d+\.\d% of the images$", printed[1])
    assert ask("check") == printed[1] + "\n"
    assert json.loads(ask("make", *asked, "--json"))["shape"] == [2, 4, 4]
    for wrong, sentence in (
        (("make", "--data", "x"), "hexavit label-maps make needs --teacher"),
        (("check", "--data", "x"), "hexavit label-maps check takes --out"),
    ):
        assert main(["label-maps", *wrong, "--out", "x"]) == 2
        assert sentence in capsys.readouterr().err
    train_by_command(
        capsys, tmp_path / "run", "--model", "lvvit_nano", "--label-maps", tmp_path / "maps", "--mix-token"
    )
    assert 0 <= float(history(Run(tmp_path / "run"))[0]["train_token_accuracy"]) <= 1
