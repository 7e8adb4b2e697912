"""Saving models as folders and loading them, also run folders; folders with wrong contents raise errors."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.hub.local_hub import Hub
from tests.slow import few_nanos
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import hexavit
from hexavit.checkpoints.writer import write_state
from hexavit.errors import ArchitectureError, HexavitError
from hexavit.hub import saved_folder

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ("one", "two", "zero")
FILES = ["README.md", "architecture.json", "config.json", "model.safetensors"]


def made(**options) -> hexavit.Backbone:
    torch.manual_seed(3)
    return hexavit.create_model("cvt_nano", **{"num_classes": 3, **options})


def same(one: hexavit.Backbone, other: hexavit.Backbone) -> bool:
    theirs = other.state_dict()
    return one.state_dict().keys() == theirs.keys() and all(
        torch.equal(tensor, theirs[key]) and tensor.dtype == theirs[key].dtype
        for key, tensor in one.state_dict().items()
    )


@pytest.mark.parametrize("classes", [3, 5])
@pytest.mark.parametrize("change", ["reset", "own"])
def test_a_new_classifier_has_neither_names_nor_thresholds(tmp_path: Path, change: str, classes: int) -> None:
    model = made()
    model.pretrained_cfg["thresholds"] = (0.1, 0.2, 0.3)
    back = hexavit.from_pretrained(hexavit.save_pretrained(model, tmp_path / "saved", class_names=NAMES))
    assert back.pretrained_cfg["label_names"] == NAMES
    assert back.pretrained_cfg["thresholds"] == (0.1, 0.2, 0.3)
    if change == "reset":
        back.reset_classifier(classes)
    else:
        back.set_classifier(torch.nn.Linear(back.num_features, classes))
    again = hexavit.from_pretrained(hexavit.save_pretrained(back, tmp_path / "again"))
    assert again.num_classes == classes
    assert not {"label_names", "thresholds"} & again.pretrained_cfg.keys()


@pytest.mark.parametrize(
    "options",
    [{}, {"in_chans": 1, "img_size": (48, 64)}, {"overrides": ["head=pool", "stages.1.attention=global"]}],
)
def test_round_trip(tmp_path: Path, options: dict) -> None:
    model = made(**options)
    model.pretrained_cfg |= {"crop_pct": 0.95, "interpolation": "bilinear", "license": "mit"}
    place = hexavit.save_pretrained(model, tmp_path / "saved", class_names=NAMES)
    assert sorted(each.name for each in place.iterdir()) == FILES
    back = hexavit.from_pretrained(place)
    assert same(model, back)
    assert back.architecture == model.architecture
    assert back.pretrained_cfg == {**model.pretrained_cfg, "label_names": NAMES}
    assert not back.training
    again = hexavit.from_pretrained(hexavit.save_pretrained(back, tmp_path / "again"))
    assert same(back, again)
    assert again.pretrained_cfg == back.pretrained_cfg


def test_round_trip_of_an_isotropic_model(tmp_path: Path) -> None:
    model = hexavit.create_model("vit_tiny_patch16_224", img_size=64, num_classes=0)
    assert same(model, hexavit.from_pretrained(hexavit.save_pretrained(model, tmp_path)))


def test_the_card(tmp_path: Path) -> None:
    model = made()
    hexavit.save_pretrained(model, tmp_path, class_names=NAMES, license="cc0-1.0", metrics={"accuracy": 0.9912})
    card = (tmp_path / "README.md").read_text()
    assert model.architecture.table("markdown") in card
    assert "license: cc0-1.0\n" in card
    assert "| accuracy | 0.9912 |" in card
    assert f"| multiply-adds for an image | {hexavit.profile(model).macs:,} |" in card
    assert "3: one, two, zero." in card
    hexavit.save_pretrained(model, tmp_path)
    assert "0.9912" not in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("# Mine\n")
    hexavit.save_pretrained(model, tmp_path)
    assert (tmp_path / "README.md").read_text() == "# Mine\n"
    (tmp_path / "README.md").write_bytes(b"\xff")
    with pytest.raises(HexavitError, match=r"README\.md cannot be read"):
        hexavit.save_pretrained(model, tmp_path)


def test_an_interrupted_save_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New weights beside an old configuration, as after a crash between the two."""
    hexavit.save_pretrained(made(), tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saved_folder, "write_json", full)
    torch.manual_seed(4)
    with pytest.raises(OSError, match="No space"):
        hexavit.save_pretrained(hexavit.create_model("cvt_nano", num_classes=3), tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == FILES
    with pytest.raises(HexavitError, match=r"model\.safetensors is not the file that config\.json was written for"):
        hexavit.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"library_name": "timm"}, 'lacks "library_name": "hexavit"'),
        ({"format": 2}, 'and "format": 1'),
        ({"sha256": None}, "architecture.json is not the file"),
        ({"label_names": ["one"]}, "config.json: these are not 3 different names"),
        ({"label_names": [1, 2, 3]}, "are not 3 different names"),
        ({"pretrained_cfg": None}, "config.json: there is no such object"),
        ({"pretrained_cfg": {"mean": [0.5]}}, "'mean' has an invalid value"),
        ({"pretrained_cfg": {"crop_pct": True}}, "'crop_pct' has an invalid value"),
        ({"pretrained_cfg": {"interpolation": "eval"}}, "'interpolation' has an invalid value"),
        ({"pretrained_cfg": {"crop_mode": ["center"]}}, "'crop_mode' has an invalid value"),
        ({"pretrained_cfg": {"surprise": 1}}, "'surprise' has an invalid value or is no such setting"),
    ],
)
def test_a_configuration_with_wrong_values(tmp_path: Path, change: dict, sentence: str) -> None:
    hexavit.save_pretrained(made(), tmp_path, class_names=NAMES)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(HexavitError) as error:
        hexavit.from_pretrained(tmp_path)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[", "[]", "[" * 100_000, b"\xff\xfe"])
def test_a_configuration_that_is_not_json(tmp_path: Path, text: str | bytes) -> None:
    hexavit.save_pretrained(made(), tmp_path)
    (tmp_path / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(HexavitError, match=r"config\.json"):
        hexavit.from_pretrained(tmp_path)


def test_values_that_cannot_be_loaded_are_not_saved(tmp_path: Path) -> None:
    model = made()
    model.pretrained_cfg |= {"url": "file:///weights", "tag": None}  # as timm adds
    assert "url" not in hexavit.from_pretrained(hexavit.save_pretrained(model, tmp_path)).pretrained_cfg
    model.pretrained_cfg["interpolation"] = "random"
    with pytest.raises(HexavitError, match="'interpolation' has an invalid value"):
        hexavit.save_pretrained(model, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_errors_in_saving(tmp_path: Path) -> None:
    with pytest.raises(HexavitError, match="needs a whole model of create_model, not a FeatureBackbone"):
        hexavit.save_pretrained(hexavit.create_model("cvt_nano", features_only=True), tmp_path)
    with pytest.raises(HexavitError, match="3 classes need as many names, all different, not 2"):
        hexavit.save_pretrained(made(), tmp_path, class_names=("a", "b"))
    (tmp_path / "config.json").write_text('{"model_type": "cvt"}')
    with pytest.raises(HexavitError, match=r"holds another library's config\.json"):
        hexavit.save_pretrained(made(), tmp_path)


def test_errors_in_loading(tmp_path: Path) -> None:
    with pytest.raises(HexavitError, match="is neither a folder of save_pretrained"):
        hexavit.from_pretrained(tmp_path)
    with pytest.raises(HexavitError, match="neither a folder of save_pretrained nor OWNER/NAME"):
        hexavit.from_pretrained(tmp_path / "nowhere")
    hexavit.save_pretrained(made(), tmp_path)
    architecture = tmp_path / "architecture.json"
    architecture.write_text(architecture.read_text().replace('"conv_projection"', '"other"'))
    config = json.loads((tmp_path / "config.json").read_text())
    config["sha256"]["architecture.json"] = saved_folder.sha256_of(architecture)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArchitectureError, match="other"):
        hexavit.from_pretrained(tmp_path)


def test_from_the_hub(hub: Hub) -> None:
    model = made()
    hexavit.save_pretrained(model, hub.root / "me/nano", class_names=NAMES)
    back = hexavit.from_pretrained("me/nano")
    assert same(model, back)
    assert back.pretrained_cfg["label_names"] == NAMES
    write_state(model.state_dict(), hub.root / "me/other/model.safetensors")
    with pytest.raises(HexavitError, match=r"me/other on the hub holds no hexavit model, as it has no config\.json"):
        hexavit.from_pretrained("me/other")
    with pytest.raises(HexavitError, match="the hub shows no repository me/none"):
        hexavit.from_pretrained("me/none")
    with pytest.raises(HexavitError, match=r"'m e/n!' is not the name of a repository"):
        hexavit.from_pretrained("m e/n!")


def test_a_run_folder(tmp_path: Path) -> None:
    """A run folder that version 0.1 wrote."""
    run = Path(__file__).parents[1] / "compatibility" / "v0_1" / "run"
    model = hexavit.from_pretrained(run)
    weights = load_file(run / "weights" / "best.safetensors")
    assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())
    assert not model.training
    stored = json.loads((run / "input.json").read_text())
    for key in ("mean", "std"):
        assert model.pretrained_cfg[key] == tuple(stored[key])
    assert model.pretrained_cfg["interpolation"] == stored["interpolation"]
    assert model.pretrained_cfg["input_size"] == (stored["channels"], *stored["size"])
    assert model.pretrained_cfg["label_names"] == tuple(json.loads((run / "classes.json").read_text()))
    again = hexavit.from_pretrained(hexavit.save_pretrained(model, tmp_path / "saved"))
    assert same(model, again)
    assert again.pretrained_cfg == model.pretrained_cfg
    shutil.copytree(run, tmp_path / "new", ignore=shutil.ignore_patterns("weights"))
    with pytest.raises(HexavitError, match="this run has no weights yet, as it has not finished an epoch"):
        hexavit.from_pretrained(tmp_path / "new")


def two_layers(model: hexavit.Backbone) -> None:
    model.head.fc = nn.Sequential(nn.Linear(128, 8), nn.Linear(8, 3))


def wrapped(model: hexavit.Backbone) -> None:
    weight_norm(model.stages[1].tokens.conv)


def without_a_block(model: hexavit.Backbone) -> None:
    del model.stages[2].blocks[-1]


def another_activation(model: hexavit.Backbone) -> None:
    model.stages[0].blocks[0].feedforward.act = nn.ReLU()


def another_eps(model: hexavit.Backbone) -> None:
    model.head.norm.eps = 0.1


def another_parameter(model: hexavit.Backbone) -> None:
    model.stages[2].class_token = nn.Parameter(torch.zeros(1, 2, 128))


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (two_layers, "head.fc is Sequential(), not Linear(in_features=128, out_features=3, bias=True)"),
        (wrapped, "stages.1.tokens.conv is ParametrizedConv2d("),
        (without_a_block, "stages.2.blocks."),
        (another_activation, "stages.0.blocks.0.feedforward.act is ReLU(), not "),
        (
            another_eps,
            "head.norm is LayerNorm((128,), eps=0.1",
        ),
        (another_parameter, "stages.2.class_token has the shape (1, 2, 128), not (1, 1, 128)"),
    ],
)
def test_a_model_that_differs_from_its_architecture_is_not_saved(
    tmp_path: Path, change: Callable[[hexavit.Backbone], None], difference: str
) -> None:
    model = made()
    change(model)
    with pytest.raises(HexavitError) as error:
        hexavit.save_pretrained(model, tmp_path / "saved")
    message = str(error.value)
    assert message.startswith("the model's modules differ from its architecture")
    assert difference in message
    assert message.endswith("or save model.state_dict()")
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("name", few_nanos())
def test_what_the_library_itself_changes_is_saved(tmp_path: Path, name: str) -> None:
    """Another dtype, classifier, image size and dropout leave a model that its architecture describes."""
    model = hexavit.create_model(name, drop_rate=0.1, drop_path_rate=0.1).half()
    model.reset_classifier(5)
    model.head.drop.p = 0.4
    height, width = model.architecture.img_size
    model.set_input_size((height, 2 * width))
    model.set_grad_checkpointing()
    back = hexavit.from_pretrained(hexavit.save_pretrained(model, tmp_path))
    theirs = back.state_dict()
    assert all(torch.equal(tensor, theirs[key].to(tensor.dtype)) for key, tensor in model.state_dict().items())
    assert back.architecture == model.architecture
