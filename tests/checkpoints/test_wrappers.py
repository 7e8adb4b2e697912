"""Checkpoints as training libraries leave them: prefixes, entries, run folders, models on the meta device."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.checkpoints.files import authors_state, tiny
from torch import Tensor

import hexavit
from hexavit.checkpoints import convert, inspect_checkpoint
from hexavit.errors import CheckpointError


def under(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{key}": tensor for key, tensor in authors_state().items()}


def inside(name: str) -> dict[str, Tensor]:
    """A wrapper around every block."""
    return {key.replace("blocks.0.", f"blocks.0.{name}"): tensor for key, tensor in authors_state().items()}


FILES: dict[str, Any] = {
    "Lightning, net": {"state_dict": under("net."), "pytorch-lightning_version": "2"},
    "Lightning, backbone": {"state_dict": under("backbone.")},
    "Lightning, model and a criterion": {"state_dict": under("model.") | {"criterion.weight": torch.ones(3)}},
    "DINO": {
        "student": under("module.backbone."),
        "teacher": under("backbone.") | {"head.mlp.0.weight": torch.ones(2, 2)},
    },
    "FSDP": inside("_fsdp_wrapped_module."),
    "torch.compile": under("_orig_mod."),
    "compiled blocks": inside("_orig_mod."),
    "AveragedModel": under("module.") | {"n_averaged": torch.tensor(7)},
    "DDP in Lightning": {"state_dict": under("model.module._orig_mod.")},
}


@pytest.mark.parametrize("name", FILES)
def test_a_wrapped_checkpoint_loads(name: str, tmp_path: Path) -> None:
    torch.save(FILES[name], tmp_path / "a.pth")
    model = tiny()
    torch.nn.init.zeros_(model.head.fc.weight)
    report = hexavit.load_checkpoint(model, tmp_path / "a.pth")
    assert (report.origin, report.missing, report.left_over) == ("authors", {}, {})
    assert report.share == 1.0
    expected = tiny().state_dict()
    assert all(torch.equal(t, expected[key]) for key, t in model.state_dict().items())


def test_a_prefix_of_another_name_is_given(tmp_path: Path) -> None:
    state = under("student.encoder.") | {"other.weight": torch.ones(1)}
    with pytest.raises(CheckpointError, match="match no known layout"):
        hexavit.load_checkpoint(tiny(), state)
    report = hexavit.load_checkpoint(tiny(), state, prefix="student.encoder")
    assert "other.weight" in report.dropped
    assert inspect_checkpoint(state, prefix="student.encoder.").origin == "authors (cvt)"
    assert convert(state, tmp_path / "a.safetensors", "hexavit", prefix="student.encoder").origin == "authors"
    with pytest.raises(CheckpointError, match=r"no keys under 'teacher\.', only under other, student"):
        hexavit.load_checkpoint(tiny(), state, prefix="teacher")


@pytest.mark.parametrize("name", [n for n in hexavit.list_models() if n.endswith("_nano")])
def test_a_model_on_the_meta_device_is_loaded(name: str) -> None:
    torch.manual_seed(0)
    donor = hexavit.create_model(name, num_classes=3).eval()
    with torch.device("meta"):
        model = hexavit.create_model(name, num_classes=3).eval()
    model.requires_grad_(False)
    report = hexavit.load_checkpoint(model, donor.state_dict())
    assert report.share == 1.0
    assert not any(p.is_meta or p.requires_grad for p in model.parameters())
    x = torch.randn(2, 3, *donor.architecture.img_size)
    with torch.no_grad():
        assert torch.equal(model(x), donor(x))


def run_folder(path: Path) -> Any:
    """A run folder's files, by their documented names."""
    model = tiny()
    (path / "weights").mkdir(parents=True)
    (path / "config.yaml").write_text("model: cvt_nano\n")
    (path / "architecture.json").write_text(model.architecture.to_json())
    (path / "classes.json").write_text(json.dumps(["a", "b", "c"]))
    cfg = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "squash"}
    (path / "input.json").write_text(json.dumps(cfg))
    convert(authors_state(), path / "weights" / "best.safetensors", "hexavit")
    return model


def test_a_run_folder_is_a_checkpoint(tmp_path: Path) -> None:
    donor, model = run_folder(tmp_path / "run"), tiny()
    torch.nn.init.zeros_(model.head.fc.weight)
    hexavit.load_checkpoint(model, tmp_path / "run")
    assert torch.equal(model.head.fc.weight, donor.head.fc.weight)
    assert inspect_checkpoint(tmp_path / "run").classes == 3
    report = convert(tmp_path / "run", tmp_path / "a.pth", "authors")  # whose edits no named model has
    assert report.model == "cvt_nano"
    (tmp_path / "run" / "weights" / "best.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has not finished an epoch"):
        hexavit.load_checkpoint(tiny(), tmp_path / "run")


