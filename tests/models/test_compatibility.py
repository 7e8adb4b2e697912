"""Files that version 0.1 wrote load with the same results."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from hexavit import Architecture, Backbone
from hexavit.models import model_entry

FILES = Path(__file__).parents[1] / "compatibility" / "v0_1"
LINES = (FILES / "architectures.jsonl").read_text(encoding="utf-8").splitlines()
KEYS = json.loads((FILES / "state_dict_keys.json").read_text(encoding="utf-8"))
"""For each model, the start of the SHA-256 of the keys and shapes of its state dict, in order."""


def test_there_are_all() -> None:
    assert len(LINES) == len(KEYS) == 160


@pytest.mark.parametrize("line", LINES, ids=lambda line: json.loads(line)["name"])
def test_an_architecture_gives_the_same_model(line: str) -> None:
    architecture = Architecture.from_json(line)
    assert architecture == model_entry(architecture.name).architecture
    with torch.device("meta"):
        state = Backbone(architecture).state_dict()
    text = "\n".join(f"{name} {list(tensor.shape)}" for name, tensor in state.items())
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == KEYS[architecture.name]
