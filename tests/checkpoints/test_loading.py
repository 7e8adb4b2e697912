"""load_checkpoint: wrappers, adapting, swapped parts, and models that are unchanged after an error."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import hexavit
from hexavit.errors import CheckpointError
from hexavit.models.cvt.keys import AUTHORS
from hexavit.models.vit.keys import TIMM

State = dict[str, Tensor]
VIT = ["stages.0.depth=2", "stages.0.dim=48"]


def nano(num_classes: int = 5, **options: Any) -> Any:
    torch.manual_seed(3)
    return hexavit.create_model("cvt_nano", num_classes=num_classes, **options).eval()


def vit(num_classes: int = 5, **options: Any) -> Any:
    torch.manual_seed(4)
    return hexavit.create_model("vit_tiny_patch16_224", num_classes=num_classes, overrides=VIT, **options).eval()


def authors(model: Any) -> State:
    return AUTHORS.to_theirs(model.state_dict(), lambda key: 1).state


def equal(a: Any, b: Any) -> bool:
    return all(torch.equal(t, b.state_dict()[key]) for key, t in a.state_dict().items())


WRAPPERS: dict[str, Callable[[State], dict[str, Any]]] = {
    "bare": lambda state: state,
    "model": lambda state: {"model": state, "epoch": 3},
    "state_dict": lambda state: {"epoch": 3, "model": "cls_cvt", "state_dict": state, "perf": 0.8},
    "module": lambda state: {f"module.{key}": t for key, t in state.items()},
    "compiled": lambda state: {"state_dict": {f"_orig_mod.module.{key}": t for key, t in state.items()}},
    "ema alone": lambda state: {"state_dict_ema": state},
    "deep": lambda state: {"checkpoint": {"weights": state}},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_weights_are_found_however_they_are_wrapped(wrapper: str, tmp_path: Path) -> None:
    donor, model = nano(), nano()
    torch.nn.init.normal_(model.head.fc.weight)
    torch.save(WRAPPERS[wrapper](authors(donor)), tmp_path / "a.pth")
    report = hexavit.load_checkpoint(model, tmp_path / "a.pth")
    assert (report.origin, report.family) == ("authors", "cvt")
    assert equal(donor, model)
    assert set(report.loaded) == set(model.state_dict())


def test_of_two_weights_the_plain_ones_are_read_and_entry_chooses(tmp_path: Path) -> None:
    plain, average, model = nano(), nano(), nano()
    torch.nn.init.ones_(average.head.fc.weight)
    path = tmp_path / "a.pth"
    torch.save({"state_dict_ema": authors(average), "model": authors(plain)}, path)
    report = hexavit.load_checkpoint(model, path)
    assert report.entry == "model"
    assert "state_dict_ema" in report.dropped
    assert equal(plain, model)
    assert hexavit.load_checkpoint(model, path, entry="state_dict_ema").entry == "state_dict_ema"
    assert equal(average, model)
    with pytest.raises(CheckpointError, match="did you mean 'model'"):
        hexavit.load_checkpoint(model, path, entry="modle")


def test_our_own_names_and_a_model_of_maps(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    donor = nano()
    save_file(donor.state_dict(), tmp_path / "own.safetensors")
    maps = hexavit.create_model("cvt_nano", features_only=True, out_indices=[0, 1])
    report = hexavit.load_checkpoint(maps, tmp_path / "own.safetensors")
    assert report.origin == "hexavit"
    assert not report.missing
    assert "head.fc.weight" in report.dropped
    assert "stages.2.class_token" in report.dropped
    assert equal(maps.model, donor)


def test_steps_that_batch_norms_counted_may_be_missing() -> None:
    donor, model = nano(), nano()
    state = {key: t for key, t in authors(donor).items() if not key.endswith("num_batches_tracked")}
    report = hexavit.load_checkpoint(model, state)
    assert set(report.missing.values()) == {"counts training steps, left at its initial value"}


# Adapting


def test_another_number_of_classes_is_rejected_and_then_adapted() -> None:
    donor, model = nano(7), nano(5)
    head = model.head.fc.weight.clone()
    with pytest.raises(CheckpointError, match=r"has 7 classes and the model 5: adapt='classes' .* classes="):
        hexavit.load_checkpoint(model, authors(donor))
    report = hexavit.load_checkpoint(model, authors(donor), adapt="classes")
    assert torch.equal(model.head.fc.weight, head)
    assert set(report.dropped) == {"head.weight", "head.bias"}
    assert "head.fc.weight" in report.missing


def test_rows_of_the_head_are_picked() -> None:
    donor, model = nano(7), nano(3)
    report = hexavit.load_checkpoint(model, authors(donor), classes=[6, 0, 2])
    assert torch.equal(model.head.fc.bias, donor.head.fc.bias[[6, 0, 2]])
    assert report.adapted["head.fc.weight"] == "3 of 7 rows picked"
    with pytest.raises(CheckpointError, match="0 to 6, not"):
        hexavit.load_checkpoint(model, authors(donor), classes=[6, 0, 7])
    with pytest.raises(CheckpointError, match="picks 2 rows for a model of 3 classes"):
        hexavit.load_checkpoint(model, authors(donor), classes=[6, 0])


@pytest.mark.parametrize("name", ["deit_nano", "lvvit_nano"])
def test_a_head_with_two_classifiers_is_adapted_and_picked_as_a_whole(name: str) -> None:
    donor, own = (hexavit.create_model(name, num_classes=n) for n in (7, 2))
    report = hexavit.load_checkpoint(own, donor.state_dict(), classes=[6, 0])
    assert {"head.fc.weight", "head.fc2.weight"} < set(report.adapted)
    assert torch.equal(own.head.fc2.bias, donor.head.fc2.bias[[6, 0]])
    report = hexavit.load_checkpoint(own, donor.state_dict(), adapt="classes")
    assert set(report.missing) == {f"head.{fc}.{kind}" for fc in ("fc", "fc2") for kind in ("weight", "bias")}


def test_a_missing_head_is_not_another_number_of_classes() -> None:
    headless, model = nano(0), nano(5)
    with pytest.raises(
        CheckpointError, match=r"no classes and the model 5: adapt='classes' keeps the model's own head$"
    ):
        hexavit.load_checkpoint(model, authors(headless))
    with pytest.raises(CheckpointError, match="5 classes and the model none: adapt='classes' leaves the file's head"):
        hexavit.load_checkpoint(headless, authors(model))
    with pytest.raises(CheckpointError, match="it has none"):
        hexavit.load_checkpoint(model, authors(headless), classes=[0, 1, 2, 3, 4])


@pytest.mark.parametrize("chans", [1, 2, 4, 8])
def test_channels_are_adapted_on_request(chans: int) -> None:
    donor, model = nano(), nano(in_chans=chans)
    with pytest.raises(CheckpointError, match=f"reads 3 channels, the model {chans}: adapt='channels'"):
        hexavit.load_checkpoint(model, authors(donor))
    report = hexavit.load_checkpoint(model, authors(donor), adapt=["channels"])
    assert list(report.adapted) == ["stages.0.tokens.conv.weight"]
    grey = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    if chans == 1:
        torch.testing.assert_close(model(grey), donor(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


def test_channels_are_adapted_as_timm_does() -> None:
    from timm.models import adapt_input_conv

    donor = nano()
    for chans in (1, 2, 4, 8):
        model = nano(in_chans=chans)
        hexavit.load_checkpoint(model, authors(donor), adapt="channels")
        expected = adapt_input_conv(chans, donor.stages[0].tokens.conv.weight.detach())
        torch.testing.assert_close(model.stages[0].tokens.conv.weight.detach(), expected)


def test_rows_are_picked_by_the_names_of_classes() -> None:
    donor, model = nano(3), nano(2)
    names = ["cat", "dog", "owl"]
    hexavit.load_checkpoint(model, authors(donor), classes=["owl", 0], class_names=names)
    assert torch.equal(model.head.fc.weight, donor.head.fc.weight[[2, 0]])
    imagenet = nano(1000)
    hexavit.load_checkpoint(model, authors(imagenet), classes=["goldfish", "tench"])
    assert torch.equal(model.head.fc.bias, imagenet.head.fc.bias[[1, 0]])
    for wrong, sentence in (
        ({"classes": ["owl", "cta"], "class_names": names}, "the file has no class 'cta': did you mean 'cat'"),
        ({"classes": ["owl", "cat"]}, "the names of the file's 3 classes are not known: give class_names, or numbers"),
        ({"classes": ["owl", "cat"], "class_names": names[:2]}, "class_names names 2 classes, and the file has 3"),
    ):
        with pytest.raises(hexavit.HexavitError, match=sentence):
            hexavit.load_checkpoint(model, authors(donor), **wrong)


def test_position_tables_for_other_sizes_and_models_without_a_class_token() -> None:
    donor = vit()
    state = TIMM.to_theirs(donor.state_dict(), lambda key: 3).state
    wide = vit(img_size=(224, 320))
    with pytest.raises(CheckpointError, match="grid of 14 x 14, the model's for 14 x 20: adapt='position'"):
        hexavit.load_checkpoint(wide, state)
    hexavit.load_checkpoint(wide, state, adapt=True)
    x = torch.randn(1, 3, 224, 320, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(wide(x), donor(x), rtol=1e-4, atol=1e-5)
    hexavit.load_checkpoint(vit(img_size=(448, 640)), wide.state_dict(), adapt="position")  # not square: by its shape
    pooled = hexavit.create_model("vit_tiny_patch16_224", num_classes=5, overrides=[*VIT, "head=pool"])
    report = hexavit.load_checkpoint(pooled, state, adapt=True, partial=True)
    assert list(report.left_over) == ["cls_token"]
    assert "1 more for extra tokens" in report.adapted["stages.0.position.table"]


def test_a_table_with_a_row_for_distillation_gives_the_class_tokens_row() -> None:
    """Row 0 is the class token's, row 1 the distillation token's; the image's rows follow."""
    state = hexavit.create_model("deit_nano", num_classes=3).state_dict()
    state["stages.0.position.table"] = torch.arange(18.0)[None, :, None].expand(1, 18, 96).clone()
    model = hexavit.create_model("deit_nano", num_classes=3, overrides=["head=class_token"])
    start = model.stages[0].class_token.detach().clone()
    hexavit.load_checkpoint(model, state, adapt="position", partial=True)
    assert model.stages[0].position.table[0, :, 0].tolist() == [0.0, *(float(n) for n in range(2, 18))]
    assert torch.equal(model.stages[0].class_token, start)  # of another shape, so not loaded


