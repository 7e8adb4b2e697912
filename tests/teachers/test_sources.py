"""Teachers of timm and torchvision, without a network: from files, folders, and PyTorch's folder of downloads."""

import json
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from hexavit.errors import HexavitError
from hexavit.images.preprocess import InputSpec
from hexavit.models.imagenet import imagenet_classes
from hexavit.teachers import Teacher, load_any_model
from hexavit.teachers.sources import absolute_source, check_other_run

SPEC = InputSpec((32, 32), 3, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear", 0.9, "center")


def timm_folder(path: Path, names: list[str] | None, **cfg: object) -> Path:
    """A folder as timm's `save_for_hf` writes it."""
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=3)
    path.mkdir()
    save_file(model.state_dict(), path / "model.safetensors")
    config = {"architecture": "test_resnet", "num_classes": 3, "pretrained_cfg": {**cfg, "classifier": "fc"}}
    if names:
        config |= {"label_names": names}
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_a_folder_of_timm_has_its_classes_and_preprocessing(tmp_path: Path) -> None:
    cfg = {
        "input_size": [3, 48, 64],
        "mean": [0.3, 0.4, 0.5],
        "std": [0.2, 0.25, 0.3],
        "interpolation": "bicubic",
        "crop_pct": 0.8,
    }
    loaded = load_any_model(f"timm:local-dir:{timm_folder(tmp_path / 'cnn', ['c', 'a', 'b'], **cfg)}")
    assert loaded.classes == ("c", "a", "b")
    assert loaded.input_spec == InputSpec((48, 64), 3, (0.3, 0.4, 0.5), (0.2, 0.25, 0.3), "bicubic", 0.8, "center")
    seen: list[torch.Tensor] = []
    loaded.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pixels = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(each)[:, None, None] for each in (SPEC.mean, SPEC.std))
    found = Teacher(loaded, ("a", "b", "c"), SPEC, "it")((pixels - mean) / std)
    resized = torch.nn.functional.interpolate(pixels, (48, 64), mode="bicubic", antialias=True)
    mean, std = (torch.tensor(cfg[each])[:, None, None] for each in ("mean", "std"))
    torch.testing.assert_close(seen[0], (resized - mean) / std, rtol=1e-4, atol=1e-5)
    plain = timm.create_model("test_resnet", num_classes=3).eval()
    torch.manual_seed(0)
    plain = timm.create_model("test_resnet", num_classes=3).eval()
    with torch.no_grad():
        torch.testing.assert_close(found, plain((resized - mean) / std)[:, [1, 2, 0]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("source", "channels"), [("timm:test_resnet", 1), ("torchvision:shufflenet_v2_x0_5", 3)])
def test_weights_of_a_file(tmp_path: Path, source: str, channels: int) -> None:
    library, _, name = source.partition(":")
    if library == "timm":
        model = timm.create_model(name, num_classes=4, in_chans=channels)
    else:
        model = torchvision.models.get_model(name, num_classes=4)
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, file)
    loaded = load_any_model(f"{source}@{file}")
    assert len(loaded.classes) == 4
    assert loaded.input_spec.channels == channels
    x = torch.randn(2, channels, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.model(x), model.eval()(x))
    assert Teacher(loaded, list("wxyz"), SPEC, "it").columns.tolist() == [0, 1, 2, 3]
    with pytest.raises(HexavitError, match="has no class 'v'"):
        Teacher(loaded, list("vwxyz"), SPEC, "it")
    torch.save({"fc.weight": torch.zeros(4, 2)}, file)
    with pytest.raises(HexavitError, match="these weights do not fit"):
        load_any_model(f"{source}@{file}")


def test_published_weights_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torchvision.models.get_model_weights("shufflenet_v2_x0_5")["IMAGENET1K_V1"]
    downloads = tmp_path / "checkpoints"
    downloads.mkdir()
    model = torchvision.models.get_model("shufflenet_v2_x0_5")
    torch.save(model.state_dict(), downloads / weights.url.rpartition("/")[2])
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    for source in ("torchvision:shufflenet_v2_x0_5", "torchvision:shufflenet_v2_x0_5.IMAGENET1K_V1"):
        loaded = load_any_model(source)
        assert loaded.classes == imagenet_classes()
        assert loaded.synonyms["n01440764"] == 0
        assert (loaded.input_spec.size, loaded.input_spec.interpolation) == ((224, 224), "bilinear")
        assert loaded.input_spec.mean == (0.485, 0.456, 0.406)
        assert loaded.input_spec.crop_pct == 224 / 256
    assert Teacher(loaded, ("n01443537", "tench"), SPEC, "it").columns.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("timm:resnet_18", "timm:resnet_18: timm has no such model: did you mean 'resnet18'"),
        ("torchvision:resnet_18", "torchvision has no such classifier: did you mean 'resnet18'"),
        ("torchvision:fcn_resnet50", "torchvision has no such classifier"),
        ("torchvision:resnet50.V2", "no such weights of resnet50: choose from DEFAULT, IMAGENET1K_V1"),
        ("timm:local-dir:nowhere", "timm cannot load this model"),
        ("timm:test_resnet@nowhere.pth", "nowhere.pth cannot be read"),
        ("keras:resnet", "there is no such run folder, file or model"),
    ],
)
def test_errors(source: str, sentence: str) -> None:
    with pytest.raises(HexavitError) as raised:
        load_any_model(source)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_paths_in_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cnn").mkdir()
    (tmp_path / "a.pth").touch()
    assert absolute_source("cnn") == f"{tmp_path}/cnn"
    assert absolute_source("timm:local-dir:cnn") == f"timm:local-dir:{tmp_path}/cnn"
    assert absolute_source("torchvision:resnet18@a.pth") == f"torchvision:resnet18@{tmp_path}/a.pth"
    for published in ("cvt_13.in1k", "timm:resnet18", "timm:hf-hub:cnn@a.pth", "timm:resnet18@nowhere.pth"):
        assert absolute_source(published) == published
    check_other_run("timm:resnet18", "timm:resnet18")
    check_other_run("cnn", "cnn-2")
    (tmp_path / "cnn" / "weights").mkdir()
    (tmp_path / "cnn" / "a.pth").touch()
    for own in ("cnn", "cnn/weights", "timm:local-dir:cnn", "timm:resnet18@cnn/a.pth"):
        with pytest.raises(HexavitError, match="cannot be its own teacher"):
            check_other_run(own, tmp_path / "cnn")
