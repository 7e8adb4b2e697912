"""Training and evaluation settings of the authors' code and papers, written here and not read from the library.

Sources are the authors' repositories at the commits that the models' files name, or the papers if the code is silent.
"""

from fnmatch import fnmatch

import pytest

import hexavit
from hexavit.models import model_entry

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

# Pattern, rate of each stage (one for all stages), ramp, source. The first pattern that matches counts.
DROP_PATH: tuple[tuple[str, tuple[float, ...], str, str], ...] = (
    ("cvt_13_vit_pytorch", (0.0,), "model", "lucidrains/vit-pytorch: has none"),
    ("cvt_13", (0.0, 0.0, 0.1), "stage", "microsoft/CvT, experiments/imagenet/cvt"),
    ("cvt_21", (0.0, 0.0, 0.1), "stage", "microsoft/CvT, experiments/imagenet/cvt"),
    ("cvt_w24", (0.0, 0.0, 0.3), "stage", "microsoft/CvT, experiments/imagenet/cvt"),
    ("deit_*", (0.1,), "model", "facebookresearch/deit, main.py --drop-path"),
    ("cait_xxs24_*", (0.05, 0.0), "constant", "CaiT, appendix; class blocks 0 in cait_models.py"),
    ("cait_xxs36_*", (0.1, 0.0), "constant", "CaiT, appendix"),
    ("cait_xs24_*", (0.05, 0.0), "constant", "CaiT, appendix"),
    ("cait_s24_*", (0.1, 0.0), "constant", "CaiT, appendix"),
    ("cait_s36_*", (0.2, 0.0), "constant", "CaiT, appendix"),
    ("cait_m36_*", (0.3, 0.0), "constant", "CaiT, appendix"),
    ("deepvit_*", (0.2,), "model", "zhoudaquan/dvit_repo, scripts"),
    ("lvvit_s_*", (0.1,), "model", "zihangJiang/TokenLabeling, README"),
    ("lvvit_m_*", (0.2,), "model", "zihangJiang/TokenLabeling, README"),
    ("lvvit_l_*", (0.3,), "model", "zihangJiang/TokenLabeling, README"),
    ("t2t_vit_*", (0.1,), "model", "yitu-opensource/T2T-ViT, main.py --drop-path"),
    ("vit_[cp]_*", (0.0,), "model", "Early convolutions, appendix: no stochastic depth"),
    ("cpvt_*", (0.1,), "model", "CPVT, section 4"),
    ("ceit_*", (0.1,), "model", "coeusguo/ceit, main.py --drop-path"),
    ("localvit_swin_*", (0.1,), "model", "ofsoundof/LocalViT: the factory ignores its arguments"),
    ("localvit_*", (0.1,), "model", "ofsoundof/LocalViT, main.py --drop-path"),
    ("tokenlearner_*", (0.0,), "model", "google-research/scenic: the configured rate is not passed to the encoder"),
    ("tnt_[!n]*", (0.1,), "model", "huawei-noah/Efficient-AI-Backbones, tnt_pytorch/README.md"),
    ("pvt_tiny", (0.1,), "model", "whai362/PVT, configs/pvt"),
    ("pvt_small", (0.1,), "model", "whai362/PVT, configs/pvt"),
    ("pvt_medium", (0.3,), "model", "whai362/PVT, configs/pvt"),
    ("pvt_large", (0.3,), "model", "whai362/PVT, configs/pvt"),
    ("pvt_v2_b[012]*", (0.1,), "model", "whai362/PVT, configs/pvt_v2"),
    ("pvt_v2_b[345]", (0.3,), "model", "whai362/PVT, configs/pvt_v2"),
    ("twins_*_small", (0.2,), "model", "Twins, section 4"),
    ("twins_*_base", (0.3,), "model", "Twins, section 4"),
    ("twins_*_large", (0.5,), "model", "Twins, section 4"),
    ("mvit_b_16_conv", (0.1,), "model", "facebookresearch/SlowFast, configs/ImageNet/MVIT_B_16_CONV.yaml"),
    ("mvitv2_tiny", (0.1,), "model", "facebookresearch/mvit, configs"),
    ("mvitv2_small", (0.1,), "model", "facebookresearch/mvit, configs"),
    ("mvitv2_base", (0.3,), "model", "facebookresearch/mvit, configs"),
    ("mvitv2_large", (0.5,), "model", "facebookresearch/mvit, configs"),
    ("p2t_tiny", (0.1,), "model", "yuhuan-wu/P2T, README"),
    ("p2t_small", (0.1,), "model", "yuhuan-wu/P2T, README"),
    ("p2t_base", (0.3,), "model", "yuhuan-wu/P2T, README"),
    ("p2t_large", (0.3,), "model", "yuhuan-wu/P2T, README"),
    ("rest_lite", (0.1,), "model", "ResT, section 4"),
    ("rest_small", (0.1,), "model", "ResT, section 4"),
    ("rest_base", (0.2,), "model", "ResT, section 4"),
    ("rest_large", (0.3,), "model", "ResT, section 4"),
    ("ps_vit_[!n]*", (0.1,), "model", "yuexy/PS-ViT, its training recipe: linear over all layers"),
    ("vitae_[!n]*", (0.1,), "model", "ViTAE-Transformer/ViTAE-Transformer, main.py --drop-path"),
    ("*dwnet_tiny", (0.2,), "model", "Atten4Vis/DemystifyLocalViT, configs"),
    ("*dwnet_base", (0.5,), "model", "Atten4Vis/DemystifyLocalViT, configs"),
    ("elsa_swin_tiny", (0.1,), "model", "damo-cv/ELSA, README.md: the training commands"),
    ("elsa_swin_small", (0.3,), "model", "damo-cv/ELSA, README.md: the training commands"),
    ("elsa_swin_base", (0.5,), "model", "damo-cv/ELSA, README.md: the training commands"),
    ("botnet*", (0.0,), "model", "timm, byoanet.py: drop_path_rate 0; the paper's recipe was not collected"),
    ("hrt_base", (0.0, 0.2, 0.2, 0.2, 0.0), "model", "HRNet/HRFormer, cls/configs: none in the first stage"),
    ("hrt_*", (0.0,), "model", "HRNet/HRFormer, cls/configs"),
    ("swin_tiny_*", (0.2,), "model", "microsoft/Swin-Transformer, configs/swin"),
    ("swin_small_*", (0.3,), "model", "microsoft/Swin-Transformer, configs/swin"),
    ("swin_base_*", (0.5,), "model", "microsoft/Swin-Transformer, configs/swin"),
    ("swin_large_*", (0.2,), "model", "microsoft/Swin-Transformer, configs/swin"),
    ("cswin_tiny_*", (0.2,), "model", "microsoft/CSWin-Transformer, README.md: the training commands"),
    ("cswin_small_*", (0.4,), "model", "microsoft/CSWin-Transformer, README.md"),
    ("cswin_base_224", (0.5,), "model", "microsoft/CSWin-Transformer, README.md"),
    ("cswin_base_384", (0.7,), "model", "microsoft/CSWin-Transformer, README.md: fine-tuning"),
    ("cswin_large_*", (0.2,), "model", "microsoft/CSWin-Transformer, README.md: fine-tuning"),
    ("shuffle_tiny", (0.0, 0.1 / 3, 0.2 / 3, 0.1), "constant", "mulinmeng/Shuffle-Transformer: linspace(0, rate, 4)"),
    ("shuffle_small", (0.0, 0.1, 0.2, 0.3), "constant", "mulinmeng/Shuffle-Transformer: linspace(0, rate, 4)"),
    ("shuffle_base", (0.0, 0.5 / 3, 1.0 / 3, 0.5), "constant", "mulinmeng/Shuffle-Transformer: linspace(0, rate, 4)"),
    ("msg_tiny_*", (0.1,), "model", "hustvl/MSG-Transformer, configs"),
    ("msg_small_*", (0.3,), "model", "hustvl/MSG-Transformer, configs"),
    ("msg_base_*", (0.5,), "model", "hustvl/MSG-Transformer, configs"),
    ("gg_t", (0.2,), "model", "Glance-and-Gaze, the paper"),
    ("gg_s", (0.3,), "model", "Glance-and-Gaze, the paper"),
    ("swinv2_tiny_*", (0.2,), "model", "microsoft/Swin-Transformer, configs/swinv2"),
    ("swinv2_small_*", (0.3,), "model", "microsoft/Swin-Transformer, configs/swinv2"),
    ("swinv2_base_window12*", (0.2,), "model", "microsoft/Swin-Transformer, configs/swinv2, ImageNet-22k"),
    ("swinv2_base_*", (0.5,), "model", "microsoft/Swin-Transformer, configs/swinv2"),
    ("swinv2_large_*", (0.2,), "model", "microsoft/Swin-Transformer, configs/swinv2"),
)

