import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.using import make_folder, silent, tiny

from hexavit.data import ImageFolder, TarShards, open_source
from hexavit.data.loader import Images, make_loader, stop_workers, worker_errors
from hexavit.errors import DataError
from hexavit.processes import Processes
from hexavit.training import evaluate, train


def pack(path: Path, files: list[tuple[str, bytes]], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def packed(folder: Path, per_class: int = 4, named: bool = True) -> list[tuple[str, bytes]]:
    """Digits and their classes, in the order of a folder."""
    source = ImageFolder(make_folder(folder, per_class))
    files = []
    for number, (name, label) in enumerate(zip(source.names, source.labels, strict=True)):
        files.append((f"{number:03d}.png", (folder / name).read_bytes()))
        files.append((f"{number:03d}.cls", (source.classes[label] if named else str(label + 9)).encode()))
    return files


@pytest.mark.parametrize("named", [True, False])
def test_shards_give_what_the_folder_would(tmp_path: Path, named: bool) -> None:
    files = packed(tmp_path / "folder", named=named)
    folder = ImageFolder(tmp_path / "folder")
    pack(tmp_path / "shards" / "000.tar", files[:10])
    pack(tmp_path / "shards" / "001.tar", files[10:])
    source = open_source(str(tmp_path / "shards"))
    assert isinstance(source, TarShards)
    assert source.classes == (folder.classes if named else ("9", "10", "11"))  # numbers by their value
    assert (source.labels, source.parts) == (folder.labels, {})
    assert (source.names[0], source.names[-1]) == ("000.tar/000.png", "001.tar/011.png")
    assert all(source.load(n).tobytes() == folder.load(n).tobytes() for n in range(12))


def test_names_of_shards_are_the_parts(tmp_path: Path) -> None:
    files = packed(tmp_path / "folder")
    for name in ("train-0.tar", "train-1.tar", "val-0.tar"):
        pack(tmp_path / "shards" / name, files)
    source = TarShards(tmp_path / "shards")
    assert {part: len(numbers) for part, numbers in source.parts.items()} == {"train": 24, "val": 12}
    pack(tmp_path / "shards" / "more.tar", files)
    with pytest.raises(DataError, match="some of these tar files are named after a part"):
        TarShards(tmp_path / "shards")


def test_one_file_is_trained_on_by_several_workers(tmp_path: Path) -> None:
    data = str(pack(tmp_path / "a.tar", packed(tmp_path / "folder")))
    run = train(tiny(data, epochs=1, workers=2), tmp_path / "run", console=silent()).run
    assert evaluate(run, data, device="cpu").count == 3


def test_other_files_in_a_shard_are_ignored(tmp_path: Path) -> None:
    files = packed(tmp_path / "folder")
    pack(tmp_path / "a.tar", [*files, ("._000.png", b"x"), ("notes.txt", b"x"), ("no-ending", b"x")])
    with tarfile.open(tmp_path / "a.tar", "a") as archive:
        for name, kind in ((".", tarfile.DIRTYPE), ("link.png", tarfile.SYMTYPE), ("pipe.png", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(name)
            member.type = kind
            archive.addfile(member)
    assert len(open_source(str(tmp_path / "a.tar")).names) == 12


def test_broken_shards_are_named(tmp_path: Path) -> None:
    files = packed(tmp_path / "folder")
    cases = {
        "this is not a tar file": pack(tmp_path / "z.tar", files, "w:gz"),
        "the image 000.png has no class": pack(tmp_path / "b.tar", files[:1] + files[2:]),
        "000.png is in it twice": pack(tmp_path / "c.tar", files[:1] + files),
        "at least two classes are needed": pack(tmp_path / "d.tar", files[:2]),
        "without compression": pack(tmp_path / "e.tar", [("a.png", b""), ("a.cls", b"\xff")]),
    }
    for sentence, path in cases.items():
        with pytest.raises(DataError, match=sentence) as raised:
            open_source(str(path))
        assert "\n" not in str(raised.value)
    with pytest.raises(DataError, match="this is not a tar file"):
        open_source(str(tmp_path / "nowhere.tar"))


def test_a_broken_image_in_a_shard_is_named(tmp_path: Path) -> None:
    files = packed(tmp_path / "folder")
    files[0] = (files[0][0], files[0][1][:60])
    source = open_source(str(pack(tmp_path / "a.tar", files)))
    with pytest.raises(DataError, match=r"^a\.tar/000\.png: this is not an image that can be read"):
        source.load(0)


def test_shards_are_split_over_processes_and_workers(tmp_path: Path) -> None:
    """Two processes, each with two workers, read every image of an epoch once, whatever file it lies in."""
    files = packed(tmp_path / "folder")
    pack(tmp_path / "shards" / "000.tar", files[:4])
    pack(tmp_path / "shards" / "001.tar", files[4:])
    source = open_source(str(tmp_path / "shards"))
    images = Images(source, range(12), lambda image: torch.tensor(float(np.asarray(image).sum())), seed=0)
    shown: list[float] = []
    for rank in range(2):
        loader = make_loader(images, batch_size=4, workers=2, training=True, processes=Processes(rank, 2))
        with worker_errors():
            batches = [sums.tolist() for sums, _ in loader]
        stop_workers(loader)
        assert [len(batch) for batch in batches] == [2, 2, 2]
        shown += [each for batch in batches for each in batch]
    assert sorted(shown) == sorted(float(np.asarray(source.load(number)).sum()) for number in range(12))
