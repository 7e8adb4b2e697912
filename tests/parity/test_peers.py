"""Compare logits and gradients with other implementations, whose random weights are loaded here.

Gradients are compared under our names: the peer's gradients go through the same table as its weights.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from vit_pytorch.cvt import CvT as VitPytorchCvT

import hexavit
from hexavit.checkpoints.layout_detection import find_origin
from hexavit.models.cvt.variants import cvt_vit_pytorch

transformers = pytest.importorskip("transformers")

SIZES = [(48, 96), pytest.param((64, 64), marks=pytest.mark.slow)]
LOGITS, GRADIENTS = 5e-6, 1e-10  # of the largest value, in float32 and in float64


def stirred(peer: nn.Module) -> Any:
    """The other model without weights of 0 or 1, so that exchanged weights change the result."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in peer.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator)
                tensor.copy_(0.5 + noise.abs() if name.endswith("running_var") else tensor + 0.05 * noise)
    return peer.eval()


def images(size: tuple[int, int]) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))


def differences(peer: nn.Module, ours: Any, x: Tensor) -> tuple[float, float]:
    """The largest difference of logits in float32 and of any parameter's gradient in float64, each relative to its
    largest value. In float32, rounding can activate a ReLU in one of the models, which changes a gradient by 0.1 %."""
    with torch.no_grad():
        a, b = (getattr(out, "logits", out) for out in (peer(x), ours(x)))
    for model in (peer.double(), ours.double()):
        out = model(x.double())
        getattr(out, "logits", out).square().mean().backward()
    theirs: Mapping[str, Tensor] = {name: p.grad for name, p in peer.named_parameters() if p.grad is not None}
    translated = find_origin(theirs, "gradients").to_ours(theirs)
    assert not translated.unexplained
    assert not translated.broken
    own = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    assert set(own) == set(translated.state)
    # Softmax does not see what is added to all keys: gradients of such shifts are rounding, held against a floor.
    floor = 1e-3 * max(gradient.abs().max().item() for gradient in own.values())
    worst = max(
        (translated.state[name] - gradient).abs().max().item() / max(floor, gradient.abs().max().item())
        for name, gradient in own.items()
    )
    return ((a - b).abs().max() / a.abs().max()).item(), worst


def assert_same(peer: nn.Module, ours: Any, size: tuple[int, int], origin: str) -> None:
    report = hexavit.load_checkpoint(ours.eval(), peer.state_dict())
    assert (report.origin, report.left_over, report.missing) == (origin, {}, {})
    logits, gradients = differences(peer, ours, images(size))
    assert logits <= LOGITS
    assert gradients <= GRADIENTS


class SigmoidGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


def transformers_cvt(act: nn.Module | None, depth: tuple[int, ...] = (1, 2, 10)) -> Any:
    """CvT-13 of transformers at 10 classes; `act` instead of its exact GELU."""
    torch.manual_seed(0)
    config = transformers.CvtConfig(num_labels=10, depth=list(depth))
    peer = stirred(transformers.CvtForImageClassification(config))
    for module in list(peer.modules()):
        if act is not None and isinstance(getattr(module, "activation", None), nn.Module):
            module.activation = act
    return peer


@pytest.mark.parametrize("size", SIZES)
def test_cvt_13_is_that_of_transformers_with_the_same_activation(size: tuple[int, int]) -> None:
    assert_same(transformers_cvt(SigmoidGELU()), hexavit.create_model("cvt_13", num_classes=10), size, "huggingface")


def test_cvt_13_is_that_of_transformers_with_its_own_activation() -> None:
    edits = ["stages.*.feedforward.act=gelu", "stages.2.depth=3"]
    ours = hexavit.create_model("cvt_13", num_classes=10, overrides=edits)
    assert_same(transformers_cvt(None, depth=(1, 2, 3)), ours, (64, 64), "huggingface")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("s3_heads", [4, 6])
def test_cvt_is_that_of_vit_pytorch(size: tuple[int, int], s3_heads: int) -> None:
    sizes = {"s3_heads": s3_heads, "s3_depth": 3, "num_classes": 10}
    torch.manual_seed(0)
    peer = stirred(VitPytorchCvT(**sizes))
    ours = hexavit.create_model(cvt_vit_pytorch(**sizes))  # type: ignore[arg-type]  # a mapping of whole numbers
    assert_same(peer, ours, size, "vit_pytorch")


