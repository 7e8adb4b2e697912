"""Parts without a model of their own, in a ViT and in a pyramid: sizes, mixed precision, recomputation, export."""

import pytest
import torch
from torch import Tensor

import hexavit
from hexavit import Backbone

pytestmark = pytest.mark.usefixtures("one_thread")

PARTS = (
    "non_local",
    "local_relation(kernel=3)",
    "evolving",
    "evolving_conv(half=true)",
    "sparse",
    "sparse(patterns=(block, summary), merge=false, stride=3, summary=2)",
    "longformer(dilations=(1, 2), global_tokens=(3,))",
    "longformer(two_d=true, window=4)",
)
MODELS = ("deit_nano", "pvt_v2_nano")


def built(name: str, part: str, img_size: tuple[int, int] = (32, 32)) -> Backbone:
    torch.manual_seed(0)
    edits = [f"stages.*.attention={part}", "head=pool" if name == "pvt_v2_nano" else "head=class_token"]
    if "merge=false" in part or "dilations" in part:
        edits.append("stages.*.attention.heads=4")
    if "global_tokens" in part and name == "pvt_v2_nano":
        edits += ["stages.2.attention.global_tokens=[0]", "stages.3.attention.global_tokens=[0]"]
    return hexavit.create_model(name, img_size=img_size, num_classes=3, drop_path_rate=0.0, overrides=edits)


def images(*size: int) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", MODELS)
def test_another_size_recomputation_and_half_precision(name: str, part: str) -> None:
    model, x = built(name, part).eval(), images(48, 32)
    resized = built(name, part)
    resized.set_input_size((48, 32))
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(resized.eval()(x), expected)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model(x)
    torch.testing.assert_close(rounded.float(), expected, rtol=0.1, atol=0.05)
    model.train()(x).square().sum().backward()
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model.set_grad_checkpointing()
    model(x).square().sum().backward()
    for parameter, before in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, before, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_a_graph_of_dynamic_sizes_is_right_or_an_error(part: str) -> None:
    model, auto = built("deit_nano", part, (64, 64)).eval(), torch.export.Dim.AUTO
    with torch.no_grad():
        graph = torch.export.export(model, (images(64, 64),), dynamic_shapes=({0: auto, 2: auto, 3: auto},)).module()
        torch.testing.assert_close(graph(images(64, 64)[:1]), model(images(64, 64)[:1]))
        for size in ((64, 96), (96, 64), (80, 56)):
            try:
                out = graph(images(*size))
            except AssertionError:  # a guard of the graph
                assert model.stages[0].blocks[0].attention.traced
                continue
            torch.testing.assert_close(out, model(images(*size)))
