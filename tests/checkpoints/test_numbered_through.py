"""Files whose blocks are numbered through all stages: recognised, read and written as they are."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import hexavit
from hexavit.checkpoints.conversion import convert
from hexavit.checkpoints.inspection import inspect_checkpoint

NAMES = ("mvit_nano", "mvit_v2_nano")


def theirs(name: str, path: Path) -> dict[str, Tensor]:
    """The state of a model in the authors' layout."""
    torch.manual_seed(0)
    path.mkdir(exist_ok=True)
    convert(hexavit.create_model(name).state_dict(), path / "theirs.pyth", "authors")
    state: dict[str, Tensor] = torch.load(path / "theirs.pyth", weights_only=True)
    return state


@pytest.mark.parametrize("name", NAMES)
def test_a_file_as_the_authors_save_it_is_recognised(name: str, tmp_path: Path) -> None:
    state = theirs(name, tmp_path)
    assert {key.split(".")[1] for key in state if key.startswith("blocks.")} == {"0", "1", "2", "3", "4"}
    grows = {key for key in state if key.endswith(".proj.weight") and key.count(".") == 3}
    # MViT's width grows at the end of a stage of 1 and of one of 2 blocks, MViTv2's at the beginning of the next.
    assert grows == {f"blocks.{n}.proj.weight" for n in ((0, 2) if name == "mvit_nano" else (1, 3))}
    held = {"epoch": 7, "model_state": state, "optimizer_state": {"state": {}, "param_groups": []}, "cfg": "text"}
    torch.save(held, tmp_path / "whole.pyth")
    facts = inspect_checkpoint(tmp_path / "whole.pyth")
    assert (facts.origin.split()[0], facts.model, facts.unexplained) == ("authors", name, ())
    model = hexavit.create_model(name)
    report = hexavit.load_checkpoint(model, tmp_path / "whole.pyth")
    assert not report.left_over
    convert(model.state_dict(), tmp_path / "back.pyth", "authors")
    back = torch.load(tmp_path / "back.pyth", weights_only=True)
    assert set(back) == set(state)
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_pooling_weights_of_the_video_code_lose_their_axis_of_time(tmp_path: Path) -> None:
    image, video = (theirs(name, tmp_path / name) for name in reversed(NAMES))
    pools = [key for key in image if ".pool_" in key]
    assert {image[key].ndim for key in pools} == {4}
    assert {tensor.ndim for key, tensor in video.items() if ".pool_" in key} == {5}
    with_time = {key: tensor.unsqueeze(2) if key in pools else tensor for key, tensor in image.items()}
    models = [hexavit.create_model("mvit_v2_nano") for _ in range(2)]
    for model, state in zip(models, (image, with_time), strict=True):
        hexavit.load_checkpoint(model, state)
    assert inspect_checkpoint(with_time).model == "mvit_v2_nano"
    for a, b in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_file_of_another_size_is_recognised() -> None:
    facts = inspect_checkpoint(hexavit.create_model("mvit_v2_nano", img_size=64).state_dict())
    assert (facts.model, facts.img_size) == ("mvit_v2_nano", (64, 64))


def test_other_depths_are_found_from_the_widths(tmp_path: Path) -> None:
    edits = ["stages.0.depth=2", "stages.1.depth=3"]
    architecture = hexavit.models.resolve("mvit_nano", overrides=edits)
    model = hexavit.create_model(architecture)
    convert(model.state_dict(), tmp_path / "theirs.pyth", "authors", model=architecture)
    other = hexavit.create_model(architecture)
    assert not hexavit.load_checkpoint(other, tmp_path / "theirs.pyth").left_over
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_vit_c_is_written_with_the_suffix_of_its_authors(tmp_path: Path) -> None:
    state = hexavit.create_model("vit_c_nano").state_dict()
    convert(state, tmp_path / "theirs.pyth", "authors")
    assert inspect_checkpoint(tmp_path / "theirs.pyth").model == "vit_c_nano"


@pytest.mark.parametrize("to", ["authors", "timm"])
@pytest.mark.parametrize("edit", ["stages.0.attention.window=4", "stages.*.attention.residual_q=false"])
def test_what_the_other_library_cannot_compute_is_not_written(to: str, edit: str, tmp_path: Path) -> None:
    architecture = hexavit.models.resolve("mvit_v2_nano", overrides=[edit])
    state = hexavit.create_model(architecture).state_dict()
    option = edit.partition("=")[0].rpartition(".")[2]
    with pytest.raises(hexavit.HexavitError, match=rf"the layout '{to}' of mvit_v2 cannot express .*{option}="):
        convert(state, tmp_path / "theirs.safetensors", to, model=architecture)