# Pattern, part of the resized image that is cropped, resizing, (mean, std), source.
EVALUATION: tuple[tuple[str, float, str, tuple[tuple[float, ...], tuple[float, ...]], str], ...] = (
    ("cvt_w24", 1.0, "bicubic", IMAGENET, "microsoft/CvT: at 384 resized straight to the square"),
    ("cvt_13", 0.875, "bicubic", IMAGENET, "microsoft/CvT: 256, then 224"),
    ("cvt_21", 0.875, "bicubic", IMAGENET, "microsoft/CvT: 256, then 224"),
    ("vit_[cp]_*", 0.875, "bicubic", IMAGENET, "Early convolutions: 224, crop 0.875"),
    ("vit_*", 1.0, "bilinear", HALF, "google-research/vision_transformer: (x - 127.5) / 127.5, no crop"),
    ("deit_*", 0.875, "bicubic", IMAGENET, "facebookresearch/deit, datasets.py: int(size / 0.875)"),
    ("cait_[!n]*", 1.0, "bicubic", IMAGENET, "facebookresearch/deit, README_cait.md"),
    ("deepvit_l_384", 1.0, "bicubic", HALF, "zhoudaquan/dvit_repo"),
    ("deepvit_[!n]*", 0.9, "bicubic", HALF, "zhoudaquan/dvit_repo: mean and std 0.5, crop 0.9"),
    ("lvvit_[st]_224", 0.9, "bicubic", IMAGENET, "zihangJiang/TokenLabeling"),
    ("lvvit_[ml]_*", 1.0, "bicubic", IMAGENET, "zihangJiang/TokenLabeling"),
    ("t2t_vit_[!n]*", 0.9, "bicubic", IMAGENET, "yitu-opensource/T2T-ViT: crop 0.9"),
    ("tnt_[!n]*", 0.9, "bicubic", HALF, "huawei-noah/Efficient-AI-Backbones: mean and std 0.5, crop 0.9"),
    ("pvt_v2_*", 0.875, "bicubic", IMAGENET, "whai362/PVT: 256, then 224"),
    ("twins_*", 0.875, "bicubic", IMAGENET, "Meituan-AutoML/Twins: 256, then 224"),
    ("ps_vit_[!n]*", 0.9, "bicubic", IMAGENET, "yuexy/PS-ViT, models/ps_vit.py: default_cfg"),
    ("vitae_[!n]*", 0.9, "bicubic", IMAGENET, "ViTAE-Transformer/ViTAE-Transformer: the models' own crop"),
    ("botnet26t_256", 0.95, "bicubic", IMAGENET, "timm, byoanet.py: default_cfgs"),
    ("hrt_[!n]*", 0.875, "bicubic", IMAGENET, "HRNet/HRFormer, cls: as Swin, 256, then 224"),
    ("mvit*[!o]", 0.875, "bicubic", IMAGENET, "facebookresearch/mvit: 256, then 224"),
    ("rest_[!n]*", 0.9, "bicubic", IMAGENET, "wofmanaf/ResT: the models' own crop"),
    ("cswin_*_224", 0.9, "bicubic", IMAGENET, "microsoft/CSWin-Transformer, models/cswin.py: default_cfgs"),
    ("cswin_*_384", 1.0, "bicubic", IMAGENET, "microsoft/CSWin-Transformer, models/cswin.py: default_cfgs"),
    ("*dwnet_[!n]*", 0.875, "bicubic", IMAGENET, "Atten4Vis/DemystifyLocalViT: resize by 256 / 224, then crop"),
    ("elsa_swin_[!n]*", 0.9, "bicubic", IMAGENET, "damo-cv/ELSA, elsa_swin.py: default_cfgs"),
    ("shuffle_[!n]*", 0.875, "bicubic", IMAGENET, "mulinmeng/Shuffle-Transformer: Swin's recipe, 256, then 224"),
    ("msg_[!n]*", 0.875, "bicubic", IMAGENET, "hustvl/MSG-Transformer: Swin's recipe, 256, then 224"),
    ("swin*384", 1.0, "bicubic", IMAGENET, "microsoft/Swin-Transformer: TEST.CROP false in the configs at 384"),
    ("swin*", 0.875, "bicubic", IMAGENET, "microsoft/Swin-Transformer, data/build.py: resize by 256 / 224, then crop"),
)