def test_the_named_cvt_is_vit_pytorchs_default() -> None:
    torch.manual_seed(0)
    peer = stirred(VitPytorchCvT(num_classes=1000))
    assert_same(peer, hexavit.create_model("cvt_13_vit_pytorch"), (64, 64), "vit_pytorch")


@pytest.mark.parametrize("size", SIZES)
def test_vit_is_that_of_timm(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    peer = stirred(timm.create_model("vit_tiny_patch16_224", img_size=size, num_classes=10))
    assert_same(peer, hexavit.create_model("vit_tiny_patch16_224", img_size=size, num_classes=10), size, "timm")


def test_vit_without_class_token_is_that_of_timm_with_its_norm_before_the_mean() -> None:
    """timm's own average pooling norms after the mean (`fc_norm`); `fc_norm=False` gives the authors' order."""
    options = {"img_size": 64, "num_classes": 10, "class_token": False, "global_pool": "avg"}
    torch.manual_seed(0)
    peer = stirred(timm.create_model("vit_tiny_patch16_224", fc_norm=False, **options))
    ours = hexavit.create_model("vit_tiny_patch16_224", img_size=64, num_classes=10, overrides=["head=pool"])
    assert_same(peer, ours, (64, 64), "timm")
    after = timm.create_model("vit_tiny_patch16_224", **options)
    with pytest.raises(hexavit.HexavitError, match=r"does not explain fc_norm.weight, fc_norm.bias"):
        hexavit.load_checkpoint(ours, after.state_dict())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_deit_is_that_of_timm(name: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    peer = stirred(timm.create_model(name, img_size=size, num_classes=10))
    assert_same(peer, hexavit.create_model(name, img_size=size, num_classes=10), size, "timm")


@pytest.mark.parametrize("size", SIZES)
def test_cait_is_that_of_timm(size: tuple[int, int]) -> None:
    name = "cait_xxs24_224"
    torch.manual_seed(0)
    peer = stirred(timm.create_model(name, img_size=size, num_classes=10))
    assert_same(peer, hexavit.create_model(name, img_size=size, num_classes=10), size, "timm")


def transformers_deit(end: str = "WithTeacher") -> Any:
    """DeiT-Ti, by default with a teacher, at 64 x 64 and 10 classes."""
    torch.manual_seed(0)
    config = transformers.DeiTConfig(
        hidden_size=192, num_attention_heads=3, intermediate_size=768, num_labels=10, image_size=64
    )
    return stirred(getattr(transformers, f"DeiTForImageClassification{end}")(config))


def distilled(*edits: str) -> Any:
    return hexavit.create_model("deit_tiny_distilled_patch16_224", img_size=64, num_classes=10, overrides=edits)


def test_deit_distilled_is_that_of_transformers() -> None:
    assert_same(transformers_deit(), distilled("norm_eps=1e-12"), (64, 64), "huggingface")


def test_deit_with_one_classifier_is_that_of_transformers() -> None:
    """Its distillation token has no classifier."""
    peer = transformers_deit("")
    edits = ["norm_eps=1e-12", "head.extra_tokens=2"]
    ours = hexavit.create_model("deit_tiny_patch16_224", img_size=64, num_classes=10, overrides=edits)
    assert_same(peer, ours, (64, 64), "huggingface")
    facts = hexavit.checkpoints.inspect_checkpoint(peer.state_dict())
    assert (facts.model, "head.extra_tokens=2" in facts.edits) == ("deit_tiny_patch16_224", True)


@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_both_heads_of_deit_are_theirs(library: str) -> None:
    """Compare the outputs of the class and the distillation token, and the gradients of a loss on both."""
    if library == "timm":
        torch.manual_seed(0)
        name = "deit_tiny_distilled_patch16_224"
        peer, ours = stirred(timm.create_model(name, img_size=64, num_classes=10)), distilled("stages.0.drop_path=0")
        peer.set_distilled_training(True)
    else:
        peer, ours = transformers_deit(), distilled("norm_eps=1e-12", "stages.0.drop_path=0")
    hexavit.load_checkpoint(ours, peer.state_dict())
    peer, ours, x = peer.double(), ours.double(), images((64, 64)).double()
    out = peer.train(library == "timm")(x)
    theirs = out if library == "timm" else (out.cls_logits, out.distillation_logits)
    outputs = ours.train()(x)
    for a, b in zip(theirs, outputs, strict=True):
        assert (a - b).abs().max() <= GRADIENTS * a.abs().max()
    for first, second in (theirs, outputs):
        (first.square().mean() + 3 * second.square().mean()).backward()
    gradients = {name: p.grad for name, p in peer.named_parameters() if p.grad is not None}
    translated = find_origin(gradients, "gradients").to_ours(gradients).state
    for key in ("head.fc.weight", "head.fc2.weight", "stages.0.class_token", "stages.0.blocks.0.attention.proj.weight"):
        own = ours.get_parameter(key).grad
        assert (translated[key] - own).abs().max() <= GRADIENTS * own.abs().max()


@pytest.mark.parametrize("size", SIZES)
def test_vit_is_that_of_transformers(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=192, num_attention_heads=3, intermediate_size=768, num_labels=10, image_size=size
    )
    peer = stirred(transformers.ViTForImageClassification(config))
    edits = ["norm_eps=1e-12"]
    ours = hexavit.create_model("vit_tiny_patch16_224", img_size=size, num_classes=10, overrides=edits)
    assert_same(peer, ours, size, "huggingface")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["pvt_v2_b0", "pvt_v2_b2_li", "twins_pcpvt_small"])
def test_a_pyramid_is_that_of_timm(name: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    peer = stirred(timm.create_model(name, num_classes=10))
    assert_same(peer, hexavit.create_model(name, num_classes=10), size, "timm")


ONE_EPS = ["stages.*.tokens.eps=1e-6", "stages.*.attention.eps=1e-6"]
"""transformers computes every norm of the PVTs with one eps."""


def test_pvt_is_that_of_transformers() -> None:
    torch.manual_seed(0)
    peer = stirred(transformers.PvtForImageClassification(transformers.PvtConfig(num_labels=10, image_size=64)))
    ours = hexavit.create_model("pvt_tiny", num_classes=10, img_size=64, overrides=ONE_EPS)
    assert_same(peer, ours, (64, 64), "huggingface")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "linear"), [("pvt_v2_b0", False), pytest.param("pvt_v2_b2_li", True, marks=pytest.mark.slow)]
)
def test_pvt_v2_is_that_of_transformers(name: str, linear: bool, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    stages = hexavit.models.resolve(name).stages
    config = transformers.PvtV2Config(
        num_labels=10,
        hidden_sizes=[stage.dim for stage in stages],
        depths=[stage.depth for stage in stages],
        linear_attention=linear,
    )
    peer = stirred(transformers.PvtV2ForImageClassification(config))
    assert_same(peer, hexavit.create_model(name, num_classes=10, overrides=ONE_EPS), size, "huggingface")


@pytest.mark.parametrize(("size", "window"), [((64, 64), 4), pytest.param((128, 96), 2, marks=pytest.mark.slow)])
def test_swin_is_that_of_timm(size: tuple[int, int], window: int) -> None:
    """At (64, 64) the last two windows shrink to their maps; timm would shrink each side by itself."""
    name = "swin_tiny_patch4_window7_224"
    torch.manual_seed(0)
    peer = stirred(timm.create_model(name, window_size=window, img_size=size, num_classes=10))
    edits = [f"stages.*.attention.window={window}"]
    assert_same(peer, hexavit.create_model(name, img_size=size, num_classes=10, overrides=edits), size, "timm")


def test_swin_pads_as_timm_does() -> None:
    name, size = "swin_tiny_patch4_window7_224", (88, 120)  # 22 x 30 tokens, then 11 x 15, 6 x 8, 3 x 4
    torch.manual_seed(0)
    peer = stirred(
        timm.create_model(
            name, window_size=2, img_size=size, num_classes=10, strict_img_size=False, always_partition=True
        )
    )
    ours = hexavit.create_model(name, img_size=size, num_classes=10, overrides=["stages.*.attention.window=2"])
    assert_same(peer, ours, size, "timm")


def swin_of_transformers(version: int) -> Any:
    kind = "Swinv2" if version == 2 else "Swin"
    config = getattr(transformers, f"{kind}Config")(image_size=64, window_size=2, num_labels=10)
    torch.manual_seed(0)
    return stirred(getattr(transformers, f"{kind}ForImageClassification")(config))


def test_swin_is_that_of_transformers() -> None:
    ours = hexavit.create_model(
        "swin_tiny_patch4_window7_224", img_size=64, num_classes=10, overrides=["stages.*.attention.window=2"]
    )
    assert_same(swin_of_transformers(1), ours, (64, 64), "huggingface")


def test_swin_v2_is_that_of_transformers() -> None:
    ours = hexavit.create_model(
        "swinv2_tiny_window8_256", img_size=64, num_classes=10, overrides=["stages.*.attention.window=2"]
    )
    assert_same(swin_of_transformers(2), ours, (64, 64), "huggingface")


def swin_of_torchvision(version: int, window: int) -> Any:
    swin = torchvision.models.swin_transformer
    block, merging = (
        (swin.SwinTransformerBlockV2, swin.PatchMergingV2)
        if version == 2
        else (swin.SwinTransformerBlock, swin.PatchMerging)
    )
    torch.manual_seed(0)
    peer = swin.SwinTransformer(
        patch_size=[4, 4],
        embed_dim=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=[window, window],
        num_classes=10,
        block=block,
        downsample_layer=merging,
    )
    tables = {name: table.clone() for name, table in peer.named_buffers()}
    peer.load_state_dict(tables | dict(stirred(peer).named_parameters()))
    return peer


def vit_of_torchvision() -> Any:
    torch.manual_seed(0)
    return stirred(torchvision.models.VisionTransformer(64, 16, 12, 3, 192, 768, num_classes=10))


def test_vit_is_that_of_torchvision() -> None:
    ours = hexavit.create_model("vit_tiny_patch16_224", img_size=64, num_classes=10)
    assert_same(vit_of_torchvision(), ours, (64, 64), "torchvision")


def test_vits_published_files_of_torchvision_name_the_mlp_in_another_way() -> None:
    state = vit_of_torchvision().state_dict()
    old = {key.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): t for key, t in state.items()}
    models = [hexavit.create_model("vit_tiny_patch16_224", img_size=64, num_classes=10) for _ in range(2)]
    for model, given in zip(models, (state, old), strict=True):
        assert hexavit.load_checkpoint(model, given).origin == "torchvision"
    assert all(torch.equal(*pair) for pair in zip(*(m.state_dict().values() for m in models), strict=True))