def test_an_unknown_adaptation_is_rejected() -> None:
    with pytest.raises(CheckpointError, match="did you mean 'classes'"):
        hexavit.load_checkpoint(nano(), authors(nano()), adapt="class")


# Swapped parts, and errors


def test_a_swapped_part_is_reported_and_all_others_load() -> None:
    donor = nano()
    model = nano(overrides=["stages.1.attention=global"])
    start = model.stages[1].blocks[0].attention.qkv.weight.clone()
    with pytest.raises(CheckpointError, match=r"no place in the model .*conv_q.*partial=True"):
        hexavit.load_checkpoint(model, authors(donor))
    report = hexavit.load_checkpoint(model, authors(donor), partial=True)
    assert all(key.startswith("stage1.blocks.") and ".attn." in key for key in report.left_over)
    assert all(key.startswith("stages.1.blocks.") and ".attention." in key for key in report.missing)
    assert torch.equal(model.stages[1].blocks[0].attention.qkv.weight, start)
    assert torch.equal(model.head.fc.weight, donor.head.fc.weight)
    assert len(report.loaded) + len(report.left_over) - sum(k[:9] == "attn.proj" for k in report.left_over) > 0
    assert json.loads(json.dumps(report.as_dict()))["origin"] == "authors"
    assert "left over" in str(report)


