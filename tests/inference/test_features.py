from pathlib import Path

import numpy as np
import pytest
from tests.using import digits_folder, trained

from hexavit.data import open_source
from hexavit.data.loader import Draw, Images
from hexavit.errors import HexavitError
from hexavit.inference import load_model, predict
from hexavit.inference.features import FeatureFile, check_features_file

pytestmark = pytest.mark.usefixtures("one_thread")


def test_they_are_what_the_classifier_reads() -> None:
    ready = load_model(trained().path)
    found = list(predict(ready, [digits_folder()], top=3, features=True, device="cpu"))
    source = open_source(str(digits_folder()))
    images = Images(source, range(30), ready.input_spec.transform(), 0)
    for number, each in enumerate(found):
        image = images[Draw(0, number)][0][None]
        expected = ready.model.forward_head(ready.model.forward_features(image), pre_logits=True)[0].detach().numpy()
        np.testing.assert_allclose(each.features, expected, atol=2e-5)
        assert ready.classes[int(ready.model(image).argmax())] == each.top[0][0]


@pytest.mark.parametrize("count", [0, 1, 3000])
def test_npy_is_read_back_by_numpy(tmp_path: Path, count: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(count, 7)).astype(np.float32)
    with FeatureFile(tmp_path / "f", ".npy", tmp_path / "names") as file:
        for number, vector in enumerate(vectors):
            file.write(Path(f"{number}\n.jpg"), vector)
    read = np.load(tmp_path / "f", mmap_mode="r" if count else None, allow_pickle=False)
    assert read.shape == (count, 7 if count else 0)
    assert np.array_equal(read, vectors if count else read)
    assert (tmp_path / "names").read_text().splitlines() == [f"{number}\\n.jpg" for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 3000])
def test_parquet_has_paths_and_vectors(tmp_path: Path, count: int) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    vectors = np.random.default_rng(0).normal(size=(count, 5)).astype(np.float32)
    with FeatureFile(tmp_path / "f", ".PARQUET") as file:
        for number, vector in enumerate(vectors):
            file.write(Path(f"{number}\udcff.jpg"), vector)
    table = parquet.read_table(tmp_path / "f")
    assert table.column_names == ["path", "features"]
    assert table["path"].to_pylist() == [f"{number}\\udcff.jpg" for number in range(count)]
    assert np.array_equal(np.array(table["features"].to_pylist(), np.float32).reshape(-1, 5), vectors)


def test_another_file_is_rejected_before_anything_is_computed() -> None:
    with pytest.raises(HexavitError, match=r"written as \.npy or \.parquet, not as '\.csv'"):
        check_features_file(Path("a.csv"))


def test_parquet_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(HexavitError, match=r"pip install 'hexavit\[parquet\]'"):
        check_features_file(Path("a.parquet"))
