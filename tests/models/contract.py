"""The contract of every model, as one inherited test class. Every registered model is tested.

Each stands here as a tiny one: as published in all its choices, but few blocks, narrow, for small images. Names whose
tiny models are equal share one.
"""

import ast
import copy
import functools
import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from tests.slow import FEW, mostly_slow
from timm.optim import param_groups_layer_decay

import hexavit
from hexavit import Architecture, Backbone, HexavitError, Part, Pattern, Stage
from hexavit.architecture import COLUMNS
from hexavit.models import model_entry, resolve
from hexavit.network.composition import check_fits
from hexavit.parts import record_attention, softmax_path
from hexavit.parts.attention import Attention

SIDE = 64
DOCS = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True)
class Case:
    """A small architecture and the names of the models that it represents."""

    tiny: Architecture
    names: tuple[str, ...]

    def __str__(self) -> str:
        return self.names[0]

    @property
    def is_nano(self) -> bool:
        return any(name.endswith("_nano") for name in self.names)


# Options that are sizes, with their values in tiny models.
SIZES: dict[str, Any] = {
    "heads": 2,
    "ratio": 2.0,
    "reduction": 4,
    "token_dim": 16,
    "layer_scale": 0.1,
    "window": 2,
    "split": 2,
    "groups": 4,
    "embed_dim": 8,
    "inner": 8,
    "points": 4,
}


def tiny(architecture: Architecture, last: int = 2) -> Architecture:
    """One block a stage, or a pattern's cycle of them, and `last` in the last; two heads, widths 16, 32, ..., drop
    path 0.1, five classes."""
    stages: list[Stage] = []
    for i, stage in enumerate(architecture.stages):
        cycle = len(stage.attention.cycle) if isinstance(stage.attention, Pattern) else 1
        depth = min(stage.depth, last if i == len(architecture.stages) - 1 else cycle)
        columns = {kind: few(getattr(stage, kind), depth) for kind in COLUMNS}
        block = tuple(replace(each, part=each.part and few(each.part, depth)) for each in stage.block)
        # Tokens that are kept grow inside the blocks, if they do, by the factor of the whole model.
        before = architecture.stages[i - 1].dim if i else 0
        kept = stage.dim == before or stage.column("tokens").name == "keep"
        dim = stages[-1].dim * stage.dim // before if kept else 16 * (i + 1)
        stages.append(replace(stage, depth=depth, dim=dim, drop_path=0.1, block=block, **columns))
    size = (SIDE, SIDE)
    return replace(
        architecture, stages=tuple(stages), head=small(architecture.head), img_size=size, num_classes=5
    ).check()


def few(column: Part | Pattern, depth: int) -> Part | Pattern:
    """A column for fewer blocks. It keeps the exceptions nearest to the ends and one block without an exception."""
    if isinstance(column, Part):
        return small(column)
    at = sorted((index for index in column.at if -depth <= index < depth), key=lambda i: abs(i + 0.5))
    return Pattern([small(p) for p in column.cycle], {i: small(column.at[i]) for i in at[: max(depth - 1, 1)]})


def small(part: Part) -> Part:
    """The same part with smaller sizes."""
    given = {key: value for key, value in SIZES.items() if part.options.get(key) is not None}
    if "channels" in part.options:
        given["channels"] = tuple(8 for _ in part.options["channels"])  # type: ignore[union-attr]  # a list
    return Part(part.name, **{**part.options, **given})


def every_model() -> Iterator[Case]:
    """A small version of each registered model, without duplicates."""
    found: dict[Architecture, list[str]] = {}
    for name in hexavit.list_models():
        found.setdefault(replace(tiny(resolve(name)), name="tiny"), []).append(name)
    for architecture, names in found.items():
        yield Case(architecture, tuple(names))


