"""`load_predictor`: a run and its exported files give the same predictions, in every engine, thread and process."""

import io
import pickle
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.inference.exported import ENDINGS, description, exported, write_onnx
from tests.using import CLASSES, digits_folder, trained

import hexavit
from hexavit.errors import DataError, HexavitError
from hexavit.evaluation.evaluate import evaluate
from hexavit.evaluation.probing import probe
from hexavit.images.decode import read_image
from hexavit.inference import load_model, predict
from hexavit.inference.exported_file import OFTEN, OpenFile

pytestmark = pytest.mark.usefixtures("one_thread")
SLOW = pytest.param(".pt2", marks=pytest.mark.slow)  # seconds to be exported or opened
FILES = sorted(digits_folder().rglob("*.png"))


def of_torch() -> np.ndarray:
    """Logits of PyTorch, computed without the library's predictor."""
    loaded = load_model(trained().path)
    transform = loaded.input_spec.transform()
    with torch.inference_mode():
        return loaded.model(torch.stack([transform(read_image(path)) for path in FILES])).numpy()


@pytest.mark.parametrize("ending", ["", *ENDINGS])
def test_every_engine_gives_the_logits_of_the_model(ending: str) -> None:
    predictor = hexavit.load_predictor(
        exported(ending) if ending else trained().path, engine="auto" if ending else "torch"
    )
    expected = of_torch()
    np.testing.assert_allclose(predictor.logits(FILES), expected, atol=1e-4)
    found = predictor(FILES, top=3)
    assert [each.image for each in found] == FILES
    for each, row in zip(found, expected, strict=True):
        names, probabilities = zip(*each.top, strict=True)
        assert names == tuple(CLASSES[i] for i in np.argsort(-row))
        exponentials = np.exp(row - row.max())
        assert probabilities == pytest.approx(np.sort(exponentials / exponentials.sum())[::-1], abs=1e-4)
        np.testing.assert_allclose(each.logits, row, atol=1e-4)


@pytest.mark.parametrize("ending", [".onnx", ".xml", SLOW])
def test_the_commands_functions_take_a_file(ending: str) -> None:
    file = exported(ending)
    by_run, by_file = (list(predict(source, [digits_folder()], device="cpu")) for source in (trained(), file))
    assert [(each.image, each.top[0][0]) for each in by_run] == [(each.image, each.top[0][0]) for each in by_file]
    run = evaluate(trained(), str(digits_folder()), workers=0, device="cpu", part="all")
    found = evaluate(file, str(digits_folder()), workers=0)
    assert (found.count, found.model, found.part) == (30, "cvt_nano", "all")
    assert (found.accuracy, found.loss) == (run.accuracy, pytest.approx(run.loss, abs=1e-4))


@pytest.mark.parametrize("ending", [".onnx", ".xml", SLOW])
def test_features_of_a_file_are_those_of_the_run(ending: str) -> None:
    by_run, by_file = (
        hexavit.load_predictor(source, engine=engine, features=True).features(FILES)
        for source, engine in ((trained().path, "torch"), (exported(ending, "features"), "auto"))
    )
    assert by_run.shape == (30, 128)
    np.testing.assert_allclose(by_file, by_run, atol=1e-4)


def test_features_of_a_file_are_probed() -> None:
    options = {"k": 3, "c": 1.0, "workers": 0, "val_fraction": 0.3}
    run, file = (
        probe(source, str(digits_folder()), **options)
        for source in (load_model(trained().path), exported(".onnx", "features"))
    )
    assert (file.dimension, file.train_images + file.held_out_images) == (128, 30)
    assert run.dimension == 128


@pytest.mark.parametrize("ending", [".onnx", pytest.param(".xml", marks=pytest.mark.slow), SLOW])
def test_a_fixed_batch_size_is_filled_up(ending: str) -> None:
    predictor = hexavit.load_predictor(exported(ending, batch=4))
    np.testing.assert_allclose(predictor.logits(FILES[:6]), of_torch()[:6], atol=1e-4)
    np.testing.assert_allclose(predictor.logits(FILES[0]), of_torch()[:1], atol=1e-4)


def test_every_form_of_an_image_is_taken() -> None:
    predictor = hexavit.load_predictor(trained().path, engine="torch")
    picture = Image.open(FILES[0]).convert("RGB")
    array = np.asarray(picture)
    expected = predictor.logits(FILES[0])
    for form in (str(FILES[0]), picture, array, array[None], [picture], [array, FILES[0]], iter([picture])):
        np.testing.assert_allclose(predictor.logits(form)[0], expected[0], atol=1e-4)
    one, several = predictor(array, top=1), predictor([picture, FILES[0]])
    assert one.top[0][0] == several[0].top[0][0] == several[1].top[0][0]
    assert [each.image for each in several] == [Path("0"), FILES[0]]
    assert predictor([]) == []
    assert predictor.logits([]).shape == (0, 3)
    with pytest.raises(DataError, match="image 0: an image is an array of height, width and channels"):
        predictor.logits([np.zeros((2, 2, 2, 2, 2))])
    with pytest.raises(DataError, match="an image is a path, a Pillow image or an array, not int"):
        predictor.logits(b"bytes")


