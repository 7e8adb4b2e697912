"""Names, lists and creation."""

import pytest
import timm
import torch

import hexavit
from hexavit.errors import HexavitError
from hexavit.models import model_entry
from hexavit.models.cvt.variants import cvt_vit_pytorch


def test_names() -> None:
    assert hexavit.list_models("cvt_*") == [
        "cvt_nano",
        "cvt_fine_nano",
        "cvt_13",
        "cvt_13_vit_pytorch",
        "cvt_21",
        "cvt_w24",
    ]
    vits = hexavit.list_models(family="vit")
    assert {"vit_tiny_patch16_224", "vit_base_patch8_224", "vit_large_patch32_384", "vit_huge_patch14_224"} <= set(vits)
    assert set(vits) <= set(timm.list_models("vit_*"))
    assert hexavit.list_models(attention="conv_projection") == hexavit.list_models("cvt_*")
    assert hexavit.list_models("nothing*") == []


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: hexavit.create_model("cvt13"), "there is no model 'cvt13': did you mean 'cvt_13'?"),
        (lambda: hexavit.list_models(attn="global"), "there is no filter 'attn'"),
        (lambda: hexavit.list_models(attention="globl"), "there is no attention 'globl': did you mean 'global'?"),
        (lambda: hexavit.create_model("cvt_nano", img_size=0), "img_size is a side or"),
        (lambda: hexavit.create_model("cvt_nano", num_classes=-1), "num_classes at least 0"),
        (lambda: hexavit.create_model("cvt_nano", out_indices=1), "pass features_only=True"),
        (lambda: hexavit.create_model("cvt_nano", features_only=True, out_indices=(3,)), "there is no feature map 3"),
    ],
)
def test_errors(call, sentence: str) -> None:
    with pytest.raises(HexavitError) as raised:
        call()
    assert sentence in str(raised.value)


def test_vit_pytorch_keywords() -> None:
    small = cvt_vit_pytorch(
        s1_emb_dim=16, s2_emb_dim=32, s3_emb_dim=48, s3_heads=4, s3_depth=2, num_classes=5, dropout=0.1
    )
    assert [stage.dim for stage in small.stages] == [16, 32, 48]
    model = hexavit.create_model(small)
    assert model.stages[2].blocks[0].attention.proj_q.weight.shape == (256, 48)  # heads are 64 wide at any width
    assert model.eval()(torch.randn(1, 3, 32, 32)).shape == (1, 5)


def test_published_figures_have_sources() -> None:
    for name in hexavit.list_models():
        for figure in model_entry(name).published:
            assert figure.source
            assert figure.top1 is None or 0.5 < figure.top1 < 1


def test_nano_is_small_and_whole() -> None:
    model = hexavit.create_model("cvt_nano")
    assert sum(p.numel() for p in model.parameters()) <= 1_000_000
    shape = [(s.depth, [p.name for p in (s.tokens, s.column("attention", 0))]) for s in model.architecture.stages]
    assert [names for _, names in shape] == [["conv", "conv_projection"]] * 3
    assert shape[-1][0] >= 2


def test_grey_statistics_are_the_mean() -> None:
    cfg = hexavit.create_model("cvt_nano", in_chans=1).pretrained_cfg
    assert cfg["input_size"] == (1, 32, 32)
    assert cfg["mean"] == pytest.approx((0.449,), abs=1e-3)
