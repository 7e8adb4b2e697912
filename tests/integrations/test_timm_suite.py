"""timm's own `tests/test_models.py`, fetched from its source distribution, run over the nano models."""

import importlib.metadata
import subprocess
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

import hexavit

PLUGIN = """
import timm
import hexavit

NANO = [name for name in hexavit.register_with_timm() if name.endswith("_nano")]

def list_models(filter="", module="", pretrained=False, **_):
    return [] if pretrained or str(filter).startswith("efficientnet") else NANO

timm.list_models = list_models
timm.list_pretrained = lambda *_: []
"""
"""Lists hexavit's nano models in place of timm's."""

TESTS = {
    "test_model_forward",
    "test_model_backward",
    "test_model_default_cfgs",
    "test_model_default_cfgs_non_std",
    "test_model_forward_features",
    "test_model_forward_intermediates",
    "test_model_forward_intermediates_features",
    "test_model_forward_fx",
    "test_model_backward_fx",
    "test_model_forward_torchscript",
    "test_model_forward_fx_torchscript",
}
"""The tests of the suite that run over every model, but for `test_prune_intermediate_layers_contract`: hexavit's models
have no `prune_intermediate_layers`, which timm's own users do without if it is missing; `features_only` prunes."""

WRONG_FOR_ALL = {
    "test_model_default_cfgs": "it is for models whose forward_features gives maps; ours gives token sequences, as "
    "timm's ViT, CaiT and Twins, for which test_model_default_cfgs_non_std is",
    "test_model_forward_torchscript": "torch.jit.script, which PyTorch has deprecated, cannot compile `Tokens`",
    "test_model_forward_fx_torchscript": "the same",
}
WRONG_FOR = {
    ("test_model_backward", "t2t_vit_nano"): "its random features are a frozen parameter, as in the authors' files",
    ("test_model_backward_fx", "t2t_vit_nano"): "the same",
    ("test_model_default_cfgs_non_std", "t2t_vit_nano"): "its first layer is no convolution: first_conv is None",
    ("test_model_backward", "vitae_nano"): "its random features are a frozen parameter, as in the authors' files",
    ("test_model_backward_fx", "vitae_nano"): "the same",
    ("test_model_forward_features", "ps_vit_nano"): "its blocks give points, which have no map and no reduction",
    ("test_model_forward_intermediates", "ps_vit_nano"): "the same",
    ("test_model_forward_intermediates", "tokenlearner_nano"): "between its learned tokens and their fusion is no map",
}


@pytest.mark.slow
def test_timms_suite_passes_but_for_the_listed_tests(tmp_path: Path) -> None:
    version = importlib.metadata.version("timm")
    fetch = [*(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", f"timm=={version}")]
    done = subprocess.run(fetch, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"no package index gives the source of timm {version}: {done.stderr.strip()[-200:]}")
    with tarfile.open(tmp_path / f"timm-{version}.tar.gz") as source:
        content = source.extractfile(f"timm-{version}/tests/test_models.py").read()
    (tmp_path / "test_models.py").write_bytes(content)
    (tmp_path / "nano_models.py").write_text(PLUGIN)
    run = [*(sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "-W", "ignore", "-p", "no:cacheprovider")]
    run += ["-p", "nano_models", "test_models.py", "-k", "nano and not prune", "--junitxml", "results.xml"]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = ['.', {str(Path(hexavit.__file__).parents[1])!r}]\n"
         f"import pytest; sys.exit(pytest.main({run[3:]!r}))"],
        cwd=tmp_path, capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert (tmp_path / "results.xml").exists(), done.stdout + done.stderr
    passed, failed = set(), set()
    for case in ElementTree.parse(tmp_path / "results.xml").iter("testcase"):
        test, _, given = case.attrib["name"].partition("[")
        model = given.rstrip("]").partition("-")[2].removeprefix("hexavit_")
        (failed if len(case) else passed).add((test, model))
    assert {test for test, _ in passed | failed} == TESTS
    nano = hexavit.list_models("*_nano")
    assert len(passed | failed) == len(TESTS) * len(nano)
    wrong = {(test, model) for test in WRONG_FOR_ALL for model in nano} | set(WRONG_FOR)
    assert failed == wrong, (sorted(failed - wrong), sorted(wrong - failed))
