"""Published weights: finding, fetching, verification, caching, loading, and the error messages."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from tests.hub.local_hub import Hub

import hexavit
from hexavit.checkpoints.writer import write_state
from hexavit.errors import CheckpointError, HexavitError
from hexavit.hub import load_published
from hexavit.hub.download import UnreachableError, link_name, sha256_of
from hexavit.models import Weight, model_entry, registry
from hexavit.models.cvt.keys import LAYOUTS

pytestmark = pytest.mark.usefixtures("one_thread")


def publish(hub: Hub, weight: Weight, file: str = "model.safetensors") -> hexavit.Backbone:
    """A model whose weights are on the hub, with the keys of transformers."""
    torch.manual_seed(1)
    model = hexavit.create_model("cvt_nano", num_classes=weight.num_classes, img_size=weight.img_size)
    layout = next(each for each in LAYOUTS if each.origin == "huggingface")
    write_state(layout.to_theirs(model.state_dict(), lambda key: 1).state, hub.root / weight.hub_id / file)
    return model


def equal(one: hexavit.Backbone, other: hexavit.Backbone) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[key]) for key, tensor in one.state_dict().items())


def swap(monkeypatch: pytest.MonkeyPatch, weight: Weight) -> None:
    monkeypatch.setitem(registry._MODELS, "cvt_nano", replace(model_entry("cvt_nano"), weights=(weight,)))


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("name", ["cvt_nano", "cvt_nano.digits"])
def test_fetched_and_loaded(hub: Hub, own_weight: Weight, name: str, file: str) -> None:
    published = publish(hub, own_weight, file)
    model = hexavit.create_model(name, pretrained=True)
    assert equal(model, published)
    assert model.architecture.img_size == (48, 48)
    cfg = model.pretrained_cfg
    assert (cfg["tag"], cfg["license"], cfg["hf_hub_id"]) == ("digits", "cc0-1.0", "someone/nano")
    assert (cfg["mean"], cfg["crop_mode"], cfg["input_size"]) == ((0.1, 0.2, 0.3), "squash", (3, 48, 48))


def test_a_repository_of_published_weights_is_known(hub: Hub, own_weight: Weight) -> None:
    published = publish(hub, own_weight)
    model = hexavit.from_pretrained("someone/nano")
    assert equal(model, published)
    assert not model.training
    assert model.pretrained_cfg["tag"] == "digits"


def test_a_tag_gives_size_classes_and_preprocessing_without_weights(own_weight: Weight) -> None:
    model = hexavit.create_model("cvt_nano.digits")
    assert (model.num_classes, model.architecture.img_size) == (10, (48, 48))
    assert model.pretrained_cfg["interpolation"] == "bilinear"


def test_cached_weights_need_no_request(hub: Hub, own_weight: Weight) -> None:
    publish(hub, own_weight)
    hexavit.create_model("cvt_nano", pretrained=True)
    hub.asked.clear()
    hexavit.create_model("cvt_nano", pretrained=True)
    assert hub.asked == []


def test_an_interrupted_download_is_resumed(hub: Hub, own_weight: Weight) -> None:
    published = publish(hub, own_weight)
    hub.broken_after = 500_000
    assert equal(hexavit.create_model("cvt_nano", pretrained=True), published)
    assert sum(method == "GET" for method, _ in hub.asked) == 2


def test_other_classes_channels_and_parts(hub: Hub, own_weight: Weight, caplog: pytest.LogCaptureFixture) -> None:
    published = publish(hub, own_weight)
    model = hexavit.create_model("cvt_nano", pretrained=True, num_classes=3, in_chans=1)
    assert model.head.fc.weight.shape == (3, 128)
    kernel = model.stages[0].tokens.conv.weight
    torch.testing.assert_close(kernel, published.stages[0].tokens.conv.weight.sum(1, keepdim=True))
    assert len(model.pretrained_cfg["mean"]) == 1
    assert "keep their initial values" not in caplog.text
    mixed = hexavit.create_model("cvt_nano", pretrained=True, overrides=["stages.1.attention=global"])
    assert torch.equal(mixed.stages[2].class_token, published.stages[2].class_token)
    assert "tensors are not loaded and keep their initial values, first stages.1.blocks.0.attention" in caplog.text


def test_feature_maps(hub: Hub, own_weight: Weight) -> None:
    published = publish(hub, own_weight)
    maps = hexavit.create_model("cvt_nano", pretrained=True, features_only=True)
    assert torch.equal(maps.model.stages[1].tokens.conv.weight, published.stages[1].tokens.conv.weight)
    backbone = hexavit.backbone("cvt_nano", pretrained=True)
    assert torch.equal(backbone.body.model.stages[1].tokens.conv.weight, published.stages[1].tokens.conv.weight)


def test_the_checksum(
    hub: Hub, own_weight: Weight, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish(hub, own_weight)
    right = sha256_of(hub.root / "someone/nano/model.safetensors")
    report = load_published(hexavit.create_model("cvt_nano.digits"), "cvt_nano")
    assert report.notes[-1] == f"sha256 {right}, as the hub states; hexavit has no checksum of its own"
    assert caplog.record_tuples == [("hexavit", logging.WARNING, f"cvt_nano.digits: {report.notes[-1]}")]
    caplog.clear()
    swap(monkeypatch, replace(own_weight, sha256={"model.safetensors": right}))
    report = load_published(hexavit.create_model("cvt_nano.digits"), "cvt_nano")
    assert report.notes[-1] == f"sha256 {right}, as published"
    assert not caplog.records
    swap(monkeypatch, replace(own_weight, sha256={"model.safetensors": "0" * 64}))
    with pytest.raises(CheckpointError, match=f"has the sha256 {right} where 0000.* is expected"):
        hexavit.create_model("cvt_nano", pretrained=True)


def test_a_file_damaged_in_the_cache(hub: Hub, own_weight: Weight, tmp_path: Path) -> None:
    publish(hub, own_weight)
    hexavit.create_model("cvt_nano", pretrained=True)
    (blob,) = (tmp_path / "cache").rglob("blobs/*")
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"the file is damaged or was replaced; delete {blob} to fetch it again"):
        hexavit.create_model("cvt_nano", pretrained=True)
    blob.unlink()
    hexavit.create_model("cvt_nano", pretrained=True)


BY_HAND = (
    "; fetch https://huggingface.co/someone/nano/resolve/main/model.safetensors or "
    "https://huggingface.co/someone/nano/resolve/main/pytorch_model.bin by hand and load it with "
    "hexavit.load_checkpoint(hexavit.create_model('cvt_nano.digits'), PATH)"
)


def test_without_a_network(hub: Hub, own_weight: Weight, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    with pytest.raises(UnreachableError) as error:
        hexavit.create_model("cvt_nano", pretrained=True)
    message = str(error.value)
    assert message.startswith(
        "cvt_nano.digits cannot be fetched: someone/nano's model.safetensors is not in the cache, and"
    )
    assert message.endswith(BY_HAND)
    assert "\n" not in message


def test_offline(hub: Hub, own_weight: Weight, monkeypatch: pytest.MonkeyPatch) -> None:
    published = publish(hub, own_weight)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnreachableError, match="HF_HUB_OFFLINE is set; fetch "):
        hexavit.create_model("cvt_nano", pretrained=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hexavit.create_model("cvt_nano", pretrained=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert equal(hexavit.create_model("cvt_nano", pretrained=True), published)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: hexavit.create_model("cvt_13_vit_pytorch", pretrained=True),
            "lists no published weights: load a file",
        ),
        (lambda: hexavit.create_model("cvt_13.in1k_38"), "under the tag 'in1k_38': did you mean 'in1k_384'?"),
        (
            lambda: load_published(torch.nn.Linear(1, 1), "cvt_13"),
            "need a model of create_model, not a Linear",
        ),
        (lambda: hexavit.create_model("cvt_nano", out_indices=1), "pass features_only=True with it"),
    ],
)
def test_error_messages(call, sentence: str) -> None:
    with pytest.raises(HexavitError) as error:
        call()
    assert sentence in str(error.value)


def test_a_missing_repository(hub: Hub, own_weight: Weight) -> None:
    with pytest.raises(CheckpointError, match="the hub shows no repository someone/nano: it may be private"):
        hexavit.create_model("cvt_nano", pretrained=True)
    (hub.root / "someone/nano").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"someone/nano has none of the files model\.safetensors, pytorch_model"):
        hexavit.create_model("cvt_nano", pretrained=True)


def test_a_file_behind_a_link(own_weight: Weight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    torch.manual_seed(0)
    published = hexavit.create_model("cvt_nano", num_classes=10, img_size=48)
    file = tmp_path / "theirs" / "nano.pth"
    file.parent.mkdir()
    torch.save(published.state_dict(), file)
    swap(monkeypatch, replace(own_weight, hub_id=None, link=file.as_uri()))
    model = hexavit.create_model("cvt_nano", pretrained=True)
    assert equal(model, published)
    assert (model.pretrained_cfg["url"], model.pretrained_cfg["tag"]) == (file.as_uri(), "digits")
    file.unlink()
    assert equal(hexavit.create_model("cvt_nano", pretrained=True), published)  # from the cache
    (tmp_path / "cache" / "checkpoints" / "nano.pth").unlink()
    with pytest.raises(UnreachableError) as error:
        hexavit.create_model("cvt_nano", pretrained=True)
    assert f"cannot be fetched from {file.as_uri()}; fetch {file.as_uri()} by hand" in str(error.value)
    assert not list((tmp_path / "cache" / "checkpoints").iterdir())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnreachableError, match="and HF_HUB_OFFLINE is set; fetch file"):
        hexavit.create_model("cvt_nano", pretrained=True)


@pytest.mark.parametrize(
    ("given", "what"), [("\n<!DOCTYPE html><title>Quota exceeded</title>", "a web page"), ("", "an empty file")]
)
def test_a_link_that_returns_a_page_or_an_empty_file(
    given: str, what: str, own_weight: Weight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File hosts return a page that asks for confirmation, or an error page."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    page = tmp_path / "download"
    page.write_text(given)
    swap(monkeypatch, replace(own_weight, hub_id=None, link=f"{page.as_uri()}#nano.pth"))
    with pytest.raises(UnreachableError, match=rf"nano\.pth is not in .* returned {what} instead; fetch"):
        hexavit.create_model("cvt_nano", pretrained=True)
    assert not list((tmp_path / "cache" / "checkpoints").iterdir())


def test_the_file_name_of_a_link_stays_in_the_cache() -> None:
    assert link_name("https://example.org/a/b.pth?download=1") == "b.pth"
    assert link_name("https://example.org/uc?id=3#../../b.pth") == "b.pth"
    for link in ("https://example.org/", "https://example.org/a#.."):
        with pytest.raises(CheckpointError, match="does not end with a file name: append one after a #"):
            link_name(link)
