"""Compare logits and stage features with outputs of the authors' code for the same weights and input.

The records hold numbers only; `golden.py` makes the weights from the names and shapes of the authors' keys, and
`load_checkpoint` reads them in the authors' layout (for ViT: timm's, which the authors' JAX agrees with to 1e-6).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.parity import golden
from tests.slow import mostly_slow
from torch import Tensor, nn

import hexavit
from hexavit.models.hrformer.keys import LAYOUTS as HRFORMER_LAYOUTS
from hexavit.models.layouts import Layout
from hexavit.models.t2t_vit.keys import LAYOUTS as T2T_LAYOUTS
from hexavit.network.block import Block, BuiltBranch
from hexavit.network.features import keeps_image
from hexavit.parts import Tokens, record_attention
from hexavit.parts.attention import WindowAttention
from hexavit.parts.feedforward import ConvMLP
from hexavit.parts.positions import RelativeBias
from hexavit.parts.residual import PreNorm
from hexavit.parts.tokens import TokenFuser, TokenLearner, TokenLearnerV1
from hexavit.parts.tokens.tokens_to_token import T2TLayer

REFERENCE = Path(__file__).parent / "reference"
RECORDS = {f"{p.parent.name}/{p.stem}": json.loads(p.read_text()) for p in sorted(REFERENCE.glob("*/*.json"))}
MODELS = {record["variant"]: record for record in RECORDS.values() if "logits" in record}

# A record's variant as a model's name and overrides; one that is not here has a model's name.
VARIANTS: dict[str, tuple[str, list[str]]] = {
    "cvt-13-224": ("cvt_13", []),
    "cvt-21-224": ("cvt_21", []),
    "cvt-13-224-avg": ("cvt_13", ["stages.*.attention.method=avg"]),
    "cvt-13-224-linear": ("cvt_13", ["stages.*.attention.method=linear"]),
    "cvt-13-224-no-cls": ("cvt_13", ["head=pool"]),
    "cvt-13-224-stride-kv-1": ("cvt_13", ["stages.*.attention.stride_kv=1"]),
    "vit_small_patch16_224-gap": ("vit_small_patch16_224", ["head=pool"]),
    "vit_tiny_patch16_224-gelu_tanh": ("vit_tiny_patch16_224", ["stages.*.feedforward.act=gelu_tanh"]),
    "deepvit_S": ("deepvit_s", []),
    "t2t_vit_7-kqv_scaled": ("t2t_vit_7", []),
    "t2t_vit_t_14-qk_scale_dim": ("t2t_vit_t_14", ["stages.0.attention.scale=dim"]),
    "vit_c_1gf-pooled": ("vit_c_1gf", ["head=pool"]),
    "ceit_tiny_leff5_no_bn": (
        "ceit_tiny_patch16_224",
        ["stages.0.feedforward.kernel=5", "stages.0.feedforward.norm=false"],
    ),
    "localvit_T2t_conv7": ("localvit_t2t_conv7", []),
    "swinv2_tiny_patch4_window8_256": ("swinv2_tiny_window8_256", []),
    "swinv2_tiny_patch4_window16_256": ("swinv2_tiny_window16_256", []),
    "swinv2_base_patch4_window12to16_192to256": ("swinv2_base_window12to16_192to256", []),
    "pcpvt_small": ("twins_pcpvt_small", []),
    "alt_gvt_small": ("twins_svt_small", []),
    "mvit_b_16_conv_224": ("mvit_b_16_conv", []),
    "mvitv2_tiny_224": ("mvitv2_tiny", []),
    "mvitv2_small_224": ("mvitv2_small", []),
    "ps_vit_b_14-qk_scale_dim": ("ps_vit_b_14", ["stages.*.attention.scale=dim"]),
    "vitae_tiny_224": ("vitae_tiny", []),
    "vitae_6m_224": ("vitae_6m", []),
    "vitae_base_224": ("vitae_base", []),
    "ti16_tl8_at6": ("tokenlearner_ti16_tl8_at6", []),
    "ti16_tl8_at6-v1": ("tokenlearner_ti16_tl8_at6_v1", []),
    "ti16_tl8_at9-fuser": ("tokenlearner_ti16_tl8_at9_fuser", []),
    "s16_tl16_at9": ("tokenlearner_s16_tl16_at9", []),
    "dwnet_tiny_224": ("dwnet_tiny", []),
    "dynamic_dwnet_tiny_224": ("dynamic_dwnet_tiny", []),
    "i_dynamic_dwnet_tiny_224": ("i_dynamic_dwnet_tiny", []),
    "shuffle_tiny_224": ("shuffle_tiny", []),
    "shuffle_small_224": ("shuffle_small", []),
    "rest_lite_no_transform": ("rest_lite", ["stages.*.attention.mix_heads=false"]),
}


def loaded(record: dict[str, Any], state: dict[str, Tensor] | None = None) -> tuple[Any, hexavit.LoadReport]:
    name, overrides = VARIANTS.get(record["variant"], (record["variant"], []))
    model = hexavit.create_model(name, overrides=overrides).eval()
    state = golden.state_of(record) if state is None else state
    if "pos_embed" in state and model.architecture.stages[0].column("position").name == "sine_cosine":
        model.stages[0].position.table = state["pos_embed"]  # the record fills the sinusoids like a learned table
    return model, hexavit.load_checkpoint(model, state)


def feature(name: str, model: Any, seen: dict[str, Tokens]) -> Tensor:
    """The value that a record stores as `name`, computed from the outputs of the modules."""
    stages = len(model.stages)
    if name == "encoder_output":  # after the final norm
        normed: Tensor = model.head.norm(seen[f"stages.{stages - 1}"].image)
        return normed
    if name == "last_block":  # before it is fused
        depths = [i for i, stage in enumerate(model.architecture.stages) if stage.depth]
        return seen[f"stages.{depths[-1]}"].sequence
    if name == "token_learner0":
        return seen["stages.1.tokens"].image
    if name == "stem" and "stages.0.position" in seen and model.architecture.stages[0].position.name != "learned":
        return seen["stages.0.position"].map  # ResT's ends with its gate
    if name in ("image_to_tokens", "stem", "patch_embed", "t2t"):
        return seen["stages.0.tokens"].image
    if name == "pixel_embed":  # TNT's words, one patch after another; without their table, but in timm's record
        part = model.stages[0].tokens
        words = seen["stages.0.tokens"].carry["words"].flatten(0, 1)
        return words if part.whole else words - part.table
    if name == "inner_tokens":
        return seen["stages.0"].carry["words"].flatten(0, 1)
    if name.startswith("t2t_attention"):
        return seen[f"stages.0.tokens.layers.{int(name[-1]) - 1}"].image
    if name == "layer_wise_class_token_attention":
        return model.head.attended(seen["stages.0"].carry["class_tokens"])
    if name in ("class_token", "cls_after_last_block") or name.endswith("_cls_token"):
        extra = seen[f"stages.{stages - 1}"].extra
        assert extra is not None
        return extra[:, 0] if name == "cls_after_last_block" else extra
    if name.startswith("ps_layer"):
        return seen[f"stages.{int(name.removeprefix('ps_layer')) + 1}"].image
    if name == "sample_points_last":
        return seen[f"stages.{stages - 1}"].carry["points"]
    if name == "tokens":  # behind the last block that changes image tokens, which CaiT's class attention does not
        changing = [i for i, stage in enumerate(model.stages) if not all(map(keeps_image, stage.blocks))]
        return seen[f"stages.{changing[-1]}"].sequence
    if name == "embedding":
        return seen["stages.0.position"].sequence
    if name.endswith("_msg"):
        messengers = seen[f"stages.{int(name[5]) - 1}"].extra
        assert messengers is not None
        return messengers
    if name.endswith("_reduction"):
        return seen[f"stages.{int(name[5]) - 1}.tokens"].map
    if "_branch" in name:  # HRFormer's resolutions, the first as the image tokens
        tokens, number = seen[f"stages.{int(name[5]) - 1}"], int(name[-1])
        return tokens.carry[f"resolution{number}"].permute(0, 3, 1, 2) if number else tokens.map
    if name == "final_layer":
        return seen[f"stages.{stages - 1}.tokens"].map
    if name.startswith("stage"):
        return seen[f"stages.{int(name.removeprefix('stage')) - 1}"].map
    return seen["stages.0"].sequence  # of a column's blocks


def watched(model: nn.Module, seen: dict[str, Tokens]) -> None:
    """Record the output of every part that returns tokens, by its path."""

    def keep(path: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _, __, out: seen.update({path: out}) if isinstance(out, Tokens) else None

    for path, module in model.named_modules():
        module.register_forward_hook(keep(path))


def assert_recorded(found: Tensor, expected: dict[str, Any], name: str, channels: bool = False) -> None:
    """`channels` takes the first values of a map from its channels at the first position, not from its first row."""
    if found.ndim == 3 and len(expected["shape"]) == 4:  # a map, as the authors keep it
        found = found.transpose(1, 2).unflatten(2, expected["shape"][2:])
    assert list(found.shape) == expected["shape"], name
    found = found.double()  # sums of a million float32 values lose digits
    assert found.norm().item() == pytest.approx(expected["norm"], rel=2e-5), name
    scale = found.norm().item() / found.numel() ** 0.5  # in a mean, values cancel
    assert found.mean().item() == pytest.approx(expected["mean"], rel=2e-5, abs=2e-6 * max(1, scale)), name
    if "first" in expected:
        first = (found[0, :, 0, 0] if channels and found.ndim == 4 else found.flatten())[: len(expected["first"])]
        torch.testing.assert_close(
            first, torch.tensor(expected["first"]).double(), rtol=1e-4, atol=1e-4 * scale, msg=name
        )


# Parts without a published model: test_operators compares their records.
OPERATORS = {"DDF", "EvolvingAttention", "LocalRelation", "NonLocal", "SparseAttention"}


def test_every_record_is_compared() -> None:
    others = {
        "DeiT/distillation_loss",
        "DeiT/pos_embed_resize",
        "HRFormer/block_with_padding",
        "HRFormer/ffn_dw_bn",
        "LV-ViT/mix_token",
        "LV-ViT/token_label_loss",
        "Performer/token_performer",
        "Performer/token_performer_unscaled",
        "Performer/token_transformer",
        "TokenLearner/token_fuser",
        "TokenLearner/token_learner_v1",
        "TokenLearner/token_learner_v11",
        "ViT/pos_embed_resize",
    }
    operators = {path for path in RECORDS if path.partition("/")[0] in OPERATORS}
    assert {path for path, record in RECORDS.items() if "logits" not in record} == others | operators
    assert len(MODELS) == len(RECORDS) - len(others | operators) == 92
    assert set(MODELS) >= set(VARIANTS)


# Each has a smaller record of the same mechanisms, or is compared with another library in test_peers.
LARGE = {
    "cait_xxs36_224",
    "cvt-21-224",
    "deepvit_S",
    "deepvit_patch16_224_re_attn_24b",
    "dynamic_dwnet_tiny_224",  # here twice: below with the weights that it needs
    "elsa_swin_small",
    "msg_small_p4_win7_224",
    "shuffle_small_224",
    "swin_small_patch4_window7_224",
    "swinv2_base_patch4_window12to16_192to256",
    "swinv2_tiny_patch4_window16_256",
    "vitae_6m_224",
}


def test_large_records_are_there() -> None:
    assert set(MODELS) >= LARGE


@pytest.mark.parametrize("variant", mostly_slow(MODELS, lambda name: name not in LARGE))
def test_same_outputs_as_the_authors(variant: str) -> None:
    record = MODELS[variant]
    model, report = loaded(record)
    assert report.origin in ("authors", "timm")
    assert not report.left_over
    assert all(key.endswith("num_batches_tracked") for key in report.missing)
    assert sum(p.numel() for p in model.parameters()) + constants(model) == record["parameters"]
    seen: dict[str, Tokens] = {}
    watched(model, seen)
    x = golden.image(record["input"])
    if any(getattr(module, "mix", None) is not None for module in model.modules()):
        # ResT's norm of its maps magnifies rounding: float32 is 1e-5 from float64 here and in the authors' code alike,
        # and what two such errors add up to is the processor's choice. So each is held by itself.
        with torch.no_grad():
            rounded = model(x)
            exact = model.double()(x.double())
        assert (rounded - exact).abs().max() <= 2e-5 * exact.abs().max()
        x = x.double()
    with torch.no_grad(), record_last_attention(model, record) as maps:
        logits = model(x).float()
    assert (logits[:, :8] - torch.tensor(record["logits"])).abs().max() <= 2e-5 * logits.abs().max()
    assert torch.allclose(logits.norm(dim=1), torch.tensor(record["logits_norm"]), rtol=2e-5, atol=0)
    with torch.no_grad():
        for name, expected in record["features"].items():
            found = list(maps.values())[-1][0] if name == "last_attention" else feature(name, model, seen)
            assert_recorded(found, expected, name, "first = channels" in record.get("features_note", ""))
        assert_both_outputs(model, record, seen)


@pytest.mark.parametrize("variant", [name for name, record in MODELS.items() if "scaled_weights" in record])
def test_same_outputs_with_weights_that_some_parts_need(variant: str) -> None:
    """Plain weights make the outputs of ViTAE's Performer layers all but 0, and dynamic DWNet's grow by block."""
    record, scaled = MODELS[variant], MODELS[variant]["scaled_weights"]
    model, _ = loaded(record, golden.state(record["state"], scaled["factors"]))
    seen: dict[str, Tokens] = {}
    watched(model, seen)
    with torch.no_grad():
        logits = model(golden.image(record["input"]))
        assert (logits[:, :8] - torch.tensor(scaled["logits"])).abs().max() <= 2e-5 * logits.abs().max()
        assert torch.allclose(logits.norm(dim=1), torch.tensor(scaled["logits_norm"]), rtol=2e-5, atol=0)
        for name, expected in scaled["features"].items():
            assert_recorded(feature(name, model, seen), expected, name, "first = channels" in record["features_note"])


def constants(model: Any) -> int:
    """Tables that are buffers here, and frozen parameters in the authors' state."""
    held = ((m, name, buffer) for m in model.modules() for name, buffer in m.named_buffers(recurse=False))
    return sum(buffer.numel() for module, name, buffer in held if name in getattr(module, "constants", ()))


