"""Parameters and multiply-adds of every published size equal the counts of the authors' models."""

import math

import pytest

import hexavit
from hexavit.models import model_entry
from hexavit.parts.positions import DecomposedRelative
from hexavit.profiling import costs

# Millions of parameters (constants that the authors hold as parameters included) and giga multiply-adds as counted of
# the authors' code, to the digits given; "-" where it was not counted. The two large ViT-P: as printed in the paper,
# which cuts the 35.97 G of the last to 35.9.
COUNTS = """
vit_tiny_patch16_224 5.717 1.254
vit_small_patch16_224 22.051 4.599
vit_small_patch32_224 22.879 1.143
vit_base_patch8_224 86.577 78.148
vit_base_patch16_224 86.568 17.564
vit_base_patch32_224 88.224 4.409
vit_large_patch16_224 304.327 61.555
vit_large_patch32_224 306.535 15.378
vit_huge_patch14_224 632.046 167.295
deit_tiny_patch16_224 5.717 1.254
deit_small_patch16_224 22.051 4.599
deit_base_patch16_224 86.568 17.564
deit_tiny_distilled_patch16_224 5.911 1.261
deit_small_distilled_patch16_224 22.436 4.624
deit_base_distilled_patch16_224 87.338 17.657
deit_base_patch16_384 86.859 55.484
deit_base_distilled_patch16_384 87.630 55.591
cait_xxs24_224 11.956 2.523
cait_xxs36_224 17.300 3.756
cait_xs24_224 26.561 5.390
cait_s24_224 46.916 9.327
cait_s36_224 68.221 13.902
cait_m36_224 270.930 53.367
cait_m48_448 356 -
deepvit_patch16_224_re_attn_16b 24.427 5.272
deepvit_patch16_224_re_attn_24b 36.261 7.879
deepvit_patch16_224_re_attn_32b 48.096 10.486
deepvit_s 27.313 6.361
deepvit_l 58.884 13.149
deepvit_l_384 59.043 44.792
lvvit_t_224 8.535 2.868
lvvit_s_224 26.152 6.551
lvvit_s_384 26.298 21.896
lvvit_m_224 55.831 12.678
lvvit_m_384 56.03 -
lvvit_m_448 56.13 -
lvvit_l_448 150.474 155.116
lvvit_l_512 150.66 -
t2t_vit_7 4.310 1.147
t2t_vit_10 5.889 1.516
t2t_vit_12 6.942 1.763
t2t_vit_14 21.546 4.783
t2t_vit_19 39.177 8.480
t2t_vit_24 64.106 13.662
t2t_vit_t_14 21.541 6.089
t2t_vit_t_19 39.173 9.785
t2t_vit_t_24 64.101 14.967
pvt_tiny 13.229 1.933
pvt_small 24.486 3.816
pvt_medium 44.208 6.659
pvt_large 61.369 9.814
pvt_v2_b0 3.667 0.566
pvt_v2_b1 14.009 2.108
pvt_v2_b2 25.363 4.027
pvt_v2_b2_li 22.554 3.889
pvt_v2_b3 45.239 6.897
pvt_v2_b4 62.556 10.101
pvt_v2_b5 81.956 11.717
cswin_tiny_224 22.321 4.324
cswin_small_224 34.643 6.801
cswin_base_224 77 -
cswin_large_224 173.26 33.1
cswin_base_384 77 -
cswin_large_384 173.26 -
shuffle_tiny 28.532 4.6726
shuffle_small 50.076 8.9672
shuffle_base 88.399 -
msg_tiny_p4_win7_224 25.086 3.8209
msg_small_p4_win7_224 55.969 8.4592
msg_base_p4_win7_224 84 -
gg_t 28.348 -
gg_s 50 -
mvit_b_16_conv 36.983 7.809
mvitv2_tiny 24.173 4.677
mvitv2_small 34.870 6.960
mvitv2_base 51.473 10.102
mvitv2_large 217.993 43.711
mvitv2_huge 667 -
mvitv2_small_cls 34.870 6.999
mvitv2_base_cls 51.473 10.161
mvitv2_large_cls 213.636 41.996
mvitv2_huge_cls 666.880 120.305
twins_pcpvt_small 24.106 3.81
twins_pcpvt_base 43.828 6.65
twins_pcpvt_large 60.990 9.81
twins_svt_small 24.061 2.93
twins_svt_base 56.071 8.56
twins_svt_large 99.271 15.11
rest_lite 10.508 1.533
rest_small 13.680 2.093
rest_base 30.327 4.626
rest_large 51.676 8.360
p2t_tiny 11.591 1.789
p2t_small 24.080 3.774
p2t_base 36.066 6.532
p2t_large 54.477 9.828
localvit_pvt_tiny 13.456 1.978
localvit_swin_tiny_patch4_window7_224 29.079 4.543
t2t_vit_14_resnext 21.546 4.783
t2t_vit_14_wide 25.156 5.229
vit_p_1gf 4.830 1.079
vit_p_4gf 18.507 3.902
vit_p_18gf 86.6 17.6
vit_p_36gf 178.4 -
vit_c_1gf 4.568 1.076
vit_c_4gf 17.754 3.959
vit_c_18gf 81.573 17.711
vit_c_36gf 167.796 35.002
cpvt_tiny 5.682 1.254
cpvt_tiny_peg5 5.689 1.255
cpvt_tiny_gap_peg5 5.689 1.248
cpvt_small 21.979 4.600
cpvt_small_peg5 21.994 -
cpvt_small_gap_peg5 21.994 -
cpvt_base_peg5 86.455 -
cpvt_base_gap_peg5 86.454 -
ceit_tiny_patch16_224 6.357 1.395
ceit_tiny_patch16_384 6.430 5.103
ceit_small_patch16_224 24.205 4.760
ceit_small_patch16_384 24.351 15.98
ceit_base_patch16_224 94.405 17.75
localvit_tiny_mlp4_act3_r192 5.909 1.266
localvit_tiny_mlp4_act3_r4 9.376 1.270
localvit_tiny_mlp6_act1 7.655 1.621
localvit_small_mlp4_act3_r384 22.433 4.617
localvit_t2t_conv7 4.385 1.154
localvit_tnt_t_patch16_224 6.261 1.417
tokenlearner_ti16_tl8_at6 5.730 -
tokenlearner_ti16_tl8_at6_v1 5.733 -
tokenlearner_ti16_tl8_at9_fuser 5.799 -
tokenlearner_s16_tl16_at9 22.076 -
tokenlearner_b16_tl16_at9 86.618 -
tnt_ti_patch16_224 6.114 1.404
tnt_s_patch16_224 23.844 5.217
tnt_b_patch16_224 65.554 14.049
tnt_s_legacy_patch16_224 23.755 5.217
ps_vit_ti_14 4.778 1.565
ps_vit_b_10 21.3 3.1
ps_vit_b_14 21.344 5.380
ps_vit_b_16 21.344 6.911
ps_vit_b_18 21.344 8.741
botnet26t_256 12.489 -
botnet_50 20.9 -
botnet_s1_50 20.9 -
botnet_101 39.8 -
botnet_152 55.5 -
hrt_tiny 8.036 1.708
hrt_small 13.545 3.364
hrt_base 50.320 13.308
vitae_tiny 4.887 1.757
vitae_6m 6.614 2.152
vitae_13m 10.83 3.04
vitae_small 24.03 6.18
vitae_base 89.342 18.084
dwnet_tiny 24.173 3.727
dwnet_base 74.3 -
dynamic_dwnet_tiny 51.132 3.754
dynamic_dwnet_base 162 -
i_dynamic_dwnet_tiny 26.244 4.374
i_dynamic_dwnet_base 80.3 14.3
elsa_swin_tiny 29.141 4.704
elsa_swin_small 52.875 9.445
elsa_swin_base 92.68 16.52
"""
ROWS = [line.split() for line in COUNTS.split("\n") if line]


