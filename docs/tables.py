"""Write what is made from the registry: `python docs/tables.py [PAGE ...]`.

`gallery.md` (every system as a row; the README shows it shortened), `parts.md` (every part), `models.md` (every model,
counted beside published), `parity.md` (every reference record against what is computed here), and `counted.json` in
the package (what every model costs). Tests hold the first two against the registry. Of a family's own page only the
table of its sizes is made.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch

import hexavit
from hexavit.architecture import Architecture
from hexavit.models import model_entry
from hexavit.models.catalogue import PartPage, find_parts
from hexavit.parts import KINDS

DOCS = Path(__file__).parent
README = DOCS.parent / "README.md"
NOTE = "<!-- Written by docs/tables.py; edit what it reads. -->"


counts = functools.cache(hexavit.profile)


def parts_page() -> str:
    """Every part: text, options, users."""
    lines = [
        "# The shelves",
        "",
        NOTE,
        "",
        "Every part with its options and the models that use it; `hexavit parts NAME` prints",
    ]
    lines += ["the same. Notation: [Notation](notation.md).", ""]
    for kind in KINDS:
        lines += [f"## {kind}", ""]
        for page in find_parts(kind):
            lines += _part(page)
    return "\n".join(lines).rstrip() + "\n"


def _part(page: PartPage) -> list[str]:
    lines = [f"### {page.kind}: {page.name}", "", page.text, ""]
    if page.options:
        lines += ["| option | default | takes |", "|---|---|---|"]
        lines += [f"| `{each.name}` | {each.default} | {each.takes.replace('|', 'or')} |" for each in page.options]
        lines.append("")
    families = dict.fromkeys(model_entry(name).family for name in page.used_by)
    return [*lines, f"Used by: {', '.join(families) or 'no named model'}.", ""]


def gallery_page() -> str:
    """Every system in one table of six columns."""
    lines = ["# The gallery", "", NOTE, "", GALLERY, ""]
    lines += [f"| system | {' | '.join(KINDS)} |", f"|---|{'---|' * len(KINDS)}"]
    lines += [_row(name, f"{_title(name)}<br>`{name}`", options=True) for name in _one_a_system()]
    return "\n".join(lines) + "\n"


def with_gallery(readme: str) -> str:
    """The README with the gallery between its marks, names alone."""
    lines = [f"| system | {' | '.join(KINDS)} |", f"|---|{'---|' * len(KINDS)}"]
    lines += [_row(name, _title(name), options=False) for name in _one_a_system()]
    before, mark, rest = readme.partition(BEGINS)
    return before + mark + "\n\n" + "\n".join(lines) + "\n\n" + ENDS + rest.partition(ENDS)[2]


def _row(name: str, head: str, *, options: bool) -> str:
    return f"| {' | '.join([head, *model_entry(name).architecture.row(options=options)])} |"


def _one_a_system() -> list[str]:
    """The first published size of each family."""
    first: dict[str, str] = {}
    for name in hexavit.list_models():
        if not name.endswith("_nano"):
            first.setdefault(model_entry(name).family, name)
    return list(first.values())


def _title(name: str) -> str:
    """A system's name as its paper writes it: the first words of its module."""
    module = importlib.import_module(f"hexavit.models.{model_entry(name).family}")
    return (module.__doc__ or "").partition(":")[0]