@pytest.mark.parametrize(
    "name", ["swin_t", *(pytest.param(name, marks=pytest.mark.slow) for name in ("vit_b_32", "swin_v2_t"))]
)
def test_what_is_written_for_torchvision_is_loaded_by_it_as_a_whole(name: str, tmp_path: Path) -> None:
    peer = torchvision.models.get_model(name)
    before = {key: tensor.clone() for key, tensor in peer.state_dict().items()}
    for source, out, to in ((before, "own.pth", "hexavit"), (tmp_path / "own.pth", "again.pth", "torchvision")):
        hexavit.checkpoints.convert(source, tmp_path / out, to)
    peer.load_state_dict(torch.load(tmp_path / "again.pth"), strict=True)
    assert all(torch.equal(tensor, before[key]) for key, tensor in peer.state_dict().items())


@pytest.mark.parametrize("size", [(64, 64), (72, 104)])
def test_swin_is_that_of_torchvision(size: tuple[int, int]) -> None:
    """(72, 104): 18 x 26 tokens, then 9 x 13, 5 x 7, 3 x 4, which windows of 2 do not all divide."""
    ours = hexavit.create_model(
        "swin_tiny_patch4_window7_224", img_size=size, num_classes=10, overrides=["stages.*.attention.window=2"]
    )
    assert_same(swin_of_torchvision(1, 2), ours, size, "torchvision")