# Exempt from weight decay among the parameters of more than one axis; of the small models.
WITHOUT_DECAY: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("cvt_nano", ("*.class_token",), "microsoft/CvT: norms, biases, class token"),
    ("ceit_nano", ("*.class_token", "*.position.table"), "coeusguo/ceit: not the table of layer-wise attention"),
    ("deit_nano", ("*.class_token", "*.position.table"), "facebookresearch/deit (ours: the distillation token too)"),
    ("pvt_nano", ("*.class_token",), "whai362/PVT, pvt.py: no_weight_decay is the class token, position tables decay"),
    (
        "tnt_nano",
        ("*.class_token", "*.position.table", "*.tokens.table"),
        "huawei-noah/Efficient-AI-Backbones: outer_pos, inner_pos, cls_token",
    ),
    ("swin_nano", ("*.attention.position.table",), "microsoft/Swin-Transformer: bias tables"),
    ("shuffle_nano", ("*.attention.position.table",), "mulinmeng/Shuffle-Transformer: bias tables"),
    (
        "msg_nano",
        ("*.attention.position.table", "*.messenger_bias"),
        "hustvl/MSG-Transformer: bias tables, rel_pos_msg; msg_tokens decay, since the list names msg_token",
    ),
    ("gg_nano", ("*.attention.position.table",), "as Swin"),
    ("swin_v2_nano", ("*.logit_scale", "*.position.fc?.weight"), "microsoft/Swin-Transformer: cpb_mlp, logit_scale"),
    ("elsa_swin_nano", ("*.attention.position.table",), "damo-cv/ELSA (ours: the last stage's bias table, as Swin's)"),
    ("twins_pcpvt_nano", ("*.position.conv.weight",), "Meituan-AutoML/Twins: the position generators"),
    ("twins_svt_nano", ("*.position.conv.weight",), "Meituan-AutoML/Twins: the position generators"),
)