def models_page() -> str:
    """Every model: parameters and multiply-adds as counted, figures as published."""
    lines = ["# The models", "", NOTE, ""]
    lines += ["Counted at the size that a model is built at, one image; published figures are their authors'.", ""]
    lines += ["`hexavit list --max-params 10M --max-macs 2G --attention performer` filters them.", ""]
    lines += ["| model | pixels | parameters | multiply-adds | published M | published GFLOPs | top-1 | source |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for name in hexavit.list_models():
        lines += _model(name)
    return "\n".join(lines) + "\n"


def _model(name: str) -> list[str]:
    entry = model_entry(name)
    architecture: Architecture = entry.architecture
    counted = counts(name)
    head = f"| `{name}` | {architecture.img_size[0]} | {counted.parameters:,} | {counted.macs / 1e9:.3f} G |"
    told = entry.published
    if not told:
        return [f"{head} – | – | – | – |"]
    rows = []
    for figure in told:
        top1 = "–" if figure.top1 is None else f"{figure.top1:.1%} at {figure.img_size}"
        rows.append(f"{head} {figure.params_m or '–'} | {figure.gflops or '–'} | {top1} | {figure.source} |")
        head = "| | | | |"
    return rows


BEGINS, ENDS = "<!-- The gallery, written by docs/tables.py -->", "<!-- End of the gallery -->"
GALLERY = """Every system built so far, each by its first published size (in code), as a row of six columns. Stages
that differ are told with "then"; options are those that hold in every stage, heads left out. `hexavit show NAME` prints
any model stage by stage."""
PARITY = """Weights made from key names (`tests/parity/golden.py`) go through the authors' code and, in its layout,
into hexavit. The difference is that of the first eight logits of two images, of the largest logit. It is kept
below 2e-5 by `tests/parity/test_reference.py`, with the features on the way."""


def parity_page() -> str:
    """Every reference record of a whole model: the largest difference of its logits, and the counts."""
    sys.path.insert(0, str(DOCS.parent))
    from tests.parity import golden
    from tests.parity.test_reference import MODELS, VARIANTS, loaded

    lines = ["# Parity", "", NOTE, "", PARITY, ""]
    lines += ["| system | record | model and overrides | difference | parameters | multiply-adds, G | authors' |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for variant, record in MODELS.items():
        model, _ = loaded(record)
        with torch.no_grad():
            logits = model(golden.image(record["input"]))
        error = (logits[:, :8] - torch.tensor(record["logits"])).abs().max() / logits.abs().max()
        counted = hexavit.profile(model)
        name, edits = VARIANTS.get(variant, (variant, []))
        made = " ".join(f"`{each}`" for each in (name, *edits))
        counts = f"{counted.parameters:,} | {counted.macs / 1e9:.4f} | {record['parameters']:,}; {record['gmacs']}"
        lines.append(f"| {record['system']} | {variant} | {made} | {error:.1e} | {counts} |")
    return "\n".join(lines) + "\n"


def counted() -> str:
    """Parameters and multiply-adds of every model, for `hexavit list --max-params --max-macs`."""
    rows = []
    for name in sorted(hexavit.list_models()):
        found = counts(name)
        rows.append(f'  "{name}": [{found.parameters}, {found.macs}]')
    return "{\n" + ",\n".join(rows) + "\n}\n"


SIZES = "| name | width | blocks | heads | built at |\n|---|---|---|---|---|\n"


def family_page(family: str) -> str:
    """A family's own page, with the rows of its table of sizes made anew."""
    text = (DOCS / file_of(family)).read_text(encoding="utf-8")
    before, found, after = text.partition(SIZES)
    if not found:
        return text
    rows = "".join(_sizes(name) for name in hexavit.list_models(family=family))
    return before + found + rows + after[after.index("\n\n") + 1 if after.startswith("|") else 0 :]


def _sizes(name: str) -> str:
    stages = model_entry(name).architecture.stages
    heads = ", ".join(str(stage.column("attention", 0).options.get("heads", "–")) for stage in stages)
    dims, depths = (", ".join(str(getattr(stage, what)) for stage in stages) for what in ("dim", "depth"))
    return f"| `{name}` | {dims} | {depths} | {heads} | {model_entry(name).architecture.img_size[0]} |\n"


def file_of(family: str) -> str:
    """The page of a family."""
    return f"{family.replace('_', '-')}.md"


FAMILIES = dict.fromkeys(model_entry(name).family for name in hexavit.list_models())
WITH_PAGE = [family for family in FAMILIES if (DOCS / file_of(family)).exists()]
PAGES: dict[str, Callable[[], str]] = {
    **{file_of(family): functools.partial(family_page, family) for family in WITH_PAGE},
    "gallery.md": gallery_page,
    "parts.md": parts_page,
    "models.md": models_page,
    "parity.md": parity_page,
    "../src/hexavit/counted.json": counted,
}

if __name__ == "__main__":
    for file, page in PAGES.items() if len(sys.argv) < 2 else ((name, PAGES[name]) for name in sys.argv[1:]):
        (DOCS / file).write_text(page(), encoding="utf-8")
        print(json.dumps({"written": file}))
    README.write_text(with_gallery(README.read_text(encoding="utf-8")), encoding="utf-8")
    print(json.dumps({"written": README.name}))
