"""hexavit against what the authors' own code computed: same weights, same input, same logits and stage features.

The records hold numbers only; `golden.py` makes the weights from the names and shapes of the authors' keys, and
`load_checkpoint` reads them in the authors' layout (for ViT: timm's, which the authors' JAX agrees with to 1e-6).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.parity import golden
from torch import Tensor

import hexavit

REFERENCE = Path(__file__).parent / "reference"
RECORDS = {path.stem: json.loads(path.read_text()) for path in sorted(REFERENCE.glob("*/*.json"))}
MODELS = {name: record for name, record in RECORDS.items() if "logits" in record}

# What a record's name says after the model's, as overrides.
VARIANTS = {
    "avg": ["stages.*.attention.method=avg"],
    "linear": ["stages.*.attention.method=linear"],
    "no-cls": ["head=pool"],
    "stride-kv-1": ["stages.*.attention.stride_kv=1"],
    "gap": ["head=pool"],
    "gelu_tanh": ["stages.*.feedforward.act=gelu_tanh"],
}


def named(variant: str) -> tuple[str, list[str]]:
    """A record's model in hexavit's words: a name and overrides."""
    if variant.startswith("cvt"):
        name, _, rest = variant.partition("-224")
        return name.replace("-", "_"), VARIANTS.get(rest.lstrip("-"), [])
    name, _, rest = variant.partition("-")
    return name, VARIANTS.get(rest, [])


def loaded(record: dict[str, Any]) -> tuple[Any, hexavit.LoadReport]:
    name, overrides = named(record["variant"])
    model = hexavit.create_model(name, overrides=overrides)
    return model.eval(), hexavit.load_checkpoint(model, golden.state_of(record))


def features_of(model: Any, x: Tensor, names: list[str]) -> Iterator[tuple[str, Tensor]]:
    """The maps on the way under the records' names: stages without, the class token alone, or all tokens."""
    maps = model.forward_intermediates(x, intermediates_only=True, return_prefix_tokens=True)
    for name in names:
        last, extra = maps[-1]
        if name.endswith("cls_token"):
            yield name, extra
        elif name.startswith("stage"):
            yield name, maps[int(name.removeprefix("stage")) - 1][0]
        else:
            image = last.flatten(2).transpose(1, 2)
            yield name, image if extra is None else torch.cat((extra, image), dim=1)


def test_every_record_is_held_against_something() -> None:
    assert set(RECORDS) - set(MODELS) == {"pos_embed_resize"}
    assert len(MODELS) == 10


@pytest.mark.parametrize("variant", MODELS)
def test_same_answers_as_the_authors(variant: str) -> None:
    record = MODELS[variant]
    model, report = loaded(record)
    assert report.origin == ("authors" if record["system"] == "CvT" else "timm")
    assert not report.left_over
    assert not report.dropped
    assert len(report.loaded) == len(record["state"])
    assert sum(p.numel() for p in model.parameters()) == record["parameters"]
    x = golden.image(record["input"])
    with torch.no_grad():
        logits = model(x)
    assert (logits[:, :8] - torch.tensor(record["logits"])).abs().max() <= 2e-5 * logits.abs().max()
    assert torch.allclose(logits.norm(dim=1), torch.tensor(record["logits_norm"]), rtol=2e-5, atol=0)
    with torch.no_grad():
        found = list(features_of(model, x, list(record["features"])))
    for name, feature in found:
        told = record["features"][name]
        assert list(feature.shape) == told["shape"], name
        assert feature.norm().item() == pytest.approx(told["norm"], rel=2e-5), name
        assert feature.mean().item() == pytest.approx(told["mean"], abs=2e-6), name


def test_position_table_is_resized_as_the_authors_do() -> None:
    record = RECORDS["pos_embed_resize"]
    small = hexavit.create_model("vit_tiny_patch16_224", overrides=["stages.0.depth=1"])
    state = {key: t.clone() for key, t in small.state_dict().items()}
    state["stages.0.position.table"] = golden.tensor("pos_embed", (1, 197, 192))
    large = hexavit.create_model("vit_tiny_patch16_384", overrides=["stages.0.depth=1"])
    with pytest.raises(hexavit.HexavitError, match=r"14 x 14, the model.s for 24 x 24: adapt=.position."):
        hexavit.load_checkpoint(large, state)
    report = hexavit.load_checkpoint(large, state, adapt="position")
    assert report.adapted == {"stages.0.position.table": "resized from 14 x 14 to 24 x 24 (bilinear)"}
    table = large.state_dict()["stages.0.position.table"]
    assert list(table.shape) == record["output"]["shape"]
    assert table.norm().item() == pytest.approx(record["output"]["norm"], rel=1e-5)
    assert table.mean().item() == pytest.approx(record["output"]["mean"], abs=1e-7)
    for row in (1, 576):
        torch.testing.assert_close(table[0, row, :8], torch.tensor(record[f"row_{row}"]), rtol=1e-5, atol=1e-6)
