"""A run, file or name is loaded with its preprocessing and class names, or is an error of one sentence."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.using import CLASSES, digits_folder, trained

import hexavit
from hexavit.checkpoints import convert
from hexavit.errors import HexavitError
from hexavit.hub import pretrained
from hexavit.inference import InputSpec, load_model, load_starting_weights, predict
from hexavit.models import Weight, model_entry, registry
from hexavit.models.imagenet import imagenet_classes
from hexavit.models.weights import Preprocessing
from hexavit.training import evaluate

pytestmark = pytest.mark.usefixtures("one_thread")
SQUASH = Preprocessing((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "bilinear", 1.0, "squash")


def run_as_folder(place: Path) -> Path:
    """The trained model as a saved folder."""
    model = trained().model()
    model.pretrained_cfg |= {"crop_pct": trained().input_spec().crop_pct}
    return hexavit.save_pretrained(model, place, class_names=CLASSES)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> hexavit.Backbone:
    """`cvt_nano` with weights that have been fetched already, of 1000 classes."""
    torch.manual_seed(5)
    model = hexavit.create_model("cvt_nano")
    file = hexavit.save_pretrained(model, tmp_path / "published") / "model.safetensors"
    weight = Weight(
        tag="in1k",
        hub_id="someone/nano",
        img_size=32,
        trained_on=("ImageNet-1k",),
        license="mit",
        code_license="mit",
        preprocessing=SQUASH,
    )
    monkeypatch.setitem(registry._MODELS, "cvt_nano", replace(model_entry("cvt_nano"), weights=(weight,)))
    monkeypatch.setattr(pretrained, "fetch_first", lambda *_: file)
    return model


def test_a_run_and_its_saved_folder_say_the_same(tmp_path: Path) -> None:
    ready = load_model(run_as_folder(tmp_path / "saved"))
    assert ready.classes == CLASSES
    assert not ready.model.training
    of_run, of_folder = (list(predict(source, [digits_folder()], device="cpu")) for source in (trained(), ready))
    assert of_run == of_folder
    assert list(predict(load_model(trained().path), [digits_folder()], device="cpu")) == of_run


def test_a_folder_is_evaluated_on_all_the_data(tmp_path: Path) -> None:
    found = evaluate(load_model(run_as_folder(tmp_path / "saved")), str(digits_folder()), workers=0, device="cpu")
    assert (found.part, found.count) == ("all", 30)
    validation = evaluate(load_model(trained().path), str(digits_folder()), workers=0, device="cpu")
    assert (validation.part, validation.count, validation.weights) == ("val", 6, "best")


@pytest.mark.parametrize("name", ["cvt_nano", "cvt_nano.in1k"])
def test_a_published_name_brings_its_preprocessing_and_imagenets_classes(
    published: hexavit.Backbone, name: str
) -> None:
    ready = load_model(name)
    assert torch.equal(ready.model.head.fc.weight, published.head.fc.weight)
    assert ready.input_spec == InputSpec((32, 32), 3, *vars(SQUASH).values())
    assert ready.classes == imagenet_classes()
    assert ready.synonyms["n01440764"] == 0
    assert ready.weights == name


def test_imagenets_folders_are_known_by_their_numbers(published: hexavit.Backbone, tmp_path: Path) -> None:
    for number, name in (("n01440764", "zero"), ("n15075141", "one")):
        (tmp_path / "imagenet" / number).parent.mkdir(exist_ok=True)
        (tmp_path / "imagenet" / number).symlink_to(digits_folder() / name)
    found = evaluate(load_model("cvt_nano"), str(tmp_path / "imagenet"), workers=0, device="cpu")
    assert [each.name for each in found.per_class] == ["tench", "toilet tissue"]


@pytest.mark.parametrize("layout", ["authors", "huggingface"])
def test_a_file_of_a_named_model(tmp_path: Path, layout: str) -> None:
    file = tmp_path / "weights.pth"
    convert(trained().weights("best"), file, layout, activation="gelu" if layout == "huggingface" else None)
    ready = load_model(file, model="cvt_nano")
    assert ready.classes == ("class 0", "class 1", "class 2")
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ready.model(images), trained().model()(images))
    assert any("GELU" in note for note in ready.notes) == (layout == "huggingface")


def test_untrained_only_on_request() -> None:
    with pytest.raises(HexavitError, match="cvt_nano was never trained, as it lists no published weights"):
        load_model("cvt_nano")
    ready = load_model("cvt_nano", untrained=True)
    assert ready.notes == ("cvt_nano is untrained: its predictions are random",)
    assert len(ready.classes) == 1000


def test_errors(tmp_path: Path) -> None:
    file = trained().weights("best")
    hexavit.save_pretrained(hexavit.create_model("cvt_nano", num_classes=0), tmp_path / "headless")
    for call, sentence in (
        (lambda: load_model("cvt_13x"), "cvt_13x: there is no such run folder, file or model: did you mean 'cvt_13'?"),
        (lambda: load_model("runs/nowhere"), "runs/nowhere: there is no such run folder, file or model"),
        (lambda: load_model(file), "pass --model NAME (its tensors are those of cvt_nano)"),
        (lambda: load_model("nowhere.pth", model="cvt_nano"), "nowhere.pth: there is no such file of weights"),
        (lambda: load_model(file, model="cvt_13"), "have another shape"),
        (lambda: load_model("cvt_13", weights="last"), "cvt_13: only a run has last weights"),
        (lambda: load_model(tmp_path / "headless"), "this model has no head"),
        (lambda: load_model("vit_huge_patch14_224"), "the weights mae have no head"),  # and are not fetched
        (
            lambda: load_starting_weights(hexavit.create_model("cvt_nano"), "cvt_13x"),
            "to start from: did you mean 'cvt_13'?",
        ),
        (lambda: load_starting_weights(hexavit.create_model("cvt_nano"), "cvt_nano"), "lists no published weights"),
    ):
        with pytest.raises(HexavitError) as raised:
            call()
        assert sentence in str(raised.value)
        assert "\n" not in str(raised.value)


def test_starting_from_anything(published: hexavit.Backbone, tmp_path: Path) -> None:
    def fresh(**options) -> hexavit.Backbone:
        return hexavit.create_model("cvt_nano", **{"num_classes": 7, **options})

    theirs = trained().model().stages[0].tokens.conv.weight
    for source in (
        trained().path,
        trained().weights("last").with_name("best.safetensors"),
        run_as_folder(tmp_path / "s"),
    ):
        model = fresh()
        report = load_starting_weights(model, source)
        assert torch.equal(model.stages[0].tokens.conv.weight, theirs)
        assert set(report.missing) == {"head.fc.weight", "head.fc.bias"}
    assert model.pretrained_cfg["crop_pct"] == trained().input_spec().crop_pct
    same_classes = fresh(num_classes=3)
    assert not load_starting_weights(same_classes, trained().path).missing
    model = fresh(in_chans=1)
    load_starting_weights(model, "cvt_nano.in1k")
    assert model.pretrained_cfg["crop_mode"] == "squash"
    torch.testing.assert_close(
        model.stages[0].tokens.conv.weight, published.stages[0].tokens.conv.weight.sum(1, keepdim=True)
    )
