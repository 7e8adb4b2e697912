"""`hexavit benchmark`: its table, and wrong options."""

from __future__ import annotations

import json

import pytest

from hexavit import benchmarking
from hexavit.benchmarking import Case, Measured, Result
from hexavit.cli import main


def measured(case: Case) -> Result:
    """A measurement without measuring: hexavit takes 0.5 s, another library 1 s."""
    rows = [Measured(*pair, (0.5,) if pair[0] == "hexavit" else (1.0,), 1 << 20) for pair in case.contenders]
    return Result(case, 1_000_000, 1e9, tuple(rows))


def test_every_option_reaches_the_measurement(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases: list[Case] = []
    monkeypatch.setattr(benchmarking, "measure", lambda case: cases.append(case) or measured(case))
    options = "--against timm --engines torch,compile --size 224,192x256 --batch-size 1,4 --train --dtype bfloat16"
    others = "--channels-last --threads 3 --rounds 7 --json"
    assert main(["benchmark", "pvt_v2_b0", *options.split(), *others.split()]) == 0
    pairs = tuple((library, engine) for library in ("hexavit", "timm") for engine in ("torch", "compile"))
    assert cases == [
        Case("pvt_v2_b0", size, batch, pairs, True, "cpu", "bfloat16", True, 3, 7)
        for size in ((224, 224), (192, 256))
        for batch in (1, 4)
    ]
    found = json.loads(capsys.readouterr().out)
    assert found["summary"]["timm"]["fastest"]["geometric_mean"] == pytest.approx(2.0)
    assert len(found["results"]) == 4
    assert "torch 2" in found["processor"]


def test_the_table_names_processor_ratio_and_mean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmarking, "measure", measured)
    assert main(["benchmark", "cvt_13", "--against", "transformers"]) == 0
    out = capsys.readouterr().out
    assert "rounds in turns" in out
    assert "16.00" in out
    assert "hexavit beside transformers, fastest engine: geometric mean 2.000, lowest 2.000, 1 cases" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--engines tensorrt", "--engines takes torch, optimize, save-memory, compile, onnxruntime, openvino"),
        ("--against keras", "--against takes timm, transformers, vit-pytorch"),
        ("--size 22a", "--size takes sides"),
        ("--batch-size 0", "--batch-size takes whole numbers from 1"),
        ("--rounds 0", "at least 1"),
        ("--dtype int8", "--dtype is float32, bfloat16, float16"),
        ("--device tpu", "--device is cpu or cuda"),
        ("--train --engines onnxruntime", "--train is measured with the engines torch and compile"),
        ("--dtype bfloat16 --engines openvino", "--device cpu and --dtype float32 alone"),
    ],
)
def test_wrong_options_are_one_sentence(options: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "cvt_nano", *options.split()]) == 2
    assert said in capsys.readouterr().err


def test_an_unknown_model_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "cvt_14"]) == 2
    assert "cvt_14" in capsys.readouterr().err
