"""Every registered model is known again from a file in its authors' layout, by names and shapes alone."""

from functools import cache

import pytest
import torch
from tests.slow import mostly_slow
from torch import Tensor

import hexavit
from hexavit import Architecture, Backbone
from hexavit.checkpoints.layout_detection import find_origin
from hexavit.checkpoints.model_detection import guess, matches
from hexavit.models import LAYOUTS, model_entry, resolve
from hexavit.models.layouts import Layout

NAMES = hexavit.list_models()
QUICK = {model_entry(name).family: name for name in reversed(NAMES)}.values()
"""The first model of each family; all nano models are quick, too."""


def state_of(architecture: Architecture) -> dict[str, Tensor]:
    """Shapes without numbers."""
    with torch.device("meta"):
        return Backbone(architecture).state_dict()


@cache
def shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(t.shape) for key, t in state_of(model_entry(name).architecture).items()}


def authors(architecture: Architecture, name: str) -> Layout | None:
    """The layout of a model's authors, else the first that has words for it, if any has."""
    fitting = [e for e in LAYOUTS if e.family == model_entry(name).family and not e.unsupported(architecture)]
    return next((each for each in fitting if each.origin == "authors"), fitting[0] if fitting else None)


def written(architecture: Architecture, name: str) -> dict[str, Tensor]:
    def heads(key: str) -> int:
        _, stage, _, block, *_ = key.split(".")
        return architecture.stages[int(stage)].column("attention", int(block)).options["heads"]  # type: ignore[return-value]

    layout = authors(architecture, name)
    if layout is None:  # no other library has it: huge Swin V2s, nano models with parts of their own
        return state_of(architecture)
    return layout.to_theirs(state_of(architecture), heads, architecture).state


@pytest.mark.parametrize("name", mostly_slow(NAMES, lambda name: name in QUICK or name.endswith("_nano")))
def test_a_file_of_its_authors_is_known_again(name: str) -> None:
    theirs = written(model_entry(name).architecture, name)
    origin = find_origin(theirs, "a file")
    done = origin.to_ours(theirs)
    assert not done.unexplained
    assert not done.broken
    found = matches(done.state, origin.family, origin.places)
    names = [each.name for each in found]
    assert name in names
    assert all(shapes(twin) == shapes(name) for twin in names)  # listed as such, and nothing else is
    own = origin.family or model_entry(name).family
    assert model_entry(names[0]).family == own  # DeiT's authors kept the names of timm's ViT
    assert found[0].img_size == model_entry(names[0]).architecture.img_size


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n.endswith("_nano") and model_entry(n).architecture.head.name != "pool"]
)
def test_other_classes_channels_and_sizes_are_detected(name: str) -> None:
    plain = model_entry(name).architecture
    side = 3 * plain.img_size[0]
    asked = resolve(name, num_classes=7, in_chans=4, img_size=side)
    found = guess(state_of(asked), model_entry(name).family)
    assert found is not None
    assert (found.name, found.num_classes, found.in_chans) == (name, 7, 4)
    built = state_of(asked)  # MSG's tables are those of its windows, whatever the size
    tables = [key for key, shape in shapes(name).items() if ".position.table" in key and built[key].shape != shape]
    assert found.img_size == ((side, side) if tables else plain.img_size)


def test_twins_are_models_of_equal_shapes() -> None:
    found = matches(state_of(resolve("deit_base_patch16_384")), "deit")
    assert [each.name for each in found] == ["deit_base_patch16_384", "vit_base_patch16_384"]
    facts = hexavit.checkpoints.inspect_checkpoint(hexavit.create_model("deit_tiny_patch16_224").state_dict())
    assert (facts.model, facts.twins) == ("vit_tiny_patch16_224", ("deit_tiny_patch16_224",))
    assert "or          deit_tiny_patch16_224: their shapes are the same" in str(facts)
    state = state_of(resolve("vit_small_patch16_224", overrides=["head=pool"]))
    assert matches(state, "vit")[0].name == "vit_small_patch16_224"  # patch32 needs two edits
    assert guess({"stages.0.blocks.0.attention.proj.weight": torch.zeros(3, 3)}) is None
