"""Write a file of weights in another layout; every number stays as it is."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hexavit.cli._parser import Parser, add_json, add_overrides


def add_arguments(parser: Parser) -> None:
    parser.add_argument("file", metavar="IN", type=str, help="safetensors, .pth, .npz, or a folder of transformers")
    parser.add_argument("out", metavar="OUT", type=str, help="a file, by its suffix; for huggingface a folder too")
    parser.add_argument(
        "--to", type=str, required=True, help="authors, huggingface, timm, torchvision, vit_pytorch or hexavit"
    )
    parser.add_argument("--model", type=str, default=None, help="whose weights they are, where shapes do not tell")
    parser.add_argument("--activation", type=str, default=None, help="what is computed with from now on, such as gelu")
    parser.add_argument("--entry", type=str, default=None, help="which weights, of a file with several")
    add_overrides(parser)
    add_json(parser)


def run(parser: Parser, arguments: Sequence[str]) -> None:
    asked = parser.parse_args(arguments)

    from hexavit.checkpoints import convert

    report = convert(
        asked.file,
        asked.out,
        asked.to,
        model=asked.model,
        overrides=asked.overrides,
        activation=asked.activation,
        entry=asked.entry,
    )
    print(json.dumps(report.as_dict(), indent=2) if asked.json else report)
