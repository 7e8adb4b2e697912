"""Every registered part fulfils the contract, with its defaults and with the options that change what it does."""

import pytest
import torch
from tests.parts.contract import AROUND, MESSENGERS, Case, PartContract, build, every_part
from torch import nn

from hexavit import Backbone
from hexavit.parts import Tokens, register_part

VARIANTS = (
    Case("tokens", "conv", {"kernel": 2, "stride": 2, "padding": 0, "norm": False}),
    Case("position", "learned", {"extra_rows": False, "resize": "bicubic"}),
    Case("tokens", "conv", {"norm": "batch", "eps": 1e-5}),
    Case("position", "learned", {"resize": "bicubic_plain"}, ("head=pool",)),
    Case("position", "learned", {"resize": "bilinear_plain"}),
    Case("attention", "spatial_reduction", {"sr_ratio": 2, "eps": 1e-5}),
    Case("attention", "spatial_reduction", {"sr_ratio": 8, "qkv_bias": False, "head_dim": 3}),
    Case("attention", "spatial_reduction", {"sr_ratio": 3, "method": "depthwise", "mix_heads": True}),
    Case("attention", "spatial_reduction", {"method": "pool", "side": 3}),
    Case("attention", "spatial_reduction", {"method": "pyramid"}),
    Case("attention", "global", {"head_dim": 5, "qkv_bias": False}),
    Case("attention", "conv_projection", {"method": "avg", "scale": "head_dim"}),
    Case("attention", "conv_projection", {"method": "linear"}),
    Case("attention", "conv_projection", {"share_kv": True, "kernel": 5, "padding_q": 2, "padding_kv": 2}),
    Case("attention", "conv_projection", {"stride_q": 2, "stride_kv": 1, "head_dim": 3}),
    Case("attention", "pooling", {"stride_q": 2, "residual_q": False, "qkv_bias": False, "head_dim": 3}),
    Case("attention", "pooling", {"stride_kv": 4, "pool_q": False, "kernel": 5}, ("head=pool",)),
    Case("attention", "pooling", {"stride_q": 2, "stride_kv": 3}, ("stages.1.position=decomposed_relative",)),
    Case("attention", "pooling", {"window": 4, "stride_kv": 2}),
    Case("attention", "pooling", {"window": 2, "stride_q": 2}, ("stages.1.position=decomposed_relative", "head=pool")),
    Case("position", "decomposed_relative", edits=("stages.1.attention=pooling(heads=2, stride_q=2)", "head=pool")),
    Case("position", "decomposed_relative", edits=("stages.1.attention=pooling(heads=2, window=4, stride_kv=2)",)),
    Case("position", "decomposed_relative", edits=("stages.1.attention=window(heads=2, window=2, shifted=true)",)),
    Case("position", "decomposed_relative", edits=("stages.1.attention=pooling(heads=2, stride_kv=2)",)),
    Case("attention", "conv_bottleneck", {"stride": 2, "ratio": 0.5}, ("stages.1.residual=post_act",)),
    Case("attention", "bottleneck", {"heads": 2, "stride": 2, "ratio": 0.5}, ("stages.1.residual=post_act",)),
    Case("attention", "bottleneck", {"heads": 4, "act": "silu"}, ("stages.1.position=decomposed_relative",)),
    Case("position", "decomposed_relative", {"scaled": True}, ("head=pool",)),
    Case("residual", "post_act", {"act": "silu"}, ("stages.1.attention=conv_bottleneck(stride=2)",)),
    Case("attention", "re_attention", {"transform_scale": True}),
    Case("attention", "window", {"window": 2, "shifted": True}, ("stages.1.position=relative_bias",)),
    Case("attention", "window", {"window": 3, "shifted": True, "cosine": True, "key_bias": False}, ("head=pool",)),
    Case("attention", "window", {"window": 9, "shrink": False}, ("head=pool",)),
    Case("attention", "window", {"window": (3, None)}, ("stages.1.position=relative_bias",)),
    Case("attention", "window", {"window": (None, 2), "shifted": True}, ("stages.1.position=lepe",)),
    Case("attention", "window", {"window": (2, 3), "spread": True}, ("stages.1.position=continuous_bias",)),
    Case("attention", "window", {"window": 2, "spread": True}, ("stages.1.position=lepe(reach=map)",)),
    Case("attention", "ddf", {"combine": "add", "heads": 2, "stride": 2, "kernel": 5, "dilation": 2}),
    Case("attention", "depthwise", {"filters": "dynamic", "kernel": 3, "reduction": 2}, ("head=pool",)),
    Case("attention", "depthwise", {"filters": "inhomogeneous", "kernel": 3, "heads": 2}),
    Case("attention", "local", {"kernel": 3, "terms": "qk+qr+rk+r", "norm": "filter_norm"}),
    Case("attention", "local", {"kernel": 3, "terms": "r", "norm": "identity", "heads": None}),
    Case("attention", "local", {"kernel": 3, "terms": "qk+qr+rk+r", "application": "window", "shifted": True}),
    Case(
        "attention",
        "local",
        {"kernel": 3, "terms": "hadamard", "group_width": 4, "lam": 1, "gamma": 1.0, "scale": 1.0, "dilation": 2},
    ),
    Case("attention", "cross_shaped", {"split": 4, "head_dim": 3}, ("stages.1.position=relative_bias",)),
    Case("attention", "cross_shaped", {"split": None, "qkv_bias": False}, ("stages.1.position=lepe",)),
    Case("attention", "non_local", {"pairwise": "gaussian", "sub_sample": "after", "norm": False}),
    Case("attention", "non_local", {"pairwise": "dot_product", "reduction": 4}),
    Case("attention", "non_local", {"pairwise": "concatenation", "sub_sample": None}, ("head=pool",)),
    Case("attention", "local_relation", {"kernel": 3, "stride": 2, "compose": "absolute", "channels": 4}),
    Case("attention", "local_relation", {"kernel": 3, "dilation": 2, "compose": "squared"}, ("head=pool",)),
    Case("attention", "evolving", {"act": "leaky_relu", "conv_share": 0.5}, ("stages.0.attention=evolving(heads=2)",)),
    Case("attention", "evolving", edits=("stages.1.position=relative_bias", "stages.1.depth=2")),
    Case("attention", "evolving_conv", {"half": True}, ("stages.1.position=decomposed_relative",)),
    Case("attention", "evolving_conv", {"stride": 2, "value_share": 1.0}),
    Case("attention", "sparse", {"patterns": ("block",), "stride": 4}, ("head=pool",)),
    Case("attention", "sparse", {"patterns": ("local", "summary"), "merge": False, "causal": True}),
    Case("attention", "sparse", {"patterns": ("local", "strided", "summary"), "stride": 7, "wide": True}),
    Case("attention", "longformer", {"window": 2, "dilations": (1, 2), "global_tokens": (3,)}, ("head=pool",)),
    Case("attention", "longformer", {"window": 2, "two_d": True, "global_projection": False}),
    Case("attention", "longformer", {"window": 4, "two_d": True, "dilations": (2,)}, ("head=pool",)),
    Case("position", "spatial_gate", {"kernel": 3, "norm": False}),
    Case(
        "attention",
        "messenger_window",
        {"window": 3, "head_dim": 3, "qkv_bias": False},
        (f"stages.1.tokens={MESSENGERS.replace('window=2', 'window=3')}", "stages.1.position=relative_bias"),
    ),
    Case(
        "attention",
        "messenger_window",
        {"window": 2},
        (f"stages.1.tokens={MESSENGERS}", "stages.1.position=lepe(reach=map, bias=false)", "head=messengers"),
    ),
    Case(
        "attention",
        "messenger_window",
        {"window": 2},
        (f"stages.1.tokens={MESSENGERS}", "stages.1.position=lepe"),
    ),
    Case("residual", "messenger_exchange", {"window": 2, "region": 1}, AROUND["residual", "messenger_exchange"]),
    Case("position", "lepe", {"reach": "map"}, ("stages.1.attention=window(heads=2, window=4, shifted=true)",)),
    Case("position", "lepe", {"kernel": 5}, ("stages.1.attention=window(heads=2, window=3, spread=true)",)),
    Case("position", "relative_bias", edits=("stages.1.attention=window(heads=2, window=3)",)),
    Case("position", "continuous_bias", {"spacing": "linear", "pretrained_window": 3}),
    Case("position", "continuous_bias", edits=("stages.1.attention=window(heads=2, window=2, shifted=true)",)),
    Case("tokens", "patch_merging", {"norm": "after"}),
    Case("tokens", "patch_merging", {"norm": "batch"}),
    Case("tokens", "conv_stem", {"channels": (4,), "kernels": (3,), "strides": (2,), "bias": True, "act": "relu6"}),
    Case("feedforward", "depthwise_conv", {"kernel": 3, "bias": False}),
    Case("residual", "pre_norm", {"norm": "batch", "stochastic_depth": False}),
    Case("attention", "global", {"scale": "dim"}),
    Case("tokens", "tokens_to_token", {"kind": "transformer", "token_dim": 8}),
    Case(
        "tokens",
        "conv_stem",
        {"channels": (4, 6), "kernels": (3, 1), "strides": (1, 1), "act": None, "pool": True, "last_kernel": 2},
    ),
    Case(
        "tokens",
        "conv_stem",
        {"channels": (4,), "kernels": (3,), "strides": (1,), "last_kernel": 3, "last_padding": 1, "last_bias": False},
    ),
    Case(
        "tokens",
        "conv_stem",
        {"channels": (4, 16), "kernels": (3, 3), "strides": (1, 1), "pool": True, "last_kernel": None},
    ),
    Case("tokens", "join_resolutions", {"inner": 4}, ("stages.0.tokens=add_resolution",)),
    Case(
        "feedforward",
        "resolution_fusion",
        {},
        (
            "stages.0.tokens=add_resolution",
            "stages.1.tokens=add_resolution",
            "stages.1.block.1.residual=post_act",
            "stages.1.attention=window(heads=2, window=3, shrink=false, padding=centre)",
            "stages.1.position=relative_bias",
        ),
    ),
    Case("attention", "window", {"window": 4, "shrink": False, "padding": "centre"}, ("stages.1.position=lepe",)),
    Case("feedforward", "conv_mlp", {"last_act": "relu"}),
    Case("tokens", "bottleneck_stem", {"inner": 4, "channels": (6, 16)}),
    Case("tokens", "progressive_sampling", {"gamma": 0.1}, ("stages.0.tokens=progressive_sampling(points=3)",)),
    Case("tokens", "reduction_cell", {"kernel": 7, "stride": 4, "dilations": (1, 2, 3), "embed_dim": 5, "eps": 1e-5}),
    Case("tokens", "reduction_cell", {"attend": False, "stride": 1}),
    Case("feedforward", "conv_module", {"groups": 4, "layers": 2, "act": "relu"}),
    Case("position", "peg", {"kernel": 5}),
    Case("position", "pixel_attention", {"kernel": 5}),
    Case("feedforward", "conv_mlp", {"norm": False, "first_act": "relu"}),
    Case("feedforward", "conv_mlp", {"norm": False, "first_act": None}),
    Case("feedforward", "conv_mlp", {"excite": "se", "bias": False, "extra": "zero"}),
    Case("feedforward", "conv_mlp", {"excite": "eca", "norm": False, "kernel": 5}),
    Case("feedforward", "conv_mlp", {"excite": "eca_hard", "act": "relu6"}),
    Case("tokens", "token_learner", {"count": 1, "hidden": 3}, ("head=pool",)),
    Case("tokens", "token_learner_v1", {"count": 2, "mean": True}, ("head=pool",)),
    Case("tokens", "token_fuser", {"hidden": 8, "norms": False}, ("head=pool",)),
    Case("tokens", "words", {"patch": 2, "word_dim": 4, "kernel": 3, "stride": 1, "whole": True}),
    Case("tokens", "words", {"patch": 3, "word_dim": 4, "stride": 2, "unused": True}),
    Case(
        "feedforward",
        "inner_transformer",
        {"each": True, "qkv_bias": True, "ratio": 2.0},
        AROUND["feedforward", "inner_transformer"],
    ),
    Case("feedforward", "excited_mlp", {"reduction": 2, "act": "relu"}),
    Case("feedforward", "mlp", {"ratio": 1.5, "act": "quick_gelu"}),
    Case("residual", "pre_norm", {"layer_scale": 0.1}),
    Case("residual", "res_post_norm", {"extra_norm": True}),
    Case("residual", "post_norm", edits=("stages.1.attention=conv_projection(heads=2, stride_q=2)",)),
    Case("residual", "pre_norm", {"stage_norm": True}),
    Case("residual", "pre_norm", {"skip_lam": 2.0, "block_scale": 0.5}),
    Case("head", "two_heads", {"enter": 0}),
    Case("head", "class_token", {"pre_logits": True, "enter": 0}),
    Case("head", "pool", {"norm": False}),
    Case("head", "class_token", {"mean": True, "enter": 0}),
)


