"""Measure the speed and memory of models beside the same models of other libraries, on several engines, in turns.

Every result names the processor, because ratios differ by machine.

Examples:
    hexavit benchmark cvt_13 --against transformers --engines torch,onnxruntime,openvino
    hexavit benchmark swin_tiny_patch4_window7_224 --against timm --size 224,384 --batch-size 1,8 --plot growth.png
    hexavit benchmark deit_tiny_patch16_224 --against timm --train --json
"""

from __future__ import annotations

import itertools
import json
from argparse import Namespace
from pathlib import Path

from hexavit.cli._parser import Parser, UsageError, add_json, add_overwrite, check_output

_LIBRARIES = ("timm", "transformers", "vit-pytorch")
_ENGINES = ("torch", "optimize", "save-memory", "compile", "onnxruntime", "openvino")


def add_arguments(parser: Parser) -> None:
    parser.add_argument("models", metavar="MODEL", nargs="+", help="model names, as in `hexavit list`")
    parser.add_argument(
        "--against", metavar="LIBRARY[,LIBRARY...]", default=None,
        help=f"libraries whose model of the same name is measured too: {', '.join(_LIBRARIES)}",
    )  # fmt: skip
    parser.add_argument(
        "--engines", metavar="ENGINE[,ENGINE...]", default="torch",
        help="torch; optimize and save-memory (hexavit.optimize); compile (torch.compile); onnxruntime; openvino",
    )  # fmt: skip
    parser.add_argument(
        "--size", metavar="SIDE[,SIDE...]", default=None,
        help="sides of the images, HxW if not square, such as 224,384 or 384x512; by default the model's own",
    )  # fmt: skip
    parser.add_argument("--batch-size", metavar="N[,N...]", default="8", help="images in one pass")
    parser.add_argument("--train", action="store_true", help="measure a training step with AdamW instead of inference")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16: of weights and images")
    parser.add_argument("--channels-last", action="store_true", help="images and weights in that memory format")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; by default all cores of this process")
    parser.add_argument("--rounds", type=int, default=9, help="how often each is timed, in turns")
    parser.add_argument("--plot", metavar="PNG", default=None, help="draw the time by image size to this file")
    add_overwrite(parser, "the file of --plot")
    add_json(parser)


def run(args: Namespace) -> None:
    import torch

    from hexavit.benchmarking import Case, contenders, draw, growth, measure, summary, table
    from hexavit.files import replacing
    from hexavit.models import resolve
    from hexavit.profiling.measure import processor

    libraries = _words("--against", args.against, _LIBRARIES)
    engines = _words("--engines", args.engines, _ENGINES)
    sizes = [_side(word) for word in args.size.split(",")] if args.size is not None else [None]
    batches = [_number("--batch-size", word) for word in args.batch_size.split(",")]
    _check(args, engines)
    check_output(args.plot, ".png", overwrite=args.overwrite)
    threads = args.threads or torch.get_num_threads()
    cases = []
    for name, size, batch in itertools.product(args.models, sizes, batches):
        own = resolve(name) if size is None else resolve(name, img_size=size)
        pairs = contenders(name, libraries, engines)
        cases.append(
            Case(
                name, own.img_size, batch, pairs, args.train, args.device, args.dtype, args.channels_last, threads,
                args.rounds,
            )
        )  # fmt: skip
    results = []
    for number, case in enumerate(cases, 1):
        if not args.json:
            images = " x ".join(map(str, (case.batch, *case.size)))
            print(f"{number} of {len(cases)}: {case.model}, {images}", flush=True)
        results.append(measure(case))
    if args.plot is not None:
        with replacing(Path(args.plot)) as temporary:
            temporary.write_bytes(draw(results))
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{processor()}, {threads} threads"
    grown = growth(results)
    if args.json:
        exponents = [
            {"model": model, "library": library, "engine": engine, "batch": batch, "exponent": each}
            for (model, library, engine, batch), each in grown.items()
        ]
        found = {
            "processor": where, "results": [each.as_dict() for each in results], "summary": summary(results),
            "growth": exponents,
        }  # fmt: skip
        print(json.dumps(found, indent=2))
        return
    print(f"\n{where}, {args.dtype}, {'training step' if args.train else 'inference'}, {args.rounds} rounds in turns\n")
    rows = table(results)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (f"{c:<{w}}" if i < 4 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        print("  ".join(cells).rstrip())
    for result in results:
        for each in result.measured:
            if each.error:
                print(f"{each.library} {result.case.model} on {each.engine}: {each.error}")
    for (model, library, engine, batch), exponent in grown.items():
        print(f"{model}, {library}, {engine}, batch {batch}: time grows as pixels^{exponent:.2f}")
    for library, ratios in summary(results).items():
        for engine, each in ratios.items():
            what = "fastest engine" if engine == "fastest" else engine
            print(
                f"hexavit beside {library}, {what}: geometric mean {each['geometric_mean']:.3f}, "
                f"lowest {each['lowest']:.3f}, {each['cases']} cases"
            )


def _words(option: str, text: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    words = () if text is None else tuple(dict.fromkeys(text.split(",")))
    for word in words:
        if word not in known:
            raise UsageError(f"{option} takes {', '.join(known)}, with commas between them, not {word!r}")
    return words


def _number(option: str, word: str) -> int:
    if not word.isdigit() or int(word) < 1:
        raise UsageError(f"{option} takes whole numbers from 1 with commas between them, such as 1,8, not {word!r}")
    return int(word)


def _side(word: str) -> tuple[int, int]:
    sides = word.split("x")
    if len(sides) > 2 or not all(side.isdigit() and int(side) for side in sides):
        raise UsageError(f"--size takes sides with commas between them, such as 224,384 or 384x512, not {word!r}")
    return int(sides[0]), int(sides[-1])


def _check(args: Namespace, engines: tuple[str, ...]) -> None:
    import torch

    from hexavit.benchmarking.engines import DTYPES, OF_CPU, TRAINING
    from hexavit.inference.engines import check_engine

    if args.rounds < 1 or (args.threads is not None and args.threads < 1):
        raise UsageError("--rounds and --threads are at least 1")
    if args.dtype not in DTYPES:
        raise UsageError(f"--dtype is {', '.join(DTYPES)}, not {args.dtype!r}")
    if args.device not in ("cpu", "cuda"):
        raise UsageError(f"--device is cpu or cuda, not {args.device!r}")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: PyTorch finds no CUDA GPU here; use --device cpu")
    for engine in engines:
        if args.train and engine not in TRAINING:
            raise UsageError(f"--train is measured with the engines {' and '.join(TRAINING)}, not {engine}")
        if engine in OF_CPU and (args.device, args.dtype) != ("cpu", "float32"):
            raise UsageError(f"the engine {engine} is measured with --device cpu and --dtype float32 alone")
        if engine in ("onnxruntime", "openvino"):
            check_engine(engine)
