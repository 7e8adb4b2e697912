"""Export a model as a file for ONNX Runtime, OpenVINO or PyTorch, checked against PyTorch before it is kept.

For example: hexavit export runs/flowers flowers.onnx; with --int8 --calibrate DATA in 8-bit numbers.
"""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from hexavit.cli._parser import (
    Parser,
    add_img_size,
    add_json,
    add_overwrite,
    check_output,
    img_size_of,
    load_source,
)
from hexavit.errors import HexavitError
from hexavit.export.description import ENDINGS
from hexavit.runs.run_folder import Weights


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "run",
        metavar="MODEL",
        help="run folder of `hexavit train`, name of a model with published weights (MODEL or MODEL.TAG), "
        "saved model folder, hf-hub:OWNER/NAME, or weight file together with --model",
    )
    parser.add_argument(
        "out", metavar="OUT", help="file to write: .onnx, .xml (OpenVINO, with a .bin beside it) or .pt2 (torch.export)"
    )
    parser.add_argument("--model", default=None, metavar="NAME", help="model to which a weight file belongs")
    parser.add_argument("--untrained", action="store_true", help="allow a model with random weights")
    parser.add_argument("--weights", type=Weights, default="best", help="weights of a run: best or last epoch")
    parser.add_argument(
        "--dynamic",
        default="batch",
        metavar="AXES",
        help="what may differ from call to call: batch, size, batch,size or none; size is for models whose graph is "
        "right at every image size",
    )
    add_img_size(parser, "side of the images, or height and width; by default that of the preprocessing")
    parser.add_argument("--half", action="store_true", help="keep weights in float16; CPUs compute in float32")
    parser.add_argument("--int8", action="store_true", help="quantise to 8 bits (.onnx, .xml), with --calibrate")
    parser.add_argument(
        "--calibrate", metavar="DATA", help="data set, as in `hexavit train`, or folder of images; with --int8"
    )
    parser.add_argument(
        "--with-preprocessing", action="store_true", help="resize, crop and normalise decoded images in the graph"
    )
    parser.add_argument("--features", action="store_true", help="compute the classifier's input instead of the logits")
    parser.add_argument("--aot", action="store_true", help="compile a .pt2 by AOTInductor, which needs a C++ compiler")
    add_overwrite(parser, "OUT")
    add_json(parser)


def run(args: Namespace) -> None:
    check_output(args.out, *ENDINGS, overwrite=args.overwrite)
    if args.int8 != (args.calibrate is not None):
        raise HexavitError("--int8 and --calibrate DATA go together")
    others = {"half": args.half, "with-preprocessing": args.with_preprocessing, "features": args.features}
    if args.int8 and any(others.values()):
        raise HexavitError(f"--int8 does not go with --{next(name for name, given in others.items() if given)}")
    dynamic = [] if args.dynamic == "none" else args.dynamic.split(",")
    options: dict[str, Any] = {"dynamic": dynamic, "img_size": img_size_of(args), "overwrite": args.overwrite}
    loaded = load_source(args, headless=args.features)
    report: Any
    if args.int8:
        from hexavit.evaluation.quantization import export_int8

        report = export_int8(loaded, args.out, args.calibrate, **options)
    else:
        from hexavit.export import export_model

        kind = {"half": args.half, "preprocessing": args.with_preprocessing, "features": args.features, "aot": args.aot}
        report = export_model(loaded, args.out, **kind, **options)
    print(json.dumps(report.as_dict(), indent=2) if args.json else report)
