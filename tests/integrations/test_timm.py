"""hexavit's models in timm's registry, under timm's options, and in libraries that build on timm."""

import subprocess
import sys
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from timm.data import create_transform, resolve_model_data_config
from timm.optim import create_optimizer_v2

import hexavit
from hexavit.parts import options

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True, scope="module")
def registered() -> list[str]:
    return hexavit.register_with_timm()


def images(side: int = 64, batch: int = 2, chans: int = 3) -> torch.Tensor:
    return torch.randn(batch, chans, side, side, generator=torch.Generator().manual_seed(0))


def test_entries_of_timm_are_not_changed() -> None:
    """In a new process, as this one has registered them."""
    program = """
import timm
from timm.models import _registry
before = dict(_registry._model_entrypoints)
cfgs = {name: repr(cfg) for name, cfg in _registry._model_pretrained_cfgs.items()}
import hexavit
assert _registry._model_entrypoints == before, "registered by importing hexavit"
names = hexavit.register_with_timm()
after = _registry._model_entrypoints
assert all(after[name] is before[name] for name in before)
assert all(repr(_registry._model_pretrained_cfgs[name]) == cfgs[name] for name in cfgs)
assert set(after) - set(before) == set(names), set(after) - set(before)
assert hexavit.register_with_timm() == names
assert all(name in before for name in (n.removeprefix("hexavit_") for n in names if n.startswith("hexavit_")))
assert {"cvt_nano", "cvt_13", "cvt_21", "cvt_w24", "hexavit_vit_base_patch16_224"} <= set(names)
assert timm.list_models("cvt_*") == sorted(hexavit.list_models("cvt_*"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_all_models_are_there(registered: list[str]) -> None:
    assert len(registered) == len(hexavit.list_models())
    assert all(timm.is_model(name) for name in registered)


def test_a_model_is_hexavits_own() -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("cvt_nano", num_classes=7, in_chans=1, img_size=64).eval()
    torch.manual_seed(0)
    ours = hexavit.create_model("cvt_nano", num_classes=7, in_chans=1, img_size=64).eval()
    assert torch.equal(theirs(images(chans=1)), ours(images(chans=1)))
    assert theirs.architecture == ours.architecture


def test_feature_maps() -> None:
    model = timm.create_model("cvt_13", features_only=True, out_indices=(0, 2))
    assert [tuple(m.shape) for m in model(images())] == [(2, 64, 16, 16), (2, 384, 4, 4)]
    assert model.feature_info.channels() == [64, 384]
    assert model.feature_info.reduction() == [4, 16]
    assert model.feature_info.channels(1) == 192
    assert [d["index"] for d in model.feature_info.get_dicts(["index"])] == [0, 2]
    column = timm.create_model("hexavit_vit_tiny_patch16_224", features_only=True, out_indices=(5, 11), img_size=64)
    assert [tuple(m.shape) for m in column(images())] == [(2, 192, 4, 4)] * 2


def test_preprocessing() -> None:
    config = resolve_model_data_config(timm.create_model("cvt_nano"))
    assert config["input_size"] == (3, 32, 32)
    assert config["interpolation"] == "bicubic"
    assert timm.get_pretrained_cfg("cvt_w24").crop_mode == "squash"
    transform = create_transform(**resolve_model_data_config(timm.create_model("hexavit_vit_tiny_patch16_224")))
    assert "0.5" in repr(transform)


def test_layer_decay() -> None:
    model = timm.create_model("cvt_nano")
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.7)
    scales = {group["lr_scale"] for group in optimizer.param_groups}
    # The stem, two later embeddings, four blocks, and the head, each at its own depth.
    assert sorted(scales) == pytest.approx([0.7**k for k in range(len(scales))][::-1])
    model(images(32)).sum().backward()
    optimizer.step()


def test_options_of_timm() -> None:
    model = timm.create_model("cvt_13", num_classes=4, drop_rate=0.1, drop_path_rate=0.3, global_pool="avg")
    assert model.head.drop.p == 0.1
    assert [stage.drop_path for stage in model.architecture.stages] == [0, 0, 0.3]
    assert model.architecture.head.name == "pool"
    assert (
        timm.create_model("cvt_nano", drop_path_rate=0.2).stages[2].blocks[-1].attention_residual.drop_path.rate == 0.2
    )
    assert timm.create_model("cvt_nano", num_classes=0)(images(32)).shape == (2, 128)
    other = timm.create_model("cvt_nano", pretrained_cfg_overlay={"crop_pct": 0.9})
    assert resolve_model_data_config(other)["crop_pct"] == 0.9


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pretrained": True}, "cvt_nano lists no published weights"),
        ({"num_clases": 3}, "cvt_nano has no option 'num_clases': did you mean 'num_classes'?"),
        ({"output_stride": 8}, "cvt_nano has the output stride 16, and output_stride=8 is not supported"),
        ({"global_pool": "max"}, "global_pool is 'avg', 'token' or '', not 'max'"),
        ({"features_only": True, "feature_cls": "dict"}, "feature_cls is 'list', 'getter', 'hook', not 'dict'"),
        (
            {"pretrained": True, "cache_dir": "here"},
            "cvt_nano: cache_dir is not supported, set the environment variable",
        ),
        ({"features_only": True, "out_indices": (0, 5)}, "there is no feature map 5"),
    ],
)
def test_error_messages(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(hexavit.HexavitError) as error:
        timm.create_model("cvt_nano", **options)
    assert sentence in str(error.value)


def test_a_tag_is_that_of_the_weights() -> None:
    model = timm.create_model("cvt_13.in1k_384", drop_path_rate=0.2)
    assert model.pretrained_cfg["crop_mode"] == "squash"
    assert model.architecture.img_size == (384, 384)
    assert model.architecture.stages[2].drop_path == 0.2


def test_an_unknown_tag() -> None:
    with pytest.raises(hexavit.HexavitError, match="cvt_nano has no weights under the tag 'in1k'"):
        timm.create_model("cvt_nano.in1k")


def test_unet_of_segmentation_models_pytorch() -> None:
    # Three maps, so depth 4: the input, none at half size, and these.
    unet = smp.Unet(
        "tu-cvt_13", encoder_weights=None, encoder_depth=4, decoder_channels=(32, 16, 8, 8), classes=2, in_channels=1
    )
    masks = unet(images(chans=1))
    assert masks.shape == (2, 2, 64, 64)
    masks.square().mean().backward()
    assert not [name for name, parameter in unet.named_parameters() if parameter.grad is None]


def test_backbone_of_transformers() -> None:
    from transformers import TimmBackbone, TimmBackboneConfig

    model = TimmBackbone(TimmBackboneConfig(backbone="cvt_nano", out_indices=(0, 2))).eval()
    assert model.channels == [32, 128]
    assert [tuple(m.shape) for m in model(images()).feature_maps] == [(2, 32, 16, 16), (2, 128, 4, 4)]


NANO = hexavit.list_models("*_nano")


def timm_name(name: str) -> str:
    return next(each for each in hexavit.register_with_timm() if each in (name, f"hexavit_{name}"))


@pytest.mark.parametrize("name", NANO)
def test_training_gives_a_tensor_until_set_distilled_training(name: str) -> None:
    """timm's train.py computes its loss on a tensor."""
    model = timm.create_model(timm_name(name), num_classes=5).train()
    x = images(model.default_cfg["input_size"][-1])
    assert model(x).shape == (2, 5)
    two_heads = len(model.head.classifiers) == 2
    if two_heads:
        model.set_distilled_training(True)
        assert [out.shape[-1] for out in model(x)] == [5, 5]
        assert isinstance(hexavit.create_model(name).train()(x), tuple)