def test_the_report_counts_what_was_loaded() -> None:
    state = {key: t for key, t in tiny().state_dict().items() if key.startswith("head.")}
    report = hexavit.load_checkpoint(tiny(), state, partial=True)  # a norm of 16, a linear from 16 to 3
    total = sum(parameter.numel() for parameter in tiny().parameters())
    assert (report.loaded_numbers, report.model_numbers, report.share) == (83, total, 83 / total)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_loading_a_bare_file_of_transformers_notes_its_eps(name: str, tmp_path: Path) -> None:
    edits = ["stages.0.depth=1", "stages.0.dim=12"]
    model = hexavit.create_model(name, img_size=32, num_classes=3, overrides=edits)
    convert(model.state_dict(), tmp_path / "a.safetensors", "huggingface", model=model.architecture)
    notes = hexavit.load_checkpoint(model, tmp_path / "a.safetensors").notes
    assert any(
        "eps 1e-12 unless config.json says otherwise" in note and "override norm_eps=1e-12" in note for note in notes
    )


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("script", [True, False])
def test_a_torchscript_file_is_named(script: bool, tmp_path: Path) -> None:
    linear = torch.nn.Linear(2, 2)
    program = torch.jit.script(linear) if script else torch.jit.trace(linear, torch.zeros(1, 2))
    program.save(tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"it is a TorchScript archive: open it with torch\.jit\.load"):
        inspect_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "deit3_small_patch16_224"])
def test_successors_of_vit_with_layer_scale_load(name: str) -> None:
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model(name, depth=2, img_size=56 if "dino" in name else 64, num_classes=5).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.02 * torch.randn_like(p))
    state = theirs.state_dict()
    if "dino" in name:
        state["mask_token"] = torch.zeros(1, 384)  # of the authors' file
    else:  # the authors' names
        state = {key.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): t for key, t in state.items()}
    patch = state["patch_embed.proj.weight"].shape[2]
    edits = ["stages.0.depth=2", "stages.0.residual.layer_scale=1e-5"]
    edits += [f"stages.0.tokens.kernel={patch}", f"stages.0.tokens.stride={patch}"]
    edits += ["stages.0.position.extra_rows=false"] if name.startswith("deit3") else []
    side = theirs.patch_embed.img_size[0]
    model = hexavit.create_model("vit_small_patch16_224", img_size=side, num_classes=5, overrides=edits).eval()
    assert hexavit.load_checkpoint(model, state).share == 1.0
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        expected = theirs(x)
        assert ((model(x) - expected).abs().max() / expected.abs().max()).item() <= 2e-5


def test_inspect_names_the_edits_of_dinov2() -> None:
    edits = {"residual.layer_scale": 1e-5, "tokens.kernel": 14, "tokens.stride": 14}
    overrides = [f"stages.0.{name}={value}" for name, value in edits.items()]
    with torch.device("meta"):
        model = hexavit.create_model("vit_small_patch16_224", img_size=518, num_classes=0, overrides=overrides)
    state = {key: torch.zeros(t.shape) for key, t in model.state_dict().items()}
    facts = inspect_checkpoint(state)
    assert facts.model in ("vit_small_patch16_224", "vit_small_patch32_224")  # equal but for the edited patches
    assert (facts.img_size, facts.classes) == ((518, 518), 0)
    assert set(facts.edits) >= {"stages.0.tokens.kernel=14", "stages.0.tokens.stride=14"}


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (["reg_token"], "DINOv2 or DINOv3 with registers"),
        (["embeddings.register_tokens"], "DINOv2 or DINOv3 with registers"),
    ],
)
def test_unsupported_successors_are_rejected_by_name(keys: list[str], name: str, tmp_path: Path) -> None:
    state = {"cls_token": torch.zeros(1, 1, 4), **{key: torch.zeros(1, 4) for key in keys}}
    with pytest.raises(CheckpointError, match=f"is a checkpoint of .*{name}"):
        hexavit.load_checkpoint(tiny(), state)
    with pytest.raises(CheckpointError, match="which is not supported"):
        inspect_checkpoint(state)
    with pytest.raises(CheckpointError, match="which is not supported"):
        convert(state, tmp_path / "a.pth", "hexavit")


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"cannot be written \(PytorchStreamWriter failed"):
        convert(authors_state(), tmp_path / "a.pth", "hexavit")
