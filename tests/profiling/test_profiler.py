"""A model's cost, counted on shapes alone: equal to the reference counts, to real runs, and to itself."""

import json

import pytest
import torch
from tests.slow import few_nanos
from torch import nn

import hexavit
from hexavit.parts import PartModule, Tokens, part_class, register_part
from hexavit.profiling import formulas, profile

# Parameters and multiply-adds (in units of 0.1 M) as counted on the authors' own models.
REFERENCE = [
    ("cvt_13", None, (), 19_997_480, 45_661),
    ("cvt_13", None, ("stages.*.attention.stride_kv=1",), 19_997_480, 66_431),
    ("cvt_13", None, ("stages.*.attention.method=avg",), 19_855_976, 46_612),
    ("cvt_13", None, ("stages.*.attention.method=linear",), 19_855_976, 66_092),
    ("cvt_13", None, ("head=pool",), 19_997_096, 45_465),
    ("cvt_21", None, (), 31_622_696, 71_780),
    ("cvt_w24", 384, (), 277_196_392, 1_942_217),
    ("vit_tiny_patch16_224", None, (), 5_717_416, 12_537),
    ("vit_tiny_patch16_224", None, ("stages.0.feedforward.act=gelu_tanh",), 5_717_416, 12_537),
    ("vit_small_patch16_224", None, (), 22_050_664, 45_989),
    ("vit_small_patch16_224", None, ("head=pool",), 22_049_896, 45_740),
]


@pytest.mark.parametrize(("name", "img_size", "edits", "parameters", "macs"), REFERENCE)
def test_counts_are_the_reference_counts(
    name: str, img_size: int | None, edits: tuple[str, ...], parameters: int, macs: int
) -> None:
    architecture = hexavit.models.resolve(name, overrides=edits)
    counted = profile(architecture, img_size=img_size)
    assert counted.parameters == parameters
    assert round(counted.macs / 1e5) == macs


def test_stages_and_kinds_add_up() -> None:
    counted = profile("cvt_nano")
    for parts in (counted.by_stage(), counted.by_kind()):
        assert sum(cost.parameters for cost in parts.values()) == counted.parameters
        assert sum(cost.macs for cost in parts.values()) == counted.macs
        assert sum(cost.activation_bytes for cost in parts.values()) == counted.activation_bytes
    assert list(counted.by_stage()) == ["0", "1", "2", "head"]
    assert list(counted.by_kind()) == ["tokens", "attention", "feedforward", "residual", "head", "class token"]
    assert counted.by_kind()["class token"].parameters == 128


def test_each_place_is_its_parts_formula() -> None:
    """The formulas of the parts, summed over the blocks, give the counted multiply-adds."""
    model = hexavit.create_model("cvt_nano")
    counted = profile(model)
    size = model.architecture.img_size
    for i, stage in enumerate(model.stages):
        assert counted.places[str(i), "tokens"].macs == stage.tokens.macs(size)
        size = stage.tokens.out_size(size)
        extra = 1 if i == 2 else 0
        for kind in ("attention", "feedforward"):
            expected = sum(getattr(block, kind).macs(size, extra) for block in stage.blocks)
            assert counted.places[str(i), kind].macs == expected


@pytest.mark.parametrize("name", ["cvt_nano", "vit_tiny_patch16_224"])
def test_count_does_not_depend_on_mode_dtype_or_recording(name: str) -> None:
    model = hexavit.create_model(name, img_size=64, overrides=["stages.*.depth=1"])
    plain = profile(model)
    model.set_grad_checkpointing()
    model.half().train()
    model.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with hexavit.parts.softmax_path(model):
        assert profile(model).places == plain.places
    with hexavit.record_attention(model) as maps:
        assert profile(model).places == plain.places
    assert not any(maps.values())
    assert model.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_the_unfused_count_is_the_same_multiply_adds() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = hexavit.create_model("cvt_nano").eval()
    with hexavit.parts.softmax_path(model), FlopCounterMode(display=False) as counter:
        model(torch.randn(1, 3, 32, 32))
    assert counter.get_total_flops() == 2 * profile(model).macs


