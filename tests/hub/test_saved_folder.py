"""A model saved as a folder comes back bit for bit, and a folder that lies is refused."""

import json
from pathlib import Path

import pytest
import torch
from tests.hub.local_hub import Hub

import hexavit
from hexavit.checkpoints.writer import write_state
from hexavit.errors import ArchitectureError, HexavitError
from hexavit.hub import folders

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


@pytest.mark.parametrize(
    "options",
    [{}, {"in_chans": 1, "img_size": (48, 64)}, {"overrides": ["head=pool", "stages.1.attention=global"]}],
)
def test_there_and_back(tmp_path: Path, options: dict) -> None:
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


def test_columns_too(tmp_path: Path) -> None:
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


def test_a_broken_off_writing_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New weights beside an old configuration, as after a crash between the two."""
    hexavit.save_pretrained(made(), tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "write_json", full)
    torch.manual_seed(4)
    with pytest.raises(OSError, match="No space"):
        hexavit.save_pretrained(hexavit.create_model("cvt_nano", num_classes=3), tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == FILES
    with pytest.raises(HexavitError, match=r"model\.safetensors is not the file that config\.json was written for"):
        hexavit.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"library_name": "timm"}, 'does not say "library_name": "hexavit"'),
        ({"format": 2}, 'and "format": 1'),
        ({"sha256": None}, "architecture.json is not the file"),
        ({"label_names": ["one"]}, "label_names in config.json are not 3 different names"),
        ({"label_names": [1, 2, 3]}, "are not 3 different names"),
        ({"pretrained_cfg": None}, "config.json has no pretrained_cfg"),
        ({"pretrained_cfg": {"mean": [0.5]}}, "has 'mean' with a value that it cannot have"),
        ({"pretrained_cfg": {"crop_pct": True}}, "has 'crop_pct' with a value"),
        ({"pretrained_cfg": {"interpolation": "eval"}}, "has 'interpolation' with a value"),
        ({"pretrained_cfg": {"crop_mode": ["center"]}}, "has 'crop_mode' with a value"),
        ({"pretrained_cfg": {"surprise": 1}}, "has 'surprise' with a value"),
    ],
)
def test_a_configuration_that_lies(tmp_path: Path, change: dict, sentence: str) -> None:
    hexavit.save_pretrained(made(), tmp_path, class_names=NAMES)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(HexavitError) as refusal:
        hexavit.from_pretrained(tmp_path)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["[", "[]", "[" * 100_000, b"\xff\xfe"])
def test_a_configuration_that_is_none(tmp_path: Path, text: str | bytes) -> None:
    hexavit.save_pretrained(made(), tmp_path)
    (tmp_path / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(HexavitError, match=r"config\.json"):
        hexavit.from_pretrained(tmp_path)


def test_what_reading_would_refuse_is_not_saved(tmp_path: Path) -> None:
    model = made()
    model.pretrained_cfg |= {"url": "file:///weights", "tag": None}  # as timm adds
    assert "url" not in hexavit.from_pretrained(hexavit.save_pretrained(model, tmp_path)).pretrained_cfg
    model.pretrained_cfg["interpolation"] = "random"
    with pytest.raises(HexavitError, match="has 'interpolation' with a value that it cannot have"):
        hexavit.save_pretrained(model, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(HexavitError, match="a whole model of create_model, not a FeatureBackbone"):
        hexavit.save_pretrained(hexavit.create_model("cvt_nano", features_only=True), tmp_path)
    with pytest.raises(HexavitError, match="3 classes need as many names, all different, not 2"):
        hexavit.save_pretrained(made(), tmp_path, class_names=("a", "b"))
    (tmp_path / "config.json").write_text('{"model_type": "cvt"}')
    with pytest.raises(HexavitError, match=r"holds another library's config\.json"):
        hexavit.save_pretrained(made(), tmp_path)


def test_what_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(HexavitError, match="holds no hexavit model"):
        hexavit.from_pretrained(tmp_path)
    with pytest.raises(HexavitError, match="neither a folder of save_pretrained nor OWNER/NAME"):
        hexavit.from_pretrained(tmp_path / "nowhere")
    hexavit.save_pretrained(made(), tmp_path)
    architecture = tmp_path / "architecture.json"
    architecture.write_text(architecture.read_text().replace('"conv_projection"', '"other"'))
    config = json.loads((tmp_path / "config.json").read_text())
    config["sha256"]["architecture.json"] = folders.sha256_of(architecture)
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
    with pytest.raises(HexavitError, match=r"'m e/n!' is no name of a repository"):
        hexavit.from_pretrained("m e/n!")