class TestEveryPart(PartContract):
    cases = tuple(every_part())


class TestEveryVariant(PartContract):
    cases = VARIANTS

    @pytest.mark.slow
    def test_captured_as_one_graph(self, case: Case, model: Backbone, images: torch.Tensor) -> None:
        super().test_captured_as_one_graph(case, model, images)


@pytest.mark.usefixtures("restored_registries")
def test_the_contract_notices_a_part_that_breaks_it() -> None:
    @register_part("feedforward", "boastful")
    class Boastful(nn.Module):
        """Declares no cost, and reads the grid without declaring it."""

        def __init__(self, dim: int) -> None:
            super().__init__()
            self.linear = nn.Linear(dim, dim)

        def forward(self, tokens: Tokens) -> Tokens:
            return tokens.with_image(self.linear(tokens.grid).flatten(1, 2))

        def macs(self, size: tuple[int, int], extra: int = 0) -> int:
            return 0

    case, contract = Case("feedforward", "boastful"), PartContract()
    with pytest.raises(AssertionError):
        contract.test_its_docstring_has_paper_shapes_and_cost(case)
    with pytest.raises(AssertionError):
        contract.test_its_formula_is_what_is_counted(case, build(case))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(AssertionError):
        contract.test_the_grid_is_read_only_where_that_is_declared(case, build(case), torch.randn(2, 3, 12, 10), patch)