@pytest.mark.parametrize("name", NANO)
def test_facts_of_timms_models(name: str) -> None:
    model = timm.create_model(timm_name(name))
    cfg = model.default_cfg
    assert cfg == model.pretrained_cfg
    tokens = model.forward_features(images(cfg["input_size"][-1])[:, :3])
    assert tokens.shape[1] == model.num_extra_tokens + cfg["pool_size"][0] * cfg["pool_size"][1]
    if model.feature_info[-1]["reduction"] is not None:  # points have no map
        grid = model.forward_features(images(cfg["input_size"][-1]), output_fmt="NCHW")
        assert tuple(grid.shape) == (2, model.num_features, *cfg["pool_size"])
    assert model.in_chans == 3
    maps = timm.create_model(timm_name(name), features_only=True, feature_cls="getter", output_stride=max(
        entry["reduction"] for entry in model.feature_info if entry["reduction"]
    ))  # fmt: skip
    assert maps.default_cfg["input_size"] == cfg["input_size"]


def test_rates_of_dropout() -> None:
    for name in NANO:
        model = timm.create_model(timm_name(name), attn_drop_rate=0.1, proj_drop_rate=0.2)
        blocks = [block for stage in model.stage_modules for block in stage.blocks]
        parts = [part for _, kind, part in model.architecture.places() if kind == "attention"]
        with_rates = [part for part in parts if "attn_drop" in options("attention", part.name)]
        assert {part.options.get("attn_drop") for part in with_rates} == {0.1}, name
        attentions = [block.attention for block in blocks if hasattr(block.attention, "proj_drop")]
        # A bottleneck drops after its last convolution, not inside its attention.
        assert {getattr(each, "drop", each.proj_drop).p for each in attentions} == {0.2}, name
    overrides = {"stages.0.attention.attn_drop": 0.3}
    model = timm.create_model("cvt_nano", attn_drop_rate=0.1, overrides=overrides)
    assert [stage.attention.options["attn_drop"] for stage in model.architecture.stages] == [0.3, 0.1, 0.1]