def record_last_attention(model: nn.Module, record: dict[str, Any]) -> Any:
    """The maps of the last block only, because the maps of earlier layers are large."""
    if "last_attention" not in record["features"]:
        return record_attention(nn.Identity())
    return record_attention(model.stages[-1].blocks[-1])  # type: ignore[index,union-attr]  # ModuleLists


def assert_both_outputs(model: Any, record: dict[str, Any], seen: dict[str, Tokens]) -> None:
    """The two outputs of a head with two classifiers, which evaluation combines."""
    if "class_head_logits" not in record:
        return
    head = model.head.train()
    tokens = seen["stages.0"]
    first, second = head.classify(head.pooled(head.features(tokens), tokens.prefix))
    torch.testing.assert_close(first[:, :8], torch.tensor(record["class_head_logits"]), rtol=2e-5, atol=2e-5)
    if "distillation_head_logits" in record:
        expected = torch.tensor(record["distillation_head_logits"])
        torch.testing.assert_close(second[:, :8], expected, rtol=2e-5, atol=2e-5)
    else:
        assert_recorded(second, record["token_head_logits"], "token_head_logits")
        expected = torch.tensor(record["token_head_max"])
        torch.testing.assert_close(second.amax(dim=1)[:, :8], expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("system", "method"), [("ViT", "bilinear"), ("DeiT", "bicubic_plain")])
