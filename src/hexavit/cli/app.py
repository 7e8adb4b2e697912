"""Show models, runs and studies in the browser, on this machine alone: what a model sees in an image, two models side
by side with menus that edit one, the survey with filters, the curves and mistakes of runs, and reports of studies.

Examples: `hexavit app`; `hexavit app runs/digits cvt_13.in1k`; `hexavit app studies/stride_kv --port 8000`."""

from __future__ import annotations

from argparse import Namespace

from hexavit.cli._parser import Parser


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "sources", metavar="SOURCE", nargs="*", default=[],
        help="run folder, folder with runs, folder of a study, saved model folder, or model name; other model names "
        "are shown with random weights",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=None, help="port on 127.0.0.1; by default the first free from 7860")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")


def run(args: Namespace) -> None:
    from hexavit.app import serve

    serve(args.sources, port=args.port, open_browser=args.open)