@pytest.mark.usefixtures("one_thread")
class ModelContract:
    """One property per test, for each of `cases`."""

    cases: tuple[Case, ...] = ()
    nanos_alone = ("test_captured_as_one_graph", "test_exported_with_any_batch_and_size")
    """Tests of the nano models alone, of which a few are quick."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "case" in metafunc.fixturenames:
            cases, nanos = self.cases, tuple(case for case in self.cases if case.is_nano)
            quick = nanos + covering(cases)
            if metafunc.function.__name__ in self.nanos_alone:
                cases, quick = nanos, tuple(case for case in nanos if set(case.names) & set(FEW))
            metafunc.parametrize("case", mostly_slow(cases, quick.__contains__))

    @pytest.fixture
    def model(self, case: Case) -> Backbone:
        return build(case.tiny)

    @pytest.fixture
    def images(self) -> torch.Tensor:
        return random_images(2, 3, SIDE, SIDE)

    # The forward

    def test_features_then_head_is_the_forward(self, model: Backbone, images: torch.Tensor, case: Case) -> None:
        logits, features = model(images), model.forward_features(images)
        assert logits.shape == (2, 5)
        assert logits.isfinite().all()
        assert features.shape[::2] == (2, model.num_features)
        assert torch.equal(model.forward_head(features), logits)
        vector = model.forward_head(features, pre_logits=True)
        assert vector.shape == (2, model.get_classifier().in_features)
        if len(model.head.classifiers) == 1:
            torch.testing.assert_close(model.get_classifier()(vector), logits)

    def test_one_output_for_each_classifier_in_training(
        self, model: Backbone, images: torch.Tensor, case: Case
    ) -> None:
        outputs = all_outputs(model.train()(images))
        assert len(outputs) == len(model.head.classifiers)
        assert all((output.shape[0], output.shape[-1]) == (2, 5) for output in outputs)

    def test_a_gradient_reaches_every_parameter(self, model: Backbone, images: torch.Tensor, case: Case) -> None:
        total(model.train()(images)).backward()
        assert not [name for name, p in model.named_parameters() if p.grad is None and p.requires_grad]

    def test_a_batch_of_one_keeps_its_axis(self, model: Backbone, images: torch.Tensor, case: Case) -> None:
        torch.testing.assert_close(model(images[:1]), model(images)[:1])

    @pytest.mark.parametrize("size", [(64, 96), (96, 64), (67, 75), (SIDE + 31, SIDE)])
    def test_other_sizes(self, model: Backbone, size: tuple[int, int], case: Case) -> None:
        assert model(random_images(2, 3, *size)).isfinite().all()

    @pytest.mark.parametrize("chans", [1, 4])
    def test_other_channels(self, case: Case, chans: int) -> None:
        model = build(case.tiny.with_(in_chans=chans))
        assert model(random_images(2, chans, SIDE, SIDE)).shape == (2, 5)
        with pytest.raises(HexavitError, match=rf"images are \(B, {chans}, H, W\), not \(2, 3, 64, 64\)"):
            model(random_images(2, 3, SIDE, SIDE))

    def test_the_softmax_path_is_the_fused_path(self, model: Backbone, images: torch.Tensor, case: Case) -> None:
        fused = model(images)
        with softmax_path(model):
            torch.testing.assert_close(model(images), fused)
        with record_attention(model) as maps:
            torch.testing.assert_close(model(images), fused)
        # Some tokens, heads and other branches attend as well.
        blocks = [name for name in maps if re.fullmatch(r"stages\.\d+\.blocks\.\d+\.attention", name)]
        parts = [getattr(block, "attention", None) for stage in model.stages for block in stage.blocks]
        assert len(blocks) == sum(isinstance(part, Attention) for part in parts) > 0  # the others are convolutions
        assert all(len(calls) == 1 for calls in maps.values())

    # Feature maps

    def test_intermediates(self, model: Backbone, images: torch.Tensor, case: Case) -> None:
        if format_of(model) == "NLC":
            assert_only_rasters_are_maps(model, images)
            return
        features, maps = model.forward_intermediates(images)
        torch.testing.assert_close(features, model.forward_features(images))
        expected = model.feature_info
        assert [tuple(m.shape) for m in maps] == [
            (2, entry["num_chs"], SIDE // entry["reduction"], SIDE // entry["reduction"]) for entry in expected
        ]
        last = model.forward_intermediates(images, 1, intermediates_only=True, stop_early=True)
        assert torch.equal(last[0], maps[-1])
        first = model.forward_intermediates(images, [0], intermediates_only=True, stop_early=True, output_fmt="NLC")
        assert torch.equal(first[0], maps[0].flatten(2).transpose(1, 2))

    def test_intermediates_with_the_final_norm_and_extra_tokens(
        self, model: Backbone, images: torch.Tensor, case: Case
    ) -> None:
        fmt = format_of(model)
        features, [(normed, extra)] = model.forward_intermediates(
            images, 1, norm=True, return_prefix_tokens=True, output_fmt=fmt
        )
        count = model.num_extra_tokens
        tokens = normed if fmt == "NLC" else normed.flatten(2).transpose(1, 2)
        if not any(stage.lower_dims for stage in model.stages):  # else a later stage joins all maps
            torch.testing.assert_close(tokens, features[:, count:])
        stage = int(model.feature_info[-1]["module"].split(".")[1])
        if not count or stage < len(model.stages) - 1:
            assert extra is None  # they enter behind the last map
        elif not model.head.takes:  # else the head makes other extra tokens
            torch.testing.assert_close(extra, features[:, :count])

    def test_features_only(self, case: Case, model: Backbone, images: torch.Tensor) -> None:
        backbone = hexavit.create_model(case.tiny, features_only=True)
        backbone.model.load_state_dict(model.state_dict(), strict=False)
        backbone.eval()
        maps = backbone(images)
        rasters = [i for i, entry in enumerate(model.feature_info) if entry["reduction"] is not None]
        all_maps = model.forward_intermediates(images, rasters, intermediates_only=True)
        for found, expected in zip(maps, all_maps, strict=True):
            torch.testing.assert_close(found, expected)
        assert backbone.feature_info.channels() == [m.shape[1] for m in maps]
        assert backbone.feature_info.reduction() == [SIDE // m.shape[2] for m in maps]
        assert not [name for name, _ in backbone.named_parameters() if "head" in name]
        sum(m.square().sum() for m in maps).backward()
        assert not [name for name, p in backbone.named_parameters() if p.grad is None and p.requires_grad]

    def test_features_up_to_one_map(self, case: Case, images: torch.Tensor) -> None:
        whole, first = (
            hexavit.create_model(case.tiny, features_only=True, out_indices=indices) for indices in (None, (0,))
        )
        if len(whole.feature_info.out_indices) > 1:
            assert sum(p.numel() for p in first.parameters()) < sum(p.numel() for p in whole.parameters())
        (found,) = first(images)
        found.square().sum().backward()
        assert not [name for name, p in first.named_parameters() if p.grad is None and p.requires_grad]

    # Changes

    def test_reset_classifier(self, model: Backbone, images: torch.Tensor, case: Case) -> None:
        pooled = model.forward_head(model.forward_features(images), pre_logits=True)
        model.reset_classifier(7)
        assert model(images).shape == (2, 7)
        assert model.num_classes == model.architecture.num_classes == 7
        model.reset_classifier(0)
        torch.testing.assert_close(model(images), pooled)

    def test_reset_pooling(self, model: Backbone, images: torch.Tensor, case: Case) -> None:
        if raised := pooling_error(case.tiny):
            before = model(images)
            with pytest.raises(HexavitError) as found:
                model.reset_classifier(4, global_pool="avg")
            assert str(found.value) == raised
            assert torch.equal(model(images), before)
            return
        if case.tiny.head.name == "class_token":
            features = model.forward_features(images)
            model.reset_classifier(4, global_pool="token")
            assert torch.equal(model.forward_features(images), features)
            assert model(images).shape == (2, 4)
            before = model.state_dict()
            model.reset_classifier(4, global_pool="avg")
            after = model.state_dict()
            assert not [key for key in after if "class_token" in key]
            shared = [
                key for key in after if key in before and "fc" not in key and after[key].shape == before[key].shape
            ]
            assert all(torch.equal(after[key], before[key]) for key in shared)
        with pytest.raises(HexavitError, match="not built with a class token"):
            model.reset_classifier(4, global_pool="token")
        model.reset_classifier(4, global_pool="avg")
        assert model(images).shape == (2, 4)
        rebuilt = Backbone(model.architecture)
        rebuilt.load_state_dict(model.state_dict())

    def test_set_input_size(self, model: Backbone, case: Case) -> None:
        images = random_images(2, 3, 96, 128)
        called = model(images)
        model.set_input_size((96, 128))
        torch.testing.assert_close(model(images), called)
        built = Backbone(case.tiny.with_(img_size=(96, 128)))
        assert model.architecture == built.architecture
        built.load_state_dict(model.state_dict())
        torch.testing.assert_close(built.eval()(images), called)

    def test_checkpointing_changes_no_number(self, model: Backbone, images: torch.Tensor, case: Case) -> None:
        twin = copy.deepcopy(model)
        twin.set_grad_checkpointing()
        for one in (model, twin):
            torch.manual_seed(0)
            total(one.train()(images)).backward()
        for (name, a), (_, b) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
            if a.requires_grad:
                torch.testing.assert_close(a.grad, b.grad, msg=name)
        for (name, a), (_, b) in zip(model.named_buffers(), twin.named_buffers(), strict=True):
            torch.testing.assert_close(a, b, msg=name)  # batch norms count each image once

    # As data

    def test_json_round_trip(self, case: Case) -> None:
        for architecture in (case.tiny, *(resolve(name) for name in case.names)):
            assert Architecture.from_json(architecture.to_json()) == architecture

    def test_every_module_is_a_part(self, model: Backbone, case: Case) -> None:
        homes = ("hexavit.parts.", "torch.nn.", "hexavit.network.")
        strangers = {f"{type(m).__module__}.{type(m).__name__}" for m in model.modules()}
        assert not [name for name in strangers if not name.startswith(homes)]

    # Its description

    def test_cost_is_reported_for_each_part(self, model: Backbone, case: Case) -> None:
        counted = hexavit.profile(model)
        held = [*model.parameters(), *(buffer for m in model.modules() for buffer in constant_buffers(m))]
        assert counted.parameters == sum(each.numel() for each in held)
        for parts in (counted.by_stage(), counted.by_kind()):
            assert sum(cost.macs for cost in parts.values()) == counted.macs > 0
            assert sum(cost.parameters for cost in parts.values()) == counted.parameters
        assert set(counted.by_stage()) == {*map(str, range(len(case.tiny.stages))), "head"}

    def test_published_weights_are_listed_or_their_absence_is_explained(self, case: Case) -> None:
        for name in case.names:
            entry = model_entry(name)
            for weight in entry.weights:
                built = resolve(f"{name}.{weight.tag}")
                assert (built.num_classes, built.img_size) == (weight.num_classes, (weight.img_size,) * 2)
            if not entry.weights:
                with pytest.raises(HexavitError, match="lists no published weights: load a file"):
                    hexavit.create_model(name, pretrained=True)

    def test_its_page_and_its_row_are_in_the_docs(self, case: Case) -> None:
        rows = (DOCS / "models.md").read_text(encoding="utf-8")
        for name in case.names:
            page = DOCS / f"{model_entry(name).family.replace('_', '-')}.md"
            assert f"`{name}`" in page.read_text(encoding="utf-8"), f"{page.name} does not list {name}"
            assert f"| `{name}` |" in rows, "run docs/tables.py"

    # Training

    def test_layer_decay(self, model: Backbone, case: Case) -> None:
        groups = param_groups_layer_decay(
            model, weight_decay=0.1, no_weight_decay_list=model.no_weight_decay(), layer_decay=0.5
        )
        named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert sum(len(group["params"]) for group in groups) == len(named)
        scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
        decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
        blocks = [
            scale[id(p)] for stage in model.stages for block in stage.blocks for p in [next(iter(block.parameters()))]
        ]
        first = next(p for p in model.stages[0].tokens.parameters() if p.requires_grad)
        assert blocks == sorted(set(blocks)), "each block learns faster than the one before it"
        assert min(scale.values()) == scale[id(first)] < blocks[0]
        assert scale[id(model.get_classifier().weight)] == max(scale.values()) == 1
        assert model.no_weight_decay() <= set(named)
        for name, parameter in named.items():
            spared = parameter.ndim == 1 or name in model.no_weight_decay()
            assert decay[id(parameter)] == (0 if spared else 0.1), name

    def test_coarse_groups_name_every_parameter(self, model: Backbone, case: Case) -> None:
        from timm.models import group_parameters

        for coarse in (False, True):
            layers = group_parameters(model, model.group_matcher(coarse), reverse=True)
            assert set(layers) == {name for name, _ in model.named_parameters()}

    def test_timm_description(self, case: Case) -> None:
        model = hexavit.create_model(case.tiny)
        names = dict(model.named_modules())
        expected = model.pretrained_cfg["classifier"]
        assert names[expected if isinstance(expected, str) else expected[0]] is model.get_classifier()
        first = model.pretrained_cfg["first_conv"]
        if first is None:  # no convolution reads the image
            convs = (m for m in model.stages[0].tokens.modules() if isinstance(m, torch.nn.Conv2d))
            assert all(conv.in_channels != 3 for conv in convs)
        else:
            assert names[first].in_channels == 3
        assert model.pretrained_cfg["input_size"] == (3, SIDE, SIDE)

    # Whole graph

    def test_captured_as_one_graph(self, case: Case) -> None:
        assert_captured(build(ends(case.tiny)))

    @pytest.mark.slow
    def test_all_stages_are_captured_as_one_graph(self, case: Case) -> None:
        assert_captured(build(tiny(case.tiny, last=1)))

    @pytest.mark.slow
    def test_checkpointing_is_captured_too(self, case: Case) -> None:
        model = build(tiny(case.tiny, last=1))
        model.set_grad_checkpointing()
        assert_captured(model)

    def test_exported_with_any_batch_and_size(self, case: Case) -> None:
        assert_exported(ends(case.tiny))

    @pytest.mark.slow
    def test_all_stages_are_exported_with_any_batch_and_size(self, case: Case) -> None:
        assert_exported(tiny(case.tiny, last=1))


@functools.cache
def covering(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    """A few cases whose first and last stages have every part that there is in those of all cases."""
    parts = {case: {(kind, part.name) for _, kind, part in ends(case.tiny).places()} for case in cases}
    left, chosen = set().union(*parts.values()), []
    while left:
        best = max(cases, key=lambda case: len(parts[case] & left))  # the first of equals
        chosen.append(best)
        left -= parts[best]
    return tuple(chosen)


def ends(architecture: Architecture) -> Architecture:
    """The first and the last stage, with as few blocks as :func:`tiny` allows."""
    stages, head = architecture.stages, architecture.head
    if head.options.get("enter"):  # a later stage: the last one in all models
        head = Part(head.name, **{**head.options, "enter": -1})
    short = replace(architecture, stages=(stages[0], *stages[1:][-1:]), head=head)
    try:
        check_fits(short)
    except HexavitError:  # the last takes what a stage between gives
        short = architecture
    return tiny(short, last=1)


def format_of(model: Backbone) -> Literal["NCHW", "NLC"]:
    """The format that all feature maps of a model have: points and sets are no maps."""
    return "NLC" if any(entry["reduction"] is None for entry in model.feature_info) else "NCHW"


def assert_only_rasters_are_maps(model: Backbone, images: torch.Tensor) -> None:
    features, tokens = model.forward_intermediates(images, output_fmt="NLC")
    torch.testing.assert_close(features, model.forward_features(images))
    for i, (entry, found) in enumerate(zip(model.feature_info, tokens, strict=True)):
        assert found.shape[::2] == (2, entry["num_chs"])
        if entry["reduction"] is None:
            with pytest.raises(HexavitError, match="no map: use output_fmt='NLC'"):
                model.forward_intermediates(images, [i])
        else:
            (image,) = model.forward_intermediates(images, [i], intermediates_only=True, stop_early=True)
            assert image.shape[2:] == (SIDE // entry["reduction"],) * 2
            assert torch.equal(image.flatten(2).transpose(1, 2), found)


def assert_captured(model: Backbone) -> None:
    torch._dynamo.reset()
    images = random_images(2, 3, SIDE, SIDE)
    captured = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(captured(images), model(images))


def assert_exported(architecture: Architecture) -> None:
    model, images = build(architecture), random_images(2, 3, SIDE, SIDE)
    shapes = ((3, 3, SIDE, SIDE), (1, 3, 64, 96), (2, 3, 75, 67))
    if any(getattr(module, "traced", "") for module in model.modules()):
        # From a size at which every map has several windows, to others of the kind.
        model = build(architecture.with_(img_size=(96, 96)))
        images, shapes = random_images(2, 3, 96, 96), ((3, 3, 96, 96), (1, 3, 96, 128), (2, 3, 107, 99))
    auto = torch.export.Dim.AUTO
    with torch.no_grad():
        program = torch.export.export(model, (images,), dynamic_shapes=({0: auto, 2: auto, 3: auto},)).module()
        for shape in shapes:
            other = random_images(*shape)
            torch.testing.assert_close(program(other), model(other))


def constant_buffers(module: torch.nn.Module) -> list[torch.Tensor]:
    """Tables that a part computes and that are parameters in the authors' code."""
    return [t for name, t in module.named_buffers(recurse=False) if name in getattr(module, "constants", ())]


def all_outputs(given: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The outputs of a model in training: one, or one for each classifier of the head."""
    return given if isinstance(given, tuple) else (given,)


def total(given: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """A scalar computed from all outputs, for a backward pass."""
    return torch.stack([output.square().sum() for output in all_outputs(given)]).sum()


def pooling_error(architecture: Architecture) -> str | None:
    """The error for average pooling if a part works on extra tokens."""
    try:
        check_fits(replace(architecture, num_classes=4, head=Part("pool")))
    except HexavitError as raised:
        return str(raised)
    return None


def build(architecture: Architecture) -> Backbone:
    """A model in evaluation mode, with deterministic weights and updated batch norm statistics."""
    torch.manual_seed(0)
    model = Backbone(architecture)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def random_images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def modules_defined_in(package: str) -> Sequence[str]:
    """Classes in a package's files with a base class whose name is that of a neural module."""
    spec = importlib.util.find_spec(package)
    found = []
    for folder in spec.submodule_search_locations:
        for path in sorted(Path(folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and any("Module" in ast.unparse(base) for base in node.bases):
                    found.append(f"{path.name}: {node.name}")
    return found
