"""Files whose modules are numbered through the whole model, which stand in stages here."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.parity import golden

import hexavit
from hexavit.checkpoints.conversion import convert
from hexavit.checkpoints.inspection import inspect_checkpoint
from hexavit.checkpoints.writer import write_state
from hexavit.errors import CheckpointError
from hexavit.models import model_entry
from hexavit.models.layouts import moved, numbered_through

pytestmark = pytest.mark.usefixtures("one_thread")
FUSER = "tokenlearner_ti16_tl8_at9_fuser"


def test_blocks_are_numbered_through_stages_of_any_depth() -> None:
    found = numbered_through(model_entry(FUSER).architecture)
    assert len(found) == 12
    assert [found[f"blocks.{k}"] for k in (0, 8, 9, 10, 11)] == [
        "stages.0.blocks.0", "stages.0.blocks.8", "stages.1.blocks.0", "stages.3.blocks.0", "stages.5.blocks.0",
    ]  # fmt: skip
    assert moved("blocks.10.feedforward.fc1.bias", found) == "stages.3.blocks.0.feedforward.fc1.bias"
    assert moved("blocks.12.feedforward.fc1.bias", found) == "blocks.12.feedforward.fc1.bias"


@pytest.mark.parametrize("name", [FUSER, "tokenlearner_ti16_tl8_at6", "tokenlearner_ti16_tl8_at6_v1"])
def test_flax_names_are_written_and_read_bit_for_bit(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = hexavit.create_model(name, num_classes=5)
    own, flax, back = tmp_path / "own.safetensors", tmp_path / "flax.npz", tmp_path / "back.safetensors"
    write_state(model.state_dict(), own)
    convert(own, flax, "authors")
    with np.load(flax) as arrays:
        keys = set(arrays.files)
        learner = "TokenLearnerModule" if name.endswith("v1") else "TokenLearnerModuleV11"
        assert f"Transformer/{learner}_0/LayerNorm_0/scale" in keys
        assert arrays["Transformer/encoderblock_11/MultiHeadDotProductAttention_0/query/kernel"].shape == (192, 3, 64)
    facts = inspect_checkpoint(flax)
    assert (facts.model, facts.origin) == (name, "authors (token_learner)")
    convert(flax, back, "hexavit")
    other = hexavit.create_model(name, num_classes=5)
    hexavit.load_checkpoint(other, back)
    for (key, a), (_, b) in zip(model.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(a, b), key


def test_the_model_determines_before_which_block_tokens_are_learned() -> None:
    names = ["stages.0.depth=2", "stages.1.depth=10"]
    model = hexavit.create_model("tokenlearner_ti16_tl8_at6", overrides=names)
    state = golden.state({key: list(t.shape) for key, t in hexavit.create_model(FUSER).state_dict().items()})
    theirs = {
        "blocks.1.norm1.weight": state["stages.0.blocks.1.attention_residual.norm.weight"],
        "blocks.2.norm1.weight": state["stages.0.blocks.2.attention_residual.norm.weight"],
        "token_learners.0.norm.weight": state["stages.1.tokens.norm.weight"],
    }
    hexavit.load_checkpoint(model, theirs, partial=True, adapt="classes")
    held = model.state_dict()
    assert torch.equal(held["stages.0.blocks.1.attention_residual.norm.weight"], theirs["blocks.1.norm1.weight"])
    assert torch.equal(held["stages.1.blocks.0.attention_residual.norm.weight"], theirs["blocks.2.norm1.weight"])
    assert torch.equal(held["stages.1.tokens.norm.weight"], theirs["token_learners.0.norm.weight"])


def test_another_number_of_tokens_is_recognised() -> None:
    edits = ["stages.1.tokens.count=5", "stages.1.tokens.hidden=32"]
    model = hexavit.create_model("tokenlearner_ti16_tl8_at6", overrides=edits)
    facts = inspect_checkpoint(model.state_dict())
    assert (facts.model, sorted(facts.edits)) == ("tokenlearner_ti16_tl8_at6", sorted(edits))


def test_the_authors_zeros_of_tnt_are_written_again(tmp_path: Path) -> None:
    name = "tnt_ti_patch16_224"
    model = hexavit.create_model(name, num_classes=3)
    out = tmp_path / "authors.pth"
    convert(model.state_dict(), out, "authors", model=name)
    state = torch.load(out, weights_only=True)
    assert torch.equal(state["outer_tokens"], torch.zeros(1, 196, 192))
    other = hexavit.create_model(name, num_classes=3)
    hexavit.load_checkpoint(other, out)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    again = tmp_path / "timm.safetensors"
    convert(out, again, "timm")
    assert inspect_checkpoint(again).model == name


def test_squeeze_excite_of_tnt_is_recognised(tmp_path: Path) -> None:
    edit = "stages.0.feedforward=excited_mlp"
    model = hexavit.create_model("tnt_ti_patch16_224", overrides=[edit])
    out = tmp_path / "authors.pth"
    convert(model.state_dict(), out, "authors", model="tnt_ti_patch16_224", overrides=[edit])
    assert "blocks.0.se_layer.fc.1.weight" in torch.load(out, weights_only=True)
    facts = inspect_checkpoint(out)
    assert (facts.model, facts.edits[0]) == ("tnt_ti_patch16_224", edit)
    with pytest.raises(CheckpointError, match="cannot express"):
        convert(out, tmp_path / "timm.safetensors", "timm")