# Pattern, eps of the blocks' and the head's LayerNorm, source; of all models. The first pattern that matches counts.
NORM_EPS: tuple[tuple[str, float, str], ...] = (
    ("localvit_t2t_*", 1e-5, "ofsoundof/LocalViT, t2t_vit.py: nn.LayerNorm as it is"),
    ("localvit_tnt_*", 1e-5, "ofsoundof/LocalViT, localvit_tnt.py: nn.LayerNorm as it is"),
    ("tnt_*", 1e-5, "huawei-noah/Efficient-AI-Backbones, tnt.py: nn.LayerNorm as it is"),
    ("localvit_swin_*", 1e-5, "ofsoundof/LocalViT, swin_transformer.py: nn.LayerNorm as it is"),
    ("vit_[cp]_*", 1e-5, "Early convolutions, pycls: the library's default"),
    ("cvt_*", 1e-5, "microsoft/CvT, cls_cvt.py"),
    ("lvvit_*", 1e-5, "zihangJiang/TokenLabeling: nn.LayerNorm as it is"),
    ("t2t_vit_*", 1e-5, "yitu-opensource/T2T-ViT, t2t_vit.py: nn.LayerNorm as it is"),
    ("ps_vit_*", 1e-5, "yuexy/PS-ViT: nn.LayerNorm as it is"),
    ("rest_*", 1e-5, "wofmanaf/ResT: nn.LayerNorm as it is"),
    ("cswin_*", 1e-5, "microsoft/CSWin-Transformer: nn.LayerNorm as it is"),
    ("*dwnet_*", 1e-5, "Atten4Vis/DemystifyLocalViT: nn.LayerNorm and nn.BatchNorm2d as they are"),
    ("elsa_swin_*", 1e-5, "damo-cv/ELSA: nn.LayerNorm as it is"),
    ("shuffle_*", 1e-5, "mulinmeng/Shuffle-Transformer: nn.BatchNorm2d as it is"),
    ("msg_*", 1e-5, "hustvl/MSG-Transformer: nn.LayerNorm as it is"),
    ("gg_*", 1e-5, "Glance-and-Gaze, the paper: as Swin"),
    ("swin*", 1e-5, "microsoft/Swin-Transformer: nn.LayerNorm as it is"),
    ("*", 1e-6, "google-research/vision_transformer, and the authors who pass partial(nn.LayerNorm, eps=1e-6)"),
)


