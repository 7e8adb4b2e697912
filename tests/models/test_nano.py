"""The `*_nano` models have every mechanism of their family, and each mechanism changes the output."""

from pathlib import Path

import pytest
import torch
from tests.using import benchmark, silent

import hexavit
from hexavit.models import model_entry
from hexavit.training import TrainConfig, train

# What is new in a system, switched off by edits.
MECHANISMS: dict[str, dict[str, list[str]]] = {
    "cvt_nano": {"convolutional projection": ["stages.*.attention.method=linear"]},
    "cvt_fine_nano": {
        "convolutional projection": ["stages.*.attention.method=linear"],
        "early convolutions": ["stages.0.tokens=conv(kernel=7, stride=2, padding=3)"],
        "finer grids": ["stages.0.tokens.last_stride=2"],
        "convolutional feedforward": ["stages.*.feedforward=mlp(act=quick_gelu)"],
    },
    "deit_nano": {"distillation token": ["head=class_token"]},
    "cait_nano": {
        "talking heads": ["stages.0.attention=global"],
        "layer scale": ["stages.0.residual=pre_norm"],
    },
    "deepvit_nano": {
        "re-attention": ["stages.0.attention=global(heads=3)"],
        "block scale": ["stages.0.residual.block_scale=1.0"],
        "stem": ["stages.0.tokens=conv(kernel=8, stride=8, norm=false)"],
    },
    "lvvit_nano": {"token labels": ["head=class_token"], "damped branches": ["stages.0.residual.skip_lam=1.0"]},
    "t2t_vit_nano": {
        "tokens-to-token": ["stages.0.tokens=conv(kernel=16, stride=16, norm=false)"],
        "performer": ["stages.0.tokens.kind=transformer"],
    },
    "vit_c_nano": {"early convolutions": ["stages.0.tokens=conv(kernel=8, stride=8, norm=false)"]},
    "cpvt_nano": {"position generator": ["stages.0.position=none"]},
    "ceit_nano": {
        "image-to-tokens": ["stages.0.tokens=conv(kernel=8, stride=8, norm=false)"],
        "feedforward": ["stages.0.feedforward=mlp"],
        "layer-wise class attention": ["head=class_token"],
    },
    "localvit_nano": {
        "locality": ["stages.0.feedforward=mlp"],
        "excitation": ["stages.0.feedforward.excite=none"],
    },
    "pvt_nano": {
        "spatial reduction": ["stages.0.attention.sr_ratio=1"],
        "position tables": ["stages.*.position=none"],
    },
    "pvt_v2_nano": {
        "overlap": ["stages.1.tokens=conv(kernel=2, stride=2)"],
        "depth-wise convolution": ["stages.*.feedforward=mlp"],
        "norms behind stages": ["stages.*.residual.stage_norm=false"],
    },
    "twins_pcpvt_nano": {
        "position generator": ["stages.*.position=none"],
        "sub-sampling": ["stages.0.attention.sr_ratio=1"],
    },
    "p2t_nano": {
        "pyramid pooling": ["stages.*.attention.method=conv"],
        "inverted residual": ["stages.*.feedforward=mlp"],
    },
    "rest_nano": {
        "pixel attention": ["stages.*.position=none"],
        "head mixing": ["stages.*.attention.mix_heads=false"],
        "depth-wise reduction": ["stages.0.attention.method=conv"],
        "stem": ["stages.0.tokens=conv(kernel=4, stride=4)"],
    },
    "mvit_nano": {
        "pooled queries": ["stages.1.blocks.0.attention.kernel=1"],
        "pooled keys and values": ["stages.0.attention.stride_kv=1"],
        "padded pooling of the skip": ["stages.*.residual.pool_kernel=0"],
        "position table": ["stages.0.position=none"],
    },
    "mvit_v2_nano": {
        "pooled keys and values": ["stages.0.attention.stride_kv=1"],
        "pooled queries in every block": ["stages.0.attention.pool_q=false"],
        "residual queries": ["stages.*.attention.residual_q=false"],
        "relative positions": ["stages.*.position=none"],
        "padded pooling of the skip": ["stages.*.residual.pool_kernel=0"],
    },
    "swin_nano": {
        "windows": ["stages.*.attention=global"],
        "shift": ["stages.*.blocks.1.attention.shifted=false"],
        "position bias": ["stages.*.position=none"],
        "merging": ["stages.1.tokens=conv(kernel=2, stride=2)", "stages.2.tokens=conv(kernel=2, stride=2)"],
    },
    "cswin_nano": {
        "stripes": ["stages.*.attention=global"],
        "width of the stripes": ["stages.2.attention.split=2"],
        "position on the values": ["stages.*.position=none"],
        "overlap": ["stages.0.tokens=conv(kernel=4, stride=4)", "stages.1.tokens=conv(kernel=2, stride=2)"],
    },
    "shuffle_nano": {
        "spread windows": ["stages.*.blocks.1.attention.spread=false"],
        "neighbour-window connection": ["stages.*.block=(attention, feedforward)"],
        "position bias": ["stages.*.position=none"],
        "ReLU6": ["stages.*.feedforward.act=gelu"],
    },
    "msg_nano": {
        "windows with messengers": ["stages.*.attention=window"],
        "exchange": ["stages.*.residual=pre_norm"],
        "region": ["stages.0.residual.region=1"],
        "classified messenger": ["head=pool"],
        "position bias": ["stages.*.position=none"],
    },
    "gg_nano": {
        "glance": ["stages.*.attention.spread=false"],
        "gaze": ["stages.*.block=(attention, feedforward)"],
        "gaze over the map": ["stages.*.block.attention.position.reach=scope"],
        "position bias": ["stages.*.position=none"],
    },
    "swin_v2_nano": {
        "cosine attention": ["stages.*.attention.cosine=false"],
        "continuous bias": ["stages.*.position=none"],
        "log spacing": ["stages.*.position.spacing=linear"],
        "pre-trained window": ["stages.*.position.pretrained_window=0"],
        "shift": ["stages.*.blocks.1.attention.shifted=false"],
        "norm behind the branch": ["stages.*.residual=pre_norm"],
        "extra norm": ["stages.2.residual=res_post_norm"],
    },
    "tokenlearner_nano": {
        "learned tokens": [f"stages.{i}.tokens=keep" for i in (1, 2, 3, 4)],
        "fuser": ["stages.2.tokens=keep", "stages.4.tokens=keep"],
        "weights without convolutions": ["stages.1.tokens=token_learner_v1", "stages.3.tokens=token_learner_v1"],
    },
    "tnt_nano": {
        "words in every block": ["stages.0.block=(attention, feedforward)"],
        "excitation": ["stages.0.feedforward=mlp"],
        "patches convolved apart": ["stages.0.tokens.whole=true"],
        "one norm for all words of a patch": ["stages.0.block.words.part.each=true"],
    },
    "ps_vit_nano": {
        "stem": ["stages.0.tokens=conv(kernel=4, stride=4)"],
        "moving points": [f"stages.{i}.tokens.gamma=0.0" for i in (2, 3, 4)],
        "later rounds": [f"stages.{i}.tokens=keep" for i in (2, 3, 4)],
    },
    "vitae_nano": {
        "dilations": ["stages.*.tokens.dilations=[1, 1]"],
        "performer": ["stages.1.tokens.attend=false", "stages.1.tokens.embed_dim=24"],
        "reduction cells": ["stages.1.tokens=conv(kernel=2, stride=2)", "stages.2.tokens=conv(kernel=2, stride=2)"],
        "parallel convolutions": ["stages.2.block=(attention, feedforward)"],
        "third convolution": ["stages.2.block.conv.part.layers=2"],
    },
    "dwnet_nano": {
        "filters of an image": ["stages.1.attention.filters=static"],
        "filters of a place": ["stages.2.attention=depthwise(kernel=3)"],
        "depth-wise convolution": ["stages.0.attention=window(heads=2)"],
        "batch norm before the feedforward": ["stages.*.residual=pre_norm"],
    },
    "elsa_swin_nano": {
        "product of query and key": [f"stages.{i}.attention.terms=qk+r" for i in range(3)],
        "ghost head": [f"stages.{i}.attention.gamma=0.0" for i in range(3)],
        "neighbours": [f"stages.{i}.attention=window" for i in range(3)],
        "windows at the end": ["stages.3.attention=local(kernel=3)", "stages.3.position=none"],
        "bias in windows": ["stages.3.position=none"],
    },
    "botnet_nano": {
        "attention in bottlenecks": ["stages.*.attention=conv_bottleneck(ratio=0.5)", "stages.*.position=none"],
        "positions by queries": ["stages.*.position=none"],
        "positions by scaled queries": ["stages.2.position.scaled=false"],
        "activation after the sum": ["stages.1.blocks.1.residual=pre_norm(norm=none)"],
    },
    "hrt_nano": {
        "exchange between resolutions": [
            f"stages.{i}.block=(attention, feedforward, window(heads=1, window=3))" for i in (1, 2, 3)
        ],
        "windows": [f"stages.{i}.attention=global" for i in (1, 2, 3)],
        "padding around the centre": [f"stages.{i}.attention.padding=end" for i in (1, 2, 3)],
        "position bias": ["stages.*.position=none"],
        "convolutions in the feedforward": ["stages.*.feedforward=mlp"],
        "activation behind the feedforward": ["stages.*.feedforward.last_act=none"],
        "all resolutions for the classifier": ["stages.4.tokens=conv(kernel=4, stride=4, norm=batch)"],
    },
    "twins_svt_nano": {
        "windows": ["stages.*.blocks.0.attention=global"],
        "reduction": ["stages.*.blocks.1.attention=global"],
        "position generator": ["stages.*.position=none"],
    },
}


