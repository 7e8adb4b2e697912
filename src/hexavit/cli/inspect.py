"""Say what a file of weights is: whose layout, which model, its size and classes, and what else is in it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hexavit.cli._parser import Parser, add_json


def add_arguments(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", type=str, help="safetensors, .pth, .npz, or a folder of transformers")
    parser.add_argument("--entry", type=str, default=None, help="which weights, of a file with several")
    add_json(parser)


def run(parser: Parser, arguments: Sequence[str]) -> None:
    asked = parser.parse_args(arguments)

    from hexavit.checkpoints import inspect_checkpoint

    facts = inspect_checkpoint(asked.file, entry=asked.entry)
    print(json.dumps(facts.as_dict(), indent=2) if asked.json else facts)