def test_what_no_row_explains_is_listed() -> None:
    state = authors(nano()) | {"stage0.extra.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"does not explain stage0\.extra\.weight"):
        hexavit.load_checkpoint(nano(), state)


@pytest.mark.parametrize("spoil", ["missing", "shape", "nan", "integer", "extra"])
def test_an_error_leaves_the_model_unchanged(spoil: str) -> None:
    donor, model, before = nano(), nano(), nano()
    with torch.no_grad():
        for p in donor.parameters():
            p.add_(1)
    state, key = authors(donor), "stage2.blocks.1.mlp.fc2.weight"
    if spoil == "missing":
        del state[key]
    elif spoil == "shape":
        state[key] = state[key][1:]
    elif spoil == "nan":
        state[key][3, 3] = float("nan")
    elif spoil == "integer":
        state[key] = state[key].to(torch.int8)
    else:
        state["norm.other"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"fc2\.weight|head\.norm\.other"):
        hexavit.load_checkpoint(model, state)
    assert equal(model, before)


def test_files_of_other_families_are_rejected_with_the_known_origins() -> None:
    from torchvision.models import resnet18

    with pytest.raises(CheckpointError, match=r"match no known layout: hexavit, or authors,"):
        hexavit.load_checkpoint(nano(), resnet18().state_dict())
    with pytest.raises(CheckpointError, match="no place in the model"):
        hexavit.load_checkpoint(nano(), vit().state_dict())
    with pytest.raises(CheckpointError, match="not into a Linear"):
        hexavit.load_checkpoint(torch.nn.Linear(2, 2), {})


def test_half_precision_is_widened_and_reported() -> None:
    report = hexavit.load_checkpoint(
        nano(), {key: t.half() if t.is_floating_point() else t for key, t in authors(nano()).items()}
    )
    assert report.notes == ("converted from torch.float16 to torch.float32",)


def test_biases_of_other_windows_are_resized_on_request() -> None:
    small = hexavit.create_model("swin_nano")
    large = hexavit.create_model("swin_nano", img_size=64, overrides=["stages.*.attention.window=5"])
    with pytest.raises(
        CheckpointError, match="its position biases are for windows of 3 x 3, the model's for 5 x 5: adapt"
    ):
        hexavit.load_checkpoint(large, small.state_dict())
    report = hexavit.load_checkpoint(large, small.state_dict(), adapt="position")
    assert set(report.adapted) == {key for key in small.state_dict() if key.endswith("position.table")}
    table = small.state_dict()["stages.0.blocks.1.attention.position.table"]  # (5 x 5 offsets, 1 head)
    resized = torch.nn.functional.interpolate(table.t().view(1, 1, 5, 5), size=(9, 9), mode="bicubic").view(1, 81).t()
    assert torch.equal(large.state_dict()["stages.0.blocks.1.attention.position.table"], resized)


def test_position_biases_of_stripes_are_resized_along_the_map() -> None:
    """One table for each half of the heads; the width of a stripe stays."""
    edits = ["stages.*.position=relative_bias", "stages.1.attention.split=2"]
    small, large = (hexavit.create_model("cswin_nano", img_size=size, overrides=edits).eval() for size in (64, 96))
    with pytest.raises(CheckpointError, match=r"its position biases are for windows of 16 x 1, the model's for 24 x 1"):
        hexavit.load_checkpoint(large, small.state_dict())
    report = hexavit.load_checkpoint(large, small.state_dict(), adapt="position")
    key = "stages.1.blocks.0.attention.position.{}.table"
    assert report.adapted[key.format(0)] == "resized from windows of 8 x 2 to 12 x 2 (bicubic)"
    assert report.adapted[key.format(1)] == "resized from windows of 2 x 8 to 2 x 12 (bicubic)"
    small.set_input_size((96, 96))
    image = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(large(image), small(image))