def test_swin_v2_is_that_of_torchvision() -> None:
    ours = hexavit.create_model(
        "swinv2_tiny_window8_256", img_size=64, num_classes=10, overrides=["stages.*.attention.window=2"]
    )
    assert_same(swin_of_torchvision(2, 2), ours, (64, 64), "torchvision")


def test_swin_v2_is_that_of_timm() -> None:
    """Windows were smaller in an earlier training run."""
    name = "swinv2_tiny_window8_256"
    torch.manual_seed(0)
    side = {"img_size": 64, "num_classes": 10}
    peer = stirred(timm.create_model(name, window_size=4, pretrained_window_sizes=(3, 3, 3, 2), **side))
    windows = [f"stages.{i}.position.pretrained_window={p}" for i, p in enumerate((3, 3, 3, 2))]
    ours = hexavit.create_model(name, overrides=["stages.*.attention.window=4", *windows], **side)
    assert_same(peer, ours, (64, 64), "timm")


@pytest.mark.parametrize("size", [(64, 64), pytest.param((96, 160), marks=pytest.mark.slow)])
def test_twins_svt_is_that_of_timm(size: tuple[int, int]) -> None:
    """Windows of 7 divide none of the maps, so both models pad."""
    torch.manual_seed(0)
    peer = stirred(timm.create_model("twins_svt_small", img_size=size, num_classes=10))
    ours = hexavit.create_model("twins_svt_small", img_size=size, num_classes=10)
    assert_same(peer, ours, size, hexavit.checkpoints.layout_detection.find_origin(peer.state_dict(), "peer").name)