@pytest.mark.parametrize(
    ("name", "edits"),
    [
        ("cvt_nano", ()),
        ("cvt_nano", ("head=pool", "stages.*.attention.method=linear")),
        ("cvt_nano", ("stages.*.feedforward.act=gelu", "stages.0.residual=post_norm")),
        ("vit_tiny_patch16_224", ("stages.0.depth=2",)),
    ],
)
def test_activation_bytes_are_what_autograd_keeps(name: str, edits: tuple[str, ...]) -> None:
    """The definition, word by word, on a real pass."""
    model = hexavit.create_model(name, img_size=64, overrides=edits).eval()
    image = torch.randn(1, 3, 64, 64)
    excluded = {t.untyped_storage().data_ptr() for t in (image, *model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in excluded:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(image)
    assert profile(model).activation_bytes == sum(storage.nbytes() for storage in kept.values())
    logits.sum().backward()


def test_feature_backbones_have_no_head_cost() -> None:
    whole = profile("cvt_nano")
    features = profile(hexavit.create_model("cvt_nano", features_only=True, out_indices=(0, 1)))
    assert features.by_stage().keys() == {"0", "1", "head"}
    assert features.by_stage()["head"].macs == features.by_stage()["head"].parameters == 0
    assert features.by_stage()["1"].macs == whole.by_stage()["1"].macs


def test_a_model_is_called_at_another_size_and_a_name_is_built_there() -> None:
    edits = ["stages.0.depth=1"]
    model = hexavit.create_model("vit_tiny_patch16_224", overrides=edits)
    called, built = profile(model, img_size=(64, 96)), profile(model.architecture, img_size=(64, 96))
    assert called.img_size == built.img_size == (64, 96)
    assert called.macs == built.macs
    assert called.parameters - built.parameters == (14 * 14 - 4 * 6) * 192


def test_constants_are_counted_apart() -> None:
    architecture = hexavit.models.resolve("vit_tiny_patch16_224", img_size=32, overrides=["stages.0.depth=1"])
    learned, fixed = profile(architecture), profile(architecture.override(["stages.0.position=sine_cosine"]))
    table = 5 * 192
    assert learned.total.constants == 0
    assert fixed.total.constants == table
    assert fixed.total.learned == learned.total.learned - table
    assert fixed.parameters == learned.parameters
    assert "of which constants" in fixed.table()


@pytest.mark.usefixtures("restored_registries")
def test_a_part_of_ones_own_is_counted() -> None:
    @register_part("attention", "mean")
    class Mean(nn.Module):
        """Every token gets a linear of their mean."""

        def __init__(self, dim: int) -> None:
            super().__init__()
            self.weights = torch.linspace(0, 1, 4).tolist()  # reads values, so it cannot be built without memory
            self.linear = nn.Linear(dim, dim, bias=False)

        def forward(self, tokens: Tokens) -> Tokens:
            return tokens.with_image(self.linear(tokens.image.mean(1, keepdim=True)).expand_as(tokens.image))

    architecture = hexavit.models.resolve("cvt_nano", overrides=["head=pool", "stages.1.attention=mean"])
    cost = profile(architecture).places["1", "attention"]
    assert (cost.learned, cost.macs) == (64 * 64, 64 * 64)
    # Of an input with N tokens only the mean is kept, which the linear reads.
    assert cost.activation_bytes == 64 * 4


@pytest.mark.usefixtures("restored_registries")
def test_work_that_depends_on_values_raises() -> None:
    @register_part("feedforward", "fickle")
    class Fickle(PartModule):
        """Does nothing to cold images."""

        def forward(self, tokens: Tokens) -> Tokens:
            return tokens.each(torch.relu) if tokens.image.mean() > 0 else tokens

    architecture = hexavit.models.resolve("cvt_nano", overrides=["stages.0.feedforward=fickle"])
    with pytest.raises(hexavit.HexavitError, match="cvt_nano cannot be counted on shapes alone: a part's work depends"):
        profile(architecture)


def test_errors_are_one_sentence() -> None:
    with pytest.raises(hexavit.HexavitError, match="there is no model 'cvt_31': did you mean 'cvt_21'"):
        profile("cvt_31")
    with pytest.raises(hexavit.HexavitError, match="profile takes a model's name, an Architecture or a model"):
        profile(nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(hexavit.HexavitError, match="a grid of 2 x 2 is too small for a 7 x 7 convolution"):
        profile(hexavit.create_model("cvt_nano"), img_size=2)
    with pytest.raises(hexavit.HexavitError, match="too small"):
        profile("cvt_nano", img_size=2)


def test_json_and_table() -> None:
    counted = profile("cvt_nano")
    expected = json.loads(json.dumps(counted.as_dict()))
    assert expected["macs"] == counted.macs
    assert expected["stages"]["2"]["macs"] == counted.by_stage()["2"].macs
    assert expected["kinds"]["feedforward"]["parameters"] == counted.by_kind()["feedforward"].parameters
    lines = counted.table().splitlines()
    assert lines[0] == "cvt_nano at 32 x 32, one image"
    assert len({len(line) for line in lines[2:] if line}) == 1
    assert f"{counted.macs:,}" in counted.table()


def test_sine_tables_are_named_as_constants() -> None:
    assert part_class("position", "sine_cosine").constants == ("table",)


@pytest.mark.parametrize("name", few_nanos())
def test_formulas_give_what_is_counted(name: str) -> None:
    model = hexavit.create_model(name)
    counted = profile(model)
    found = formulas(model, counted)
    assert all(each.evaluated == each.counted for each in found)
    assert sum(each.evaluated for each in found) == counted.macs
    assert all(each.formula for each in found)