def named(table: tuple[tuple, ...]) -> list[tuple]:
    """Each published model with the first row whose pattern it matches."""
    models = [name for name in hexavit.list_models() if not name.endswith("_nano")]
    found = ((name, next((row for row in table if fnmatch(name, row[0])), None)) for name in models)
    return [(name, *row[1:-1]) for name, row in found if row is not None]


@pytest.mark.parametrize(("name", "rates", "ramp"), named(DROP_PATH))
def test_drop_path(name: str, rates: tuple[float, ...], ramp: str) -> None:
    stages = model_entry(name).architecture.stages
    assert tuple(stage.drop_path for stage in stages) == pytest.approx(rates if len(rates) > 1 else rates * len(stages))
    assert all(stage.ramp == ramp for stage in stages if stage.drop_path)


@pytest.mark.parametrize(("name", "crop", "interpolation", "normalisation"), named(EVALUATION))
def test_evaluation(name: str, crop: float, interpolation: str, normalisation: tuple) -> None:
    preprocessing = model_entry(name).preprocessing
    assert preprocessing.crop_pct == crop
    assert preprocessing.interpolation == interpolation
    assert (preprocessing.mean, preprocessing.std) == normalisation


@pytest.mark.parametrize("name", hexavit.list_models("swin*384"))
def test_swin_at_384_is_resized_to_the_square(name: str) -> None:
    assert model_entry(name).preprocessing.crop_mode == "squash"


@pytest.mark.parametrize("name", hexavit.list_models("swin*_*_*"))
def test_weights_of_swin_keep_what_timm_states(name: str) -> None:
    """timm's `default_cfgs`: crop 0.9, and 1.0 at 384, both from the centre."""
    for weight in model_entry(name).weights:
        stated = weight.preprocessing.crop_pct, weight.preprocessing.crop_mode
        assert stated == (1.0 if name.endswith("384") else 0.9, "center")


@pytest.mark.parametrize(("name", "patterns"), [(name, patterns) for name, patterns, _ in WITHOUT_DECAY])
def test_exemptions_from_weight_decay(name: str, patterns: tuple[str, ...]) -> None:
    model = hexavit.create_model(name)
    matrices = {n for n, parameter in model.named_parameters() if parameter.ndim > 1}
    exempt = {n for n in matrices if any(fnmatch(n, pattern) for pattern in patterns)}
    assert exempt
    assert model.no_weight_decay() & matrices == exempt


@pytest.mark.parametrize(
    ("name", "decays"),
    [("mvit_nano", ("position.table", "class_token")), ("mvit_v2_nano", ("table_h", "table_w"))],
)
def test_mvit_exempts_neither_tables_nor_the_class_token(name: str, decays: tuple[str, ...]) -> None:
    """SlowFast, MVIT_B_16_CONV.yaml (ZERO_DECAY_POS_CLS off); facebookresearch/mvit: only parameters of one axis."""
    model = hexavit.create_model(name)
    named = dict(model.named_parameters())
    assert {end for end in decays for key in named if key.endswith(end)} == set(decays)
    assert not [key for key in model.no_weight_decay() if named[key].ndim > 1]


@pytest.mark.parametrize(("name", "eps"), named(NORM_EPS))
def test_norm_eps(name: str, eps: float) -> None:
    assert model_entry(name).architecture.norm_eps == eps


def test_rates_rise_by_block() -> None:
    """Swin-T's, as the authors' `torch.linspace(0, 0.2, 12)` gives them."""
    model = hexavit.create_model("swin_tiny_patch4_window7_224", overrides=["stages.*.dim=24"])
    rates = [block.attention_residual.drop_path.rate for stage in model.stages for block in stage.blocks]
    assert rates == pytest.approx([0.2 * k / 11 for k in range(12)])
