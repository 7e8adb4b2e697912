"""What fits together is built; what does not raises an error that names both parts."""

import re

import pytest
import torch

import hexavit
from hexavit import Architecture, HexavitError, Part, Stage
from hexavit.errors import ArchitectureError


def error_of(*edits: str, name: str = "cvt_nano") -> str:
    with pytest.raises(HexavitError) as error:
        hexavit.create_model(name, overrides=edits)
    sentence = str(error.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("edits", "named"),
    [
        (["head=class_token(enter=0)"], ("head=class_token(enter=0)", "stages.1.tokens=conv", "enter=2")),
        (["head.enter=5"], ("there is no stage 5 to enter",)),
        (["stages.2.tokens=keep"], ("stages.2.tokens=keep", "a width of 64", "cannot change it to 128")),
        (["stages.2.attention.heads=7"], ("conv_projection", "128 does not divide by 7 heads")),
        (["stages.1.attention.kernel=5"], ("kernel=5 with padding_q=1", "use padding_q=2")),
        (["stages.1.attention.kernel=2"], ("use an odd kernel",)),
        (["stages.1.attention.method=avg", "stages.1.attention.stride_q=2"], ("stride_q=2 needs 'dw_bn'",)),
        (["stages.1.attention.method=linear", "stages.1.attention.share_kv=true"], ("share_kv=True needs 'dw_bn'",)),
        (["stages.1.attention.method=avg", "stages.1.attention.padding_kv=4"], ("at most half its kernel",)),
        (["stages.2.attention.attn_drop=1.5"], ("stages.2.blocks.0.attention", "attn_drop is a probability", "1.5")),
        (["stages.0.feedforward.ratio=1e9"], ("stages.0.blocks.0.feedforward=mlp", "no memory for weights")),
        (["stages.0.feedforward.act=gelo"], ("there is no activation 'gelo': did you mean 'gelu'?",)),
        (["stages.0.feedforward.ratio=0.0"], ("leaves no hidden width",)),
        (["stages.0.tokens.kernel=900"], ("leaves no token of a grid of 32x32",)),
        (["stages.0.tokens.stride=0"], ("kernel and stride are at least 1",)),
        (["stages.0.position=learned(resize=nearest)"], ("takes 'bilinear' or 'bilinear_plain'",)),
        (["init=foo"], ("there is no init 'foo'",)),
    ],
)
def test_errors_name_both_parts(edits: list[str], named: tuple[str, ...]) -> None:
    sentence = error_of(*edits)
    for part in named:
        assert part in sentence


def test_a_class_token_passes_a_stage_that_keeps_its_tokens() -> None:
    tokens, attention = Part("conv", kernel=8, stride=8), Part("global", heads=2)
    stages = (Stage(16, 2, tokens, attention), Stage(16, 1, Part("keep"), attention))
    model = hexavit.create_model(Architecture("mine", stages, Part("class_token", enter=0), img_size=(16, 16)))
    assert model.forward_features(torch.randn(2, 3, 16, 16)).shape == (2, 5, 16)
    late = model.architecture.override(["head.enter=1"])
    assert [n for n, _ in hexavit.create_model(late).named_parameters() if "class_token" in n] == [
        "stages.1.class_token"
    ]


@pytest.mark.parametrize(
    ("ramp", "rates"), [("stage", [0.0, 0.0, 0.4]), ("model", [0.0, 0.2, 0.4]), ("constant", [0.4, 0.4, 0.4])]
)
def test_drop_path_ramps(ramp: str, rates: list[float]) -> None:
    edits = [f"stages.*.ramp={ramp}", "stages.*.drop_path=0.4", "stages.0.depth=1", "stages.1.depth=2"]
    base = hexavit.Architecture(
        "two", hexavit.models.model_entry("cvt_nano").architecture.stages[:2], Part("pool"), img_size=(16, 16)
    )
    model = hexavit.create_model(base, overrides=edits)
    found = [block.attention_residual.drop_path.rate for stage in model.stages for block in stage.blocks]
    assert found == pytest.approx(rates)


def test_cvt_drops_in_its_last_stage_only() -> None:
    model = hexavit.create_model("cvt_13", overrides=["stages.*.dim=12", "stages.*.attention.heads=1"])
    rates = [[b.feedforward_residual.drop_path.rate for b in stage.blocks] for stage in model.stages]
    assert rates[:2] == [[0.0], [0.0, 0.0]]
    assert rates[2] == pytest.approx([0.1 * k / 9 for k in range(10)])


def test_images_that_do_not_fit_raise() -> None:
    model = hexavit.create_model("cvt_nano").eval()
    assert model(torch.randn(1, 3, 5, 3)).shape == (1, 1000)
    with pytest.raises(ArchitectureError, match="a grid of 2 x 9 is too small for a 7 x 7 convolution"):
        model(torch.randn(1, 3, 2, 9))
    with pytest.raises(ArchitectureError, match=r"images are \(B, 3, H, W\), not \(2, 1, 32, 32\)"):
        model(torch.randn(2, 1, 32, 32))


@pytest.mark.usefixtures("restored_registries")
def test_unknown_context_parameter_raises() -> None:
    @hexavit.register_part("feedforward", "asking")
    class Asking(hexavit.PartModule):
        def __init__(self, dim: int, num_classes: int) -> None:
            super().__init__()

    sentence = error_of("stages.1.feedforward=asking")
    assert sentence == (
        "stages.1.blocks.0.feedforward=asking: a feedforward part is not given 'num_classes', which its constructor "
        "asks for"
    )


@pytest.mark.parametrize("name", ["cvt_nano", "pvt_v2_nano", "swin_nano"])
@pytest.mark.parametrize("stage", [0, -1])
def test_the_advice_for_a_part_without_extra_tokens_can_be_followed(name: str, stage: int) -> None:
    edit = f"stages.{stage}.attention=class_attention(heads=1)"
    position = f"stages.{stage}.position=none"
    with pytest.raises(ArchitectureError, match="brings none to stage") as found:
        hexavit.create_model(name, overrides=["head=pool", edit, position])
    head = re.search(r"head=(class_token\(enter=\d\))$", str(found.value))[1]
    advised = re.search(r"in stages from (\d) on", str(found.value))
    stage = int(advised[1]) if advised else stage
    edits = [f"head={head}", f"stages.{stage}.attention=class_attention(heads=1)", f"stages.{stage}.position=none"]
    hexavit.create_model(name, overrides=edits)