@pytest.mark.parametrize("source", ["run", "model", ".onnx", ".xml", SLOW])
def test_it_is_pickled_and_opened_again(source: str) -> None:
    first = {"run": trained().path, "model": load_model(trained().path)}.get(source) or exported(source)
    predictor = hexavit.load_predictor(first, engine="torch" if source in {"run", "model"} else "auto")
    expected = predictor.logits(FILES[:2])
    pickled = pickle.dumps(predictor)
    assert (len(pickled) < 50_000) == (source != "model")  # weights travel only where there is no path
    again = pickle.loads(pickled)
    np.testing.assert_array_equal(again.logits(FILES[:2]), expected)
    assert again.engine == predictor.engine


@pytest.mark.parametrize("source", ["run", ".onnx", ".xml", SLOW])
def test_threads_share_it(source: str) -> None:
    path = trained().path if source == "run" else exported(source)
    predictor = pickle.loads(pickle.dumps(hexavit.load_predictor(path, engine="torch" if source == "run" else "auto")))
    expected = of_torch()
    with ThreadPoolExecutor(8) as pool:
        for number, row in enumerate(pool.map(predictor.logits, FILES * 4)):
            np.testing.assert_allclose(row[0], expected[number % 30], atol=1e-4)


@pytest.mark.parametrize("ending", [".onnx", ".xml", SLOW])
def test_no_model_is_built_for_a_file(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, expected = exported(ending), CLASSES[of_torch()[0].argmax()]

    def build(*_: object, **__: object) -> None:
        raise AssertionError("a model was built")

    monkeypatch.setattr(hexavit.Backbone, "__init__", build)
    assert hexavit.load_predictor(path)(FILES[0]).top[0][0] == expected


def test_several_classes_per_image(tmp_path: Path) -> None:
    thresholds = [0.9, 0.2, 0.5]
    text = description(task="multilabel", thresholds=thresholds)
    path = write_onnx(tmp_path / "m.onnx", "logits", None, text)
    for found, row in zip(hexavit.load_predictor(path)(FILES), of_torch(), strict=True):
        probabilities = 1 / (1 + np.exp(-row.astype(np.float64)))
        reached = [i for i in np.argsort(-probabilities) if probabilities[i] >= thresholds[i]]
        assert found.classes == tuple(CLASSES[i] for i in reached)


class Preprocessed(torch.nn.Module):
    """The mean colour of images as bytes of any size."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (image.float() / 255).mean(dim=(1, 2))


def test_a_file_with_preprocessing_gets_the_images_as_they_are(tmp_path: Path) -> None:
    sides = dict.fromkeys((0, 1, 2), torch.export.Dim.DYNAMIC)
    images = (torch.zeros(2, 40, 30, 3, dtype=torch.uint8),)
    program = torch.export.export(Preprocessed(), images, dynamic_shapes=(sides,))
    torch.export.save(program, tmp_path / "m.pt2", extra_files={"hexavit.json": description(preprocessing="graph")})
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((40, 30), (20, 50), (40, 30))]
    expected = [each.mean(axis=(0, 1)) / 255 for each in images]
    np.testing.assert_allclose(hexavit.load_predictor(tmp_path / "m.pt2").logits(images), expected, atol=1e-5)


def test_a_file_that_contradicts_itself_is_an_error(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", "logits", None, description(classes=["a", "b"]))
    with pytest.raises(HexavitError, match=r"this file names 2 classes, and computes logits of shape \(3,\)"):
        hexavit.load_predictor(path)(FILES[0])


@pytest.mark.parametrize("ending", [".onnx", ".xml", SLOW])
def test_wrong_requests_are_one_sentence(ending: str, tmp_path: Path) -> None:
    (tmp_path / f"broken{ending}").write_bytes(exported(ending).read_bytes()[:200])
    other = {".onnx": "openvino", ".xml": "torch", ".pt2": "onnxruntime"}[ending]
    predictor = hexavit.load_predictor(exported(ending))
    for call, sentence in (
        (lambda: predictor.compute(torch.zeros(1, 3, 48, 40)), "this file takes images of 32 x 32 pixels, not 48 x 40"),
        (lambda: predictor.features(FILES[0]), "computes logits alone, not features; export the model with --features"),
        (lambda: hexavit.load_predictor(exported(ending), engine=other), f"not in {other}; export the model for it"),
        (lambda: hexavit.load_predictor(exported(ending), engine="fast"), "the engine is one of auto, torch"),
        (lambda: hexavit.load_predictor(tmp_path / f"none{ending}"), f"none{ending}: there is no such file"),
        (lambda: hexavit.load_predictor(tmp_path / f"broken{ending}"), f"broken{ending}: "),
        (lambda: list(predict(exported(ending, "features"), FILES)), "no classifier, so it predicts no classes"),
        (lambda: evaluate(exported(ending, "features"), str(digits_folder())), "no classifier, so it predicts no"),
        (
            lambda: list(predict(exported(ending), FILES, optimize=True)),
            "optimize is for a model in PyTorch",
        ),
    ):
        with pytest.raises(HexavitError) as raised:
            call()
        assert sentence in str(raised.value)
        assert "\n" not in str(raised.value)


def test_an_engine_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, ending in (("onnxruntime", ".onnx"), ("openvino", ".xml")):
        path = exported(ending)
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(HexavitError, match=r"is not installed: pip install 'hexavit\[(onnx|openvino)\]'"):
            hexavit.load_predictor(path)


def test_shards_are_disjoint_and_complete() -> None:
    predictor = hexavit.load_predictor(trained().path, engine="torch")
    parts = [[each.image for each in predict(predictor, [digits_folder()], shard=(i, 4))] for i in (1, 2, 3, 4)]
    assert [len(part) for part in parts] == [8, 8, 7, 7]
    assert [part[n] for n in range(8) for part in parts if n < len(part)] == FILES
    assert list(predict(predictor, FILES[:2], shard=(3, 3))) == []
    with pytest.raises(HexavitError, match="a shard is I of N with I from 1 to N, not 5 of 4"):
        predict(predictor, FILES, shard=(5, 4))


def test_bytes_of_a_file_are_read_from_memory() -> None:
    predictor = hexavit.load_predictor(trained().path, engine="torch")
    opened = Image.open(io.BytesIO(FILES[0].read_bytes()))
    np.testing.assert_allclose(predictor.logits(opened), predictor.logits(FILES[0]), atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # of the compiler
def test_compiled_code_runs_only_where_it_is_allowed(tmp_path: Path) -> None:
    hexavit.export_model(load_model(trained().path), tmp_path / "m.pt2", aot=True)
    with pytest.raises(
        HexavitError, match="this file holds compiled code, which runs unchecked; pass --allow-compiled"
    ):
        hexavit.load_predictor(tmp_path / "m.pt2").logits(FILES)
    found = hexavit.load_predictor(tmp_path / "m.pt2", allow_compiled=True)
    np.testing.assert_allclose(found.logits(FILES), of_torch(), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_hexavit_exports_is_predicted_the_same(ending: str, tmp_path: Path) -> None:
    loaded = load_model(trained().path)
    hexavit.export_model(loaded, tmp_path / f"m{ending}")
    hexavit.export_model(loaded, tmp_path / f"whole{ending}", preprocessing=True)
    np.testing.assert_allclose(hexavit.load_predictor(tmp_path / f"m{ending}").logits(FILES), of_torch(), atol=1e-4)
    # The resize in the graph rounds otherwise than Pillow: by up to 1/255 of a pixel.
    whole = hexavit.load_predictor(tmp_path / f"whole{ending}")
    np.testing.assert_allclose(whole.logits(FILES), of_torch(), atol=0.05)
    found = evaluate(tmp_path / f"whole{ending}", str(digits_folder()), workers=0)
    assert (found.count, found.loss) == (
        30,
        pytest.approx(evaluate(trained(), str(digits_folder()), part="all").loss, abs=0.05),
    )


def test_a_size_of_batches_that_comes_often_has_a_graph_of_its_own_in_openvino() -> None:
    file = OpenFile.of(exported(".xml"))
    engine, about = file(), file.about
    images = np.random.default_rng(0).standard_normal((5, about.in_chans, *about.image_size)).astype(np.float32)
    with torch.inference_mode():
        expected = trained().model().eval()(torch.from_numpy(images)).numpy()

    def check(size: int) -> None:
        np.testing.assert_allclose(engine.run(images[:size]), expected[:size], atol=1e-4)

    own = []
    for size in (5, 2, 5, *[5] * OFTEN, 1, 5, *[3] * OFTEN, 5, 3):
        check(size)
        own.append(engine._compute._own_shape)  # type: ignore[attr-defined]
    assert own.index(images.shape) == 1 + OFTEN
    assert own[-1] == images[:3].shape
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(check, [1, 2, 3, 4, 5] * OFTEN))


def test_an_exported_model_gets_a_graph_of_its_own_in_openvino(tmp_path: Path) -> None:
    """The files of OpenVINO's converter name no size of the input."""
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    model = hexavit.create_model("pvt_v2_nano", num_classes=5).eval()
    hexavit.export_model(model, tmp_path / "model.xml")
    engine, images = OpenFile.of(tmp_path / "model.xml")(), torch.randn(2, 3, *model.architecture.img_size)
    for _ in range(OFTEN):
        found = engine.run(images.numpy())
    assert engine._compute._own_shape == images.shape  # type: ignore[attr-defined]
    with torch.no_grad():
        np.testing.assert_allclose(found, model(images).numpy(), atol=1e-5)
