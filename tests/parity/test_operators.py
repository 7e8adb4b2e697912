"""Compare attention parts alone with records of the authors' modules: non-local, local relation, evolving, sparse,
decoupled dynamic filters."""

from typing import Any

import pytest
import torch
from tests.parity import golden
from tests.parity.test_reference import RECORDS, assert_recorded
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit import Backbone
from hexavit.architecture import Architecture, Part, Stage
from hexavit.parts import Attention, Tokens, record_attention
from hexavit.parts.attention import (
    DecoupledDynamicFilter,
    EvolvingAttention,
    EvolvingConv,
    LocalRelation,
    LongformerAttention,
    NonLocal,
    SparseAttention,
)
from hexavit.parts.attention.evolving import MAP
from hexavit.parts.positions import DecomposedRelative

pytestmark = pytest.mark.usefixtures("one_thread")

State = dict[str, Tensor]


def of(system: str) -> list[str]:
    return [path for path in RECORDS if path.startswith(f"{system}/")]


def assert_all_recorded(found: Tensor, expected: dict[str, Any], name: str) -> None:
    """Shape, norm, mean, the first values and those in the middle."""
    assert_recorded(found, expected, name)
    flat, scale = found.flatten().double(), found.double().norm().item() / found.numel() ** 0.5
    middle = flat[found.numel() // 2 :][: len(expected["middle"])]
    torch.testing.assert_close(middle, torch.tensor(expected["middle"]).double(), rtol=1e-4, atol=1e-4 * scale)


def linears(state: State) -> State:
    """1 x 1 convolutions as linears."""
    return {key: t.flatten(1) if key.endswith("weight") and t.ndim > 1 else t for key, t in state.items()}


# Which keys of the records are which modules of the part.
NON_LOCAL = {
    "W.0": "out", "W.1": "norm", "g.0": "g", "phi.0": "phi",
    "conv_out.conv": "out", "conv_out.bn": "norm", "theta.conv": "theta", "phi.0.conv": "phi", "g.0.conv": "g",
    "bn": "norm",
}  # fmt: skip


@pytest.mark.parametrize("path", of("NonLocal"))
def test_a_non_local_block(path: str) -> None:
    record = RECORDS[path]
    config = record["config"]
    sub_sample = None if not config["sub_sample"] else "after" if config["sub_sample"] is True else "before"
    scaled = config.get("use_scale") or config.get("scale")
    part = NonLocal(20, pairwise=config["mode"], sub_sample=sub_sample, scale="head_dim" if scaled else 1.0).eval()
    state: State = {}
    for key, t in linears(golden.state_of(record)).items():
        module, _, name = key.rpartition(".")
        if module == "concat_project.0":
            state["of_query.weight"], state["of_key.weight"] = t.chunk(2, dim=1)
        else:
            state[f"{NON_LOCAL.get(module, module)}.{name}"] = t
    state.setdefault("out.bias", torch.zeros(20))  # mmcv's convolution has none before a norm
    part.load_state_dict(state)
    x = golden.image(record["input"])
    with torch.no_grad():
        branch = part(Tokens.of_map(x)).map
        assert_all_recorded(branch, record["features"]["branch"], path)
        assert_all_recorded(x + branch, record["output"], path)
        with record_attention(part) as maps:
            part(Tokens.of_map(x))
    assert_all_recorded(maps[""][0][:, 0], record["features"]["affinity"], path)


RELATION = {"kmap.l": "key", "qmap.l": "query", "gp.l1": "prior1", "gp.l2": "prior2", "final1x1": "proj"}
COMPOSE = {"multiplication": "product", "absolute difference": "absolute", "squared difference": "squared"}


def relation(record: dict[str, Any]) -> LocalRelation:
    config = record["config"]
    compose: Any = COMPOSE[config.get("composability", "multiplication")]
    part = LocalRelation(48, kernel=config["kernel_size"], stride=config["stride"], compose=compose).eval()
    renamed = {RELATION[key.rpartition(".")[0]]: key.rpartition(".")[0] for key in record["state"]}
    state = linears(golden.state_of(record))
    part.load_state_dict(
        {f"{ours}.{of}": state[f"{key}.{of}"] for ours, key in renamed.items() for of in ("weight", "bias")}
    )
    return part


@pytest.mark.parametrize("path", [path for path in of("LocalRelation") if "deviates" not in path])
def test_a_local_relation_layer(path: str) -> None:
    record = RECORDS[path]
    part, x, features = relation(record), golden.image(record["input"]), record["features"]
    entered: list[Tensor] = []
    part.proj.register_forward_pre_hook(lambda _, given: entered.append(given[0]))
    with torch.no_grad(), record_attention(part) as maps:
        out = part(Tokens.of_map(x))
        prior = part.prior()
    h, w = record["output"]["shape"][2:]
    assert_all_recorded(out.map, record["output"], path)
    assert_all_recorded(prior.unflatten(1, (record["config"]["kernel_size"],) * 2), features["prior"], path)
    assert_all_recorded(entered[0].transpose(1, 2).unflatten(2, (h, w)), features["aggregated"], path)
    assert_all_recorded(maps[""][0].transpose(2, 3).unflatten(3, (h, w)), features["weights"], path)


def test_faults_of_unofficial_local_relations_are_not_ours() -> None:
    """A softmax over one axis of the kernel, and neighbours outside of the map that stay in the softmax."""
    for path, figure in (("deviates_anonymous-so_k7", "output"), ("lr_k7_mul", "output_if_zero_padded")):
        record = RECORDS[f"LocalRelation/{path}"]
        with torch.no_grad():
            out = relation(record)(Tokens.of_map(golden.image(record["input"]))).map
        assert out.norm().item() != pytest.approx(record[figure]["norm"], rel=1e-2)


@pytest.mark.parametrize("path", [path for path in of("EvolvingAttention") if "/vit_" in path])
@pytest.mark.parametrize("vanilla", [False, True])
def test_evolving_attention_in_a_plain_vit(path: str, vanilla: bool) -> None:
    """Blocks of three parts; as the records' tokens are no map, they are a column of 50."""
    record = RECORDS[path]
    config = record["config"]
    shares = {
        "previous_share": config["previous_share (code beta)"] * (not vanilla),
        "conv_share": config["conv_share (code alpha)"] * (not vanilla),
    }
    stage = Stage(
        64, 3, tokens=Part("keep"), attention=Part("evolving", heads=4, **shares), residual=Part("pre_norm"),
    )  # fmt: skip
    row = Architecture("column", (stage,), Part("pool"), img_size=(50, 1), in_chans=64)
    blocks = Backbone(row).eval().stages[0]
    names = {"norm1": "attention_residual.norm", "attn": "attention", "norm2": "feedforward_residual.norm"}
    names |= {"mlp": "feedforward", "attn.map_conv": "attention.path.conv"}
    state = {}
    for key, t in golden.state_of(record).items():
        _, number, *inside, of_it = key.split(".")
        known = ".".join(inside)
        for theirs in sorted(names, key=len, reverse=True):
            if known.startswith(theirs):
                known = names[theirs] + known.removeprefix(theirs)
                break
        state[f"blocks.{number}.{known}.{of_it}"] = t
    blocks.load_state_dict(state)
    seen: list[tuple[Tensor, ...]] = []
    for block in blocks.blocks:
        block.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        out = blocks(Tokens(golden.image(record["input"]), (50, 1)))
    assert_all_recorded(out.image, record["output_vanilla" if vanilla else "output"], path)
    if not vanilla:
        for i, (tokens, handed_on) in enumerate(seen):
            assert_all_recorded(handed_on, record["features"][f"map{i}"], f"map{i}")
            if i < 2:
                assert_all_recorded(tokens, record["features"][f"block{i}"], f"block{i}")


def test_evolving_attention_of_the_authors_in_pytorch() -> None:
    """Three layers of attention alone: a leaky ReLU, and no output projection."""
    record = RECORDS["EvolvingAttention/ea_dc_attention_stack3"]
    state = golden.state_of(record)
    tokens = Tokens(golden.image(record["input"]).transpose(1, 2), (49, 1))
    carried: dict[str, tuple[int, ...]] = {}
    for i in range(3):
        part = EvolvingAttention(
            64, (49, 1), 0, carried, heads=8, act="leaky_relu", previous_share=0.3, conv_share=0.5
        ).eval()  # fmt: skip
        carried.update(part.given_shapes)
        part.proj = nn.Identity()  # type: ignore[assignment]
        of_layer = {
            "qkv.weight": state[f"layers.{i}.qkv_conv.weight"][:, :, 0],
            "qkv.bias": state[f"layers.{i}.qkv_conv.bias"],
        }
        if i:
            of_layer |= {f"path.conv.{of_it}": state[f"layers.{i}.att_conv.0.{of_it}"] for of_it in ("weight", "bias")}
        part.load_state_dict(of_layer)
        with torch.no_grad():
            tokens = part(tokens)
        assert_all_recorded(tokens.carry[MAP], record["features"][f"map{i}"], f"map{i}")
    assert_all_recorded(tokens.image.transpose(1, 2), record["output"], "output")


@pytest.mark.parametrize("path", [path for path in of("EvolvingAttention") if "bottleneck" in path or "stage2" in path])
def test_evolving_attention_in_bottlenecks(path: str) -> None:
    """The authors' bottleneck, written here, around the part."""
    record = RECORDS[path]
    config, state = record["config"], golden.state_of(record)
    x = golden.image(record["input"])
    carried: dict[str, tuple[int, ...]] = {}
    carry: dict[str, Tensor] = {}

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{of_it}"] for of_it in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias, eps=config["bn_eps"])

    for i, block in enumerate(config["blocks"]):
        at, width = f"blocks.{i}", block["filters"]
        skip = x
        if block["projection_shortcut"]:
            skip = norm(F.conv2d(x, state[f"{at}.shortcut.weight"], stride=block["stride"]), f"{at}.shortcut_bn")
        inside = F.relu(norm(F.conv2d(x, state[f"{at}.conv1.weight"]), f"{at}.bn1"))
        size = (x.shape[2], x.shape[3])
        part = EvolvingConv(
            width, size, 0, carried, heads=8, stride=block["stride"], half=block["attention_at_half_size"],
            previous_share=config["previous_share (code beta)"], conv_share=config["conv_share (code alpha)"],
        ).eval()  # fmt: skip
        part.position = DecomposedRelative(8, part.head_dim, part.scope(size), part.scope(size))
        carried.update(part.given_shapes)
        load_augmented(part, {key.removeprefix(f"{at}.attn."): t for key, t in state.items() if f"{at}.attn." in key})
        projected: list[Tensor] = []
        part.proj.register_forward_hook(lambda _, __, out, kept=projected: kept.append(out))
        with torch.no_grad():
            out = part(Tokens.of_map(inside).with_carry(**carry))
        carry = dict(out.carry)
        attended = projected[0].transpose(1, 2).unflatten(2, part.scope(size))
        assert_all_recorded(attended, record["features"][f"attn_out{i}"], f"attn_out{i}")
        assert_all_recorded(carry[MAP], record["features"][f"map{i}"], f"map{i}")
        x = F.relu(norm(F.conv2d(F.relu(norm(out.map, f"{at}.bn2")), state[f"{at}.conv3.weight"]), f"{at}.bn3") + skip)
        if f"block{i}" in record["features"]:
            assert_all_recorded(x, record["features"][f"block{i}"], f"block{i}")
    assert_all_recorded(x, record["output"], path)


def load_augmented(part: EvolvingConv, theirs: State) -> None:
    """Keys before queries there; and offsets are key minus query, the reverse of ours."""
    keys = part.heads * part.head_dim
    kqv = {of_it: t.flatten(1) if t.ndim > 1 else t for of_it in ("weight", "bias") for t in [theirs[f"kqv.{of_it}"]]}
    state = {"conv.weight": theirs["conv.weight"], "proj.weight": theirs["out.weight"].flatten(1)}
    state["proj.bias"] = theirs["out.bias"]
    for of_it, t in kqv.items():
        k, q, v = t.split([keys, keys, part.values])
        state[f"qkv.{of_it}"] = torch.cat((q, k, v))
    state["position.table_w"], state["position.table_h"] = theirs["r_width"].flip(0), theirs["r_height"].flip(0)
    state |= {key.replace("map_conv", "path.conv"): t for key, t in theirs.items() if "map_conv" in key}
    part.load_state_dict(state)


def keys_of(part: Attention, size: tuple[int, int] = (4, 4)) -> list[list[int]]:
    """The keys of each query, read off the maps."""
    count = size[0] * size[1]
    with torch.no_grad(), record_attention(part) as maps:
        part.eval()(Tokens(torch.randn(1, count, part.dim), size))
    (found,) = maps[""]
    prefix = found.shape[3] - count
    rows: list[list[int]] = [row.nonzero().flatten().tolist() for row in found[0, -1, :, prefix:]]
    return rows


def patterns() -> dict[str, Any]:
    return RECORDS["SparseAttention/patterns"]  # type: ignore[no-any-return]


SPARSE: dict[str, dict[str, Any]] = {
    "sparse_local_paper": {"patterns": ("local",), "wide": True, "causal": True},
    "sparse_local_code": {"patterns": ("local",), "causal": True},
    "sparse_strided": {"patterns": ("strided",), "causal": True},
    "sparse_fixed_first": {"patterns": ("block",), "causal": True},
    "sparse_fixed_second": {"patterns": ("summary",), "causal": True},
    "sparse_strided_noncausal": {"patterns": ("strided",)},
    "sparse_same_block_noncausal": {"patterns": ("block",)},
}


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("size", [(4, 4), (16, 1)])
def test_patterns_of_the_sparse_transformer(name: str, size: tuple[int, int]) -> None:
    part = SparseAttention(8, heads=2, stride=patterns()[name]["l"], **SPARSE[name])
    assert keys_of(part, size) == patterns()[name]["rows"]


@pytest.mark.parametrize(
    ("first", "second"),
    [("sparse_local_code", "sparse_strided"), ("sparse_fixed_first", "sparse_fixed_second")],
)
def test_two_patterns_are_merged_or_of_heads(first: str, second: str) -> None:
    both = SPARSE[first]["patterns"] + SPARSE[second]["patterns"]
    merged = SparseAttention(8, heads=1, patterns=both, causal=True, stride=4)
    one, other = patterns()[first]["rows"], patterns()[second]["rows"]
    assert keys_of(merged) == [sorted({*a, *b}) for a, b in zip(one, other, strict=True)]
    heads = SparseAttention(8, heads=4, patterns=both, merge=False, causal=True, stride=4)
    assert keys_of(heads) == other  # of the last head


@pytest.mark.parametrize("name", ["longformer_window", "longformer_dilated", "longformer_window_global"])
def test_windows_of_longformer(name: str) -> None:
    entry = patterns()[name]
    known = tuple(entry.get("global", ()))
    options = {"window": entry["w"], "dilations": (entry.get("d", 1),), "global_tokens": known}
    part = LongformerAttention(8, (4, 4), 0, heads=2, **options)
    rows = keys_of(part)
    # The map has the row of each token before the global ones are overwritten, and a column apart for each global key.
    expected = [row for i, row in enumerate(entry["rows"]) if i not in known]
    found = [sorted({*row, *known}) for i, row in enumerate(rows) if i not in known]
    assert found == expected
    assert not any(set(row) & set(known) for row in rows)


def test_every_pattern_is_compared() -> None:
    longformer = {"longformer_window", "longformer_dilated", "longformer_window_global"}
    assert {name for name in patterns() if name not in ("n", "note")} == {*SPARSE, *longformer}


DDF_KEYS = {"spatial_branch.0": "spatial", "channel_branch.1": "squeeze", "channel_branch.3": "expand"}


@pytest.mark.parametrize("path", of("DDF"))
def test_a_decoupled_dynamic_filter(path: str) -> None:
    record = RECORDS[path]
    config = record["config"]
    names = {"kernel_combine": "combine", "kernel_size": "kernel", "head": "heads"}
    chosen = {names.get(key, key): value for key, value in config.items() if key != "in_channels"}
    part = DecoupledDynamicFilter(config["in_channels"], **chosen)
    state = {key.replace("channel_branch.4.std", "std"): t for key, t in golden.state_of(record).items()}
    for theirs, ours in DDF_KEYS.items():
        state = {key.replace(theirs, ours): t for key, t in state.items()}
    part.load_state_dict(state)
    with torch.no_grad():
        out = part.eval()(Tokens.of_map(golden.image(record["input"]))).map
    expected = record["output"]
    assert_recorded(out, expected, path, channels=True)
    middle = out[1, :8, out.shape[2] // 2, out.shape[3] // 2]
    torch.testing.assert_close(middle, torch.tensor(expected["middle"]), rtol=1e-5, atol=1e-5)