def close(counted: float, expected: str) -> bool:
    """Equal to the digits given: within the last one."""
    digits = len(expected.partition(".")[2])
    return abs(counted - float(expected)) <= 10**-digits * 0.51


@pytest.mark.parametrize(("name", "params", "gmacs"), ROWS)
def test_the_authors_count(name: str, params: str, gmacs: str) -> None:
    counted_params, counted_macs = costs([name])[name]
    assert close(counted_params / 1e6, params), counted_params
    assert gmacs == "-" or close(counted_macs / 1e9, gmacs), counted_macs


def test_every_model_of_these_systems_is_counted_or_another_size_of_one_that_is() -> None:
    counted = {name for name, *_ in ROWS}
    families = {model_entry(name).family for name in counted}
    blocks = {model_entry(name).architecture.with_(name="", img_size=(224, 224)) for name in counted}
    left = [
        name
        for name in hexavit.list_models()
        if model_entry(name).family in families
        and not name.endswith("_nano")
        and name not in counted
        and model_entry(name).architecture.with_(name="", img_size=(224, 224)) not in blocks
    ]
    # LocalViT's builder for these two is one with another activation; records of both are compared whole.
    assert [name for name in left if not name.startswith(("localvit_tiny_mlp4_act2", "localvit_tiny_mlp4_act4"))] == []


def test_timm_computes_botnets_positions_of_all_offsets() -> None:
    """Its count is ours and, for each query, the offsets on either axis that none of its keys has."""
    model = hexavit.create_model("botnet26t_256")
    positions = [m for m in model.modules() if isinstance(m, DecomposedRelative)]
    assert [part.scope for part in positions] == [(16, 16), (16, 16), (8, 8)]
    unused = sum(math.prod(part.scope) * 4 * part.table_h.shape[1] * (sum(part.scope) - 2) for part in positions)
    assert close((hexavit.profile(model).macs + unused) / 1e9, "3.2974")
