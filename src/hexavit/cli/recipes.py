"""List the recipes of `hexavit train --config NAME`: purpose, hardware, published and measured figures; or show one."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict

from hexavit.cli._parser import Parser, add_json


def add_arguments(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", default=None, help="recipe whose file is printed")
    add_json(parser)


def run(args: Namespace) -> None:
    from hexavit.training.config import read_recipe, recipe_path
    from hexavit.training.recipes import list_recipes, load_recipe

    if args.json:
        found = list_recipes() if args.name is None else [load_recipe(args.name)]
        recipes = [{**asdict(each), "settings": read_recipe(each.name)} for each in found]
        print(json.dumps(recipes if args.name is None else recipes[0], indent=2))
    elif args.name is not None:
        print(recipe_path(args.name).read_text(encoding="utf-8"), end="")
    else:
        for each in list_recipes():
            print(f"{each.name}\n  {each.purpose}")
            print("\n".join(f"  {name:<10} {each.facts[name]}" for name in ("hardware", "published", "measured")))
            print(f"  {'command':<10} {each.command}\n")
        print("`hexavit recipes NAME` prints a recipe with its source and settings.")