def test_position_table_is_resized_as_the_authors_do(system: str, method: str) -> None:
    record = RECORDS[f"{system}/pos_embed_resize"]
    edits = ["stages.0.depth=1", f"stages.0.position.resize={method}"]
    small = hexavit.create_model("vit_tiny_patch16_224", overrides=edits)
    state = {key: t.clone() for key, t in small.state_dict().items()}
    state["stages.0.position.table"] = golden.tensor("pos_embed", (1, 197, 192))
    large = hexavit.create_model("vit_tiny_patch16_384", overrides=edits)
    with pytest.raises(hexavit.HexavitError, match=r"14 x 14, the model.s for 24 x 24: adapt=.position."):
        hexavit.load_checkpoint(large, state)
    report = hexavit.load_checkpoint(large, state, adapt="position")
    assert report.adapted == {"stages.0.position.table": f"resized from 14 x 14 to 24 x 24 ({method})"}
    table = large.state_dict()["stages.0.position.table"]
    assert list(table.shape) == record["output"]["shape"]
    assert table.norm().item() == pytest.approx(record["output"]["norm"], rel=1e-5)
    assert table.mean().item() == pytest.approx(record["output"]["mean"], abs=1e-7)
    for row in (1, 576):
        torch.testing.assert_close(table[0, row, :8], torch.tensor(record[f"row_{row}"]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["token_performer", "token_performer_unscaled", "token_transformer"])
def test_a_layer_of_tokens_alone(name: str) -> None:
    record = RECORDS[f"Performer/{name}"]
    kind = "transformer" if name == "token_transformer" else "performer"
    layout: Layout = next(each for each in T2T_LAYOUTS if each.only["tokens.kind"] == (kind,))
    state = {f"tokens_to_token.attention1.{key}": t for key, t in golden.state_of(record).items()}
    translated = layout.to_ours(state)
    assert not translated.unexplained
    config = record["config"]
    layer = T2TLayer(config["dim"], config["in_dim"], config["norm_eps"], kind).eval()
    layer.load_state_dict({key.removeprefix("stages.0.tokens.layers.0."): t for key, t in translated.state.items()})
    x = golden.image(record["input"])
    with torch.no_grad():
        assert_recorded(layer(Tokens(x, (14, 14))).image, record["output"], name)


def test_a_layer_of_hrformer_alone_on_a_map_that_windows_do_not_divide() -> None:
    record = RECORDS["HRFormer/block_with_padding"]
    layer = hrformer_layer()
    load_hrformer(layer, "", record)
    x = golden.image(record["input"]).permute(0, 2, 3, 1).flatten(1, 2)
    with torch.no_grad():
        assert_recorded(layer(x, size=(10, 17)), record["output"], "block")


def test_the_feedforward_of_hrformer_alone() -> None:
    record = RECORDS["HRFormer/ffn_dw_bn"]
    layer = hrformer_layer()
    load_hrformer(layer, "mlp.", record)
    with torch.no_grad():
        out = layer.feedforward(Tokens.of_map(golden.image(record["input"])))
    assert_recorded(out.map, record["output"], "feedforward")


def hrformer_layer() -> Any:
    attention = WindowAttention(18, (10, 17), heads=1, window=7, shrink=False, padding="centre")
    attention.position = RelativeBias(1, (7, 7))
    feedforward = ConvMLP(18, last_act="gelu")
    return Block(
        [
            BuiltBranch("attention", "attention", attention, PreNorm(18, 1, 1e-6, 0.0)),
            BuiltBranch("feedforward", "feedforward", feedforward, PreNorm(18, 1, 1e-6, 0.0)),
        ],
        None,
    ).eval()


def load_hrformer(layer: nn.Module, prefix: str, record: dict[str, Any]) -> None:
    theirs = {f"stage2.0.branches.0.0.{prefix}{key}": t for key, t in golden.state_of(record).items()}
    done = HRFORMER_LAYOUTS[0].to_ours(theirs)
    assert not done.unexplained
    assert not done.broken
    missing = layer.load_state_dict({k.removeprefix("stages.1.blocks.0."): t for k, t in done.state.items()}, False)
    assert not missing.unexpected_keys
    assert prefix or all(key.endswith("num_batches_tracked") for key in missing.missing_keys)


@pytest.mark.parametrize("name", ["token_learner_v11", "token_learner_v1", "token_fuser"])
def test_a_learner_or_a_fuser_alone(name: str) -> None:
    record = RECORDS[f"TokenLearner/{name}"]
    x = golden.image(record["input"])
    given = Tokens(x, (14, 14))
    part: nn.Module
    if name == "token_fuser":
        part = TokenFuser(192, (8, 1), (14, 14), 1e-6)
        given = Tokens(golden.image([2, 8, 192], seed=1), (8, 1), layout="set", carry={"unpooled": given.grid})
    else:
        part = (TokenLearnerV1 if name.endswith("_v1") else TokenLearner)(192, 1e-6)
    part.load_state_dict({key.partition(".")[2].replace("mlp.", ""): t for key, t in golden.state_of(record).items()})
    with torch.no_grad():
        out = part.eval()(given).image
    out = out - x if name == "token_fuser" else out  # the authors' encoder adds x
    assert_recorded(out, record["output"], name)
    for k, row in enumerate(record["output_row"]):
        torch.testing.assert_close(out[k, 0, :8], torch.tensor(row), rtol=1e-4, atol=2e-5)