def test_options_for_size_pooling_and_place() -> None:
    model = timm.create_model("cvt_nano", dynamic_img_size=True, strict_img_size=False, num_classes=0, global_pool="")
    assert model(images(48)).shape == model.forward_features(images(48)).shape
    built = timm.create_model("cvt_nano", device="meta", dtype=torch.float64)
    assert {(p.device.type, p.dtype) for p in built.parameters()} == {("meta", torch.float64)}
    with pytest.raises(TypeError, match="has no option 'not_an_option'"):
        timm.create_model("cvt_nano", not_an_option=1)


def test_weights_of_a_file(tmp_path: Path) -> None:
    """timm's way to start from a local file; no weights are fetched."""
    torch.manual_seed(0)
    saved = hexavit.create_model("cvt_nano")
    torch.save(saved.state_dict(), tmp_path / "weights.pth")
    for weights in ({"file": str(tmp_path / "weights.pth")}, {"state_dict": saved.state_dict()}):
        model = timm.create_model("cvt_nano", pretrained=True, pretrained_cfg_overlay=weights)
        assert torch.equal(model.head.fc.weight, saved.head.fc.weight)
        assert not {"file", "state_dict"} & set(model.pretrained_cfg)


# tests/models/test_meta.py has every model inside transformers' wrapper and loaded by accelerate.
@pytest.mark.parametrize("name", ["cvt_nano", "swin_nano"])
def test_accelerate_offloads_a_part_of_a_model(name: str, tmp_path: Path) -> None:
    from accelerate import dispatch_model

    model = hexavit.create_model(name, num_classes=3).eval()
    x = images(model.default_cfg["input_size"][-1])
    with torch.no_grad():
        expected = model(x)
        places = {"stages": "cpu", "head": "disk"}
        offloaded = dispatch_model(model, places, main_device="cpu", offload_dir=tmp_path, force_hooks=True)
        assert torch.equal(offloaded(x), expected)
