"""`create_model` and where it looks."""

import subprocess
import sys

import pytest
import torch

import hexavit
from hexavit.errors import HexavitError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_local_model_does_not_import_the_hub() -> None:
    program = """
import sys, hexavit
hexavit.create_model("cvt_nano")
print([name for name in sys.modules if name.startswith(("hexavit.hub", "huggingface_hub"))])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_drop_rates() -> None:
    model = hexavit.create_model("cvt_nano", drop_rate=0.1, drop_path_rate=0.3)
    assert model.head.drop.p == 0.1
    assert model.architecture.stages[-1].drop_path == 0.3
    assert hexavit.create_model("cvt_13", drop_path_rate=0.0).architecture.stages[-1].drop_path == 0
    assert [stage.drop_path for stage in hexavit.create_model("cvt_13", drop_path_rate=0.2).architecture.stages] == [
        *(0, 0, 0.2)
    ]
    paths = {"stages.*.drop_path": 0.5}
    both = hexavit.create_model("cvt_nano", drop_rate=0.1, drop_path_rate=0.3, overrides=paths)
    assert [stage.drop_path for stage in both.architecture.stages] == [0.5] * 3
    assert both.head.drop.p == 0.1
    listed = hexavit.create_model("cvt_nano", drop_path_rate=0.3, overrides=["stages.*.drop_path=0.5"])
    assert listed.architecture.stages == both.architecture.stages
    with pytest.raises(HexavitError):
        hexavit.create_model("cvt_nano", drop_path_rate=1.5)


def test_feature_maps() -> None:
    model = hexavit.create_model("cvt_nano", features_only=True, out_indices=2)
    assert [tuple(one.shape) for one in model(torch.zeros(2, 3, 32, 32))] == [(2, 64, 4, 4), (2, 128, 2, 2)]
    with pytest.raises(HexavitError, match="out_indices selects feature maps: pass features_only=True with it"):
        hexavit.create_model("cvt_nano", out_indices=1)