def test_every_family_has_one() -> None:
    families = {model_entry(name).family for name in hexavit.list_models()} - {"vit"}  # which has nothing to switch off
    assert {model_entry(name).family for name in MECHANISMS} == families
    assert set(hexavit.list_models("*_nano")) == set(MECHANISMS)


@pytest.mark.parametrize("name", MECHANISMS)
def test_small_and_whole(name: str) -> None:
    model = hexavit.create_model(name)
    assert sum(p.numel() for p in model.parameters()) <= 1_000_000
    assert max(stage.depth for stage in model.architecture.stages) >= 2
    assert max(model.architecture.img_size) <= 64


@pytest.mark.parametrize(
    ("name", "mechanism"), [(name, mechanism) for name, found in MECHANISMS.items() for mechanism in found]
)
def test_what_is_new_changes_the_output(name: str, mechanism: str) -> None:
    """All weights that both models have are equal."""
    torch.manual_seed(0)
    model = hexavit.create_model(name).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Enough that what starts near 0 (position biases, Swin V2's norms) can be seen.
            parameter.add_(0.1 * torch.randn_like(parameter))
    without = hexavit.create_model(name, overrides=MECHANISMS[name][mechanism]).eval()
    held = without.state_dict()
    shared = {k: v for k, v in model.state_dict().items() if k in held and held[k].shape == v.shape}
    without.load_state_dict({**held, **shared})
    assert without.architecture.diff(model.architecture)
    x = torch.randn(2, 3, *model.architecture.img_size)
    with torch.no_grad():
        assert (model(x) - without(x)).abs().max() > 1e-3 * model(x).abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("name", hexavit.list_models("*_nano"))
def test_it_learns_the_digits_from_scratch(name: str, tmp_path: Path) -> None:
    """Uses the settings of the results table. Every registered nano model is tested."""
    config = TrainConfig.from_mapping(benchmark("digits").settings(name))
    assert train(config, tmp_path / "run", console=silent()).metrics["accuracy"] >= 0.95