@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
@pytest.mark.parametrize("legacy", [False, True])
def test_tnt_is_that_of_timm(legacy: bool, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    name = "tnt_s_legacy_patch16_224" if legacy else "tnt_s_patch16_224"
    peer = stirred(timm.create_model(name, img_size=size, num_classes=10, depth=3))
    ours = hexavit.create_model(name, img_size=size, num_classes=10, overrides=["stages.0.depth=3"])
    assert_same(peer, ours, size, "timm")


@pytest.mark.parametrize("size", [(64, 96), pytest.param((128, 128), marks=pytest.mark.slow)])
def test_botnet_is_that_of_timm(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    peer = stirred(timm.create_model("botnet26t_256", img_size=size, num_classes=10))
    assert_same(peer, hexavit.create_model("botnet26t_256", img_size=size, num_classes=10), size, "timm")


def test_botnet_with_scaled_positions_is_that_of_timm() -> None:
    """timm's option `scale_pos_embed`, which the authors' gist has."""
    torch.manual_seed(0)
    peer = stirred(timm.create_model("botnet26t_256", img_size=64, num_classes=10))
    for module in peer.modules():
        if isinstance(module, timm.layers.bottleneck_attn.BottleneckAttn):
            module.scale_pos_embed = True
    edits = ["stages.2.position.scaled=true", "stages.3.position.scaled=true"]
    ours = hexavit.create_model("botnet26t_256", img_size=64, num_classes=10, overrides=edits)
    assert_same(peer, ours, (64, 64), "timm")


@pytest.mark.parametrize(
    "name",
    [
        *("mvitv2_tiny", "mvitv2_small_cls"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("mvitv2_small", "mvitv2_base", "mvitv2_large")),
    ],
)
def test_mvit_v2_is_that_of_timm(name: str) -> None:
    """Fewer blocks in the third stage, which has the most: the first, which has a stride, one like it, and the last."""
    cfg = copy.deepcopy(timm.models.mvitv2.model_cfgs[name])
    first, second, _, last = cfg.depths
    cfg.depths = (min(first, 2), min(second, 2), 3, min(last, 2))
    torch.manual_seed(0)
    peer = stirred(timm.models.mvitv2.MultiScaleVit(cfg, img_size=(64, 64), num_classes=10))
    edits = [f"stages.{i}.depth={depth}" for i, depth in enumerate(cfg.depths)]
    ours = hexavit.create_model(name, img_size=64, num_classes=10, overrides=edits)
    assert_same(peer, ours, (64, 64), "timm")


def test_mvit_v2_of_another_size_has_the_tables_that_timm_resizes() -> None:
    torch.manual_seed(0)
    peers = [timm.create_model("mvitv2_tiny", img_size=side, num_classes=10) for side in (64, 128)]
    state = stirred(peers[0]).state_dict()
    larger = timm.models.mvitv2.checkpoint_filter_fn({key: t.clone() for key, t in state.items()}, peers[1])
    peers[1].load_state_dict(larger)
    ours = hexavit.create_model("mvitv2_tiny", img_size=64, num_classes=10).eval()
    hexavit.load_checkpoint(ours, state)
    x = images((128, 128))
    with torch.no_grad():
        expected, called = peers[1].eval()(x), ours(x)
        assert (expected - called).abs().max() <= LOGITS * expected.abs().max()
        ours.set_input_size((128, 128))
        assert (expected - ours(x)).abs().max() <= LOGITS * expected.abs().max()
    built = hexavit.create_model("mvitv2_tiny", img_size=128, num_classes=10).eval()
    with pytest.raises(hexavit.HexavitError, match=r"tables are of 31 offsets, the model's of 63: adapt='position'"):
        hexavit.load_checkpoint(built, state)
    hexavit.load_checkpoint(built, state, adapt="position")
    with torch.no_grad():
        assert (expected - built(x)).abs().max() <= LOGITS * expected.abs().max()
