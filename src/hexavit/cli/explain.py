"""Show what a model looks at in images: attention maps on the pixel grid, rollout, class activation maps, integrated
gradients and occlusion, of any model. Writes a picture for each image and one page of all, which loads nothing.

Examples: `hexavit explain runs/digits photos --out seen`; `hexavit explain cvt_13.in1k cat.jpg --query 120,80 --stage 2
--head all --out seen`; `hexavit explain swin_tiny_patch4_window7_224 cat.jpg --method rollout,gradcam --out seen`."""

from __future__ import annotations

import sys
from argparse import Namespace
from itertools import count
from pathlib import Path
from typing import Any

from hexavit.cli._parser import Parser, UsageError, add_model_source, add_overwrite, check_output, load_source
from hexavit.errors import DataError, nearest


def add_arguments(parser: Parser) -> None:
    from hexavit.explain.methods import METHODS

    add_model_source(parser, batches=False)
    parser.add_argument(
        "images", metavar="IMAGES", nargs="+", help="image files, folders, or quoted patterns such as 'photos/**/*.jpg'"
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the pictures and index.html")
    add_overwrite(parser, "files in the folder of --out")
    parser.add_argument(
        "--method",
        default="attention",
        metavar="NAMES",
        help="methods with commas between them; " + "; ".join(f"{name}: {each.text}" for name, each in METHODS.items()),
    )
    parser.add_argument("--stage", type=int, help="stage of the attention or of the map read; negative from the end")
    parser.add_argument("--block", type=int, help="block of the attention in its stage; by default each stage's last")
    parser.add_argument("--head", default="mean", help="number of a head, mean, or all")
    parser.add_argument(
        "--query",
        default="auto",
        help="whose attention: class, mean, or the pixel X,Y of the model's input; auto is the class token where there "
        "is one, else the mean",
    )
    parser.add_argument("--class", dest="target", metavar="CLASS", help="name or number of the class to explain")
    parser.add_argument("--arrays", action="store_true", help="also write the maps of each image as .npz")


def run(args: Namespace) -> None:
    from hexavit.explain.methods import METHODS

    methods = args.method.split(",")
    for method in methods:
        if method not in METHODS:
            raise UsageError(f"there is no method {method!r}: {nearest(method, METHODS)}")
    head, query = _head(args.head), _query(args.query)
    check_output(args.out, overwrite=args.overwrite)

    from hexavit.explain.pictures import explain_image, page
    from hexavit.files import replacing, write_text
    from hexavit.images.listing import checked, iter_images
    from hexavit.images.prefetch import cores, decode_ahead
    from hexavit.inference.device import pick_device

    named = checked(args.images)
    loaded = load_source(args, headless=not any(METHODS[method].of_class for method in methods))
    target = _class(args.target, loaded.classes)
    place = pick_device(args.device)
    model = loaded.model.to(place)
    folder, names, done = Path(args.out), {"index"}, []
    folder.mkdir(parents=True, exist_ok=True)
    broken = 0
    decoded = decode_ahead(iter_images(named, _report), loaded.input_spec.transform(), min(2, cores()), ahead=4)
    for path, image in decoded:
        if isinstance(image, DataError):
            _report(image)
            broken += 1
            continue
        found = explain_image(
            model,
            image.to(place),
            loaded.input_spec,
            name=path.name,
            methods=methods,
            stage=args.stage,
            block=args.block,
            head=head,
            query=query,
            target=target,
            classes=loaded.classes,
        )
        file = folder / f"{_unused(path.stem, names)}.png"
        with replacing(file) as temporary:
            found.picture.save(temporary, "PNG")
        if args.arrays:
            _write_arrays(file.with_suffix(".npz"), found.maps)
        done.append(found)
        print(f"{path}: {found.prediction}{'; ' if found.prediction else ''}{file}")
    if done:
        title = f"{loaded.architecture_name or args.run}: {', '.join(methods)}"
        write_text(folder / "index.html", page(title, done, loaded.notes))
        print(f"{folder / 'index.html'}")
    if broken:
        summary = f"{broken} of {broken + len(done)} images could not be read; the others are done"
        print(f"error: {summary if done else 'no image could be read'}", file=sys.stderr)
        raise SystemExit(1)


def _report(error: DataError) -> None:
    print(f"error: {error}", file=sys.stderr)


def _unused(stem: str, used: set[str]) -> str:
    """A name that no other image's picture has."""
    name = next(name for n in count(1) if (name := stem if n == 1 else f"{stem}-{n}") not in used)
    used.add(name)
    return name


def _write_arrays(path: Path, maps: Any) -> None:
    import numpy as np

    from hexavit.files import replacing

    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **{name.replace("/", "_"): values for name, values in maps})


def _head(text: str) -> Any:
    if text in ("mean", "all"):
        return text
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--head takes a number, mean or all, not {text!r}") from None


def _query(text: str) -> Any:
    if text in ("auto", "class", "mean"):
        return text
    x, comma, y = text.partition(",")
    if comma and x.strip().isdecimal() and y.strip().isdecimal():
        return int(x), int(y)
    raise UsageError(f"--query takes class, mean, auto or a pixel X,Y, not {text!r}")


def _class(text: str | None, classes: tuple[str, ...]) -> int | None:
    if text is None:
        return None
    if text in classes:
        return classes.index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    raise UsageError(f"there is no class {text!r}: {nearest(text, classes)}")
