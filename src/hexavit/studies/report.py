"""The report of a study: Markdown, one self-contained HTML file, CSV and two PNG files."""

from __future__ import annotations

import csv
import io
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from hexavit.files import replacing, write_text
from hexavit.images.decode import shown
from hexavit.studies.results import Accuracy, Results

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
:root { color-scheme: light dark; }
div { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left; white-space: normal; }
td:first-child { min-width: 9rem; }
td:last-child { min-width: 7rem; }
img { max-width: 100%; height: auto; background: white; }
"""
Rows = list[list[str]]


def write_report(results: Results, folder: Path) -> list[Path]:
    """Write `report.md`, `report.html`, `report.csv`, `curves.png` and `pareto.png`.

    Args:
        results: of :func:`hexavit.studies.results.gather`.
        folder: created if needed; each file is written atomically.

    Returns:
        The paths.
    """
    drawn = pictures(results)
    paths = [folder / name for name in ("report.md", "report.html", "report.csv")]
    write_text(paths[0], markdown(results, list(drawn)))
    write_text(paths[1], _html(results, drawn))
    write_text(paths[2], as_csv(results))
    for name, png in drawn.items():
        paths.append(folder / name)
        with replacing(paths[-1]) as temporary:
            temporary.write_bytes(png)
    return paths


def pictures(results: Results) -> dict[str, bytes]:
    """The report's PNG files by name: accuracy by epoch, and accuracy against multiply-adds."""
    return {"curves.png": _draw_curves(results), "pareto.png": _draw_pareto(results)}


def summary(results: Results) -> str:
    """The main table as aligned text, for a terminal."""
    head, *rows = _accuracy_table(results)
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(results: Results, pictures: Sequence[str] = ()) -> str:
    """The report as Markdown."""
    blocks = [f"# {results.study.title or results.study.name}", *_remarks(results)]
    for title, table in _tables(results):
        head, *rows = table
        lines = [_markdown_row(head), "|" + "---|" * len(head), *map(_markdown_row, rows)]
        blocks += [f"## {title}", "\n".join(lines)]
    blocks += [f"![{name.partition('.')[0]}]({name})" for name in pictures]
    return "\n\n".join(blocks) + "\n"


def as_csv(results: Results) -> str:
    """One row per cell and test, with plain numbers; missing ones are empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("cell", "test", "seeds", "accuracy", "spread", "difference", "low", "high", "verdict", "parameters", "macs",
         "full_size_parameters", "full_size_macs", "images_per_second", "peak_bytes", "published", "agreement",
         "failures")
    )  # fmt: skip
    for row in results.rows:
        for test in results.study.tests:
            accuracy = row.accuracies.get(test.name)
            difference = accuracy.difference if accuracy else None
            known = [difference.mean, difference.low, difference.high, difference.verdict] if difference else [""] * 4
            writer.writerow(
                (
                    row.cell.name, test.name, len(row.outcomes),
                    *((accuracy.mean, accuracy.spread) if accuracy else ("", "")),
                    *known,
                    *((row.cost.parameters, row.cost.macs) if row.cost else ("", "")),
                    *((row.full_cost.parameters, row.full_cost.macs) if row.full_cost else ("", "")),
                    *((row.speed.images_per_second, row.speed.peak_bytes) if row.speed else ("", "")),
                    row.published, row.agreement, "; ".join(dict.fromkeys(row.failures.values())),
                )
            )  # fmt: skip
    return text.getvalue()


def _remarks(results: Results) -> list[str]:
    study = results.study
    data, model, epochs = (study.settings.get(name) for name in ("data", "model", "epochs"))
    images = study.settings.get("train_images")
    trained = f"{images:,} training images of {data}" if images else f"{data}"
    what = (
        f"`{model}` on {trained}"
        + (f", {epochs} epochs" if epochs else "")
        + f", seeds {', '.join(map(str, study.seeds))}."
    )
    paired = (
        f"Differences are to the cell `{study.base}`, paired by seed and test image, with a 95 % interval "
        "(hierarchical bootstrap)."
    )
    remarks = [what, paired]
    if study.differs:
        remarks.append(f"Different from the paper: {study.differs}")
    if study.published is not None:
        remarks.append(f"Published: {study.published.metric}, {study.published.source}.")
    missing = [f"{row.cell.name} (seed {seed})" for row in results.rows for seed in row.missing]
    if missing:
        remarks.append(f"Not finished: {', '.join(missing)}.")
    for row in results.rows:
        for reason in dict.fromkeys(row.failures.values()):
            remarks.append(f"`{row.cell.name}` failed: {reason}")
    return remarks


def _tables(results: Results) -> list[tuple[str, Rows]]:
    tables = [("Accuracy", _accuracy_table(results)), ("Cost", _cost_table(results))]
    if len(results.study.tests) > 1:
        tables.insert(1, ("Difference to the base by test", _by_test(results)))
    if results.study.published is not None:
        tables.append(("Beside the paper", _published_table(results)))
    return tables


def _accuracy_table(results: Results) -> Rows:
    tests = [test.name for test in results.study.tests]
    table: Rows = [
        ["cell", *(tests if len(tests) > 1 else ["accuracy"]), "seeds", "difference", "95 % interval", "verdict"]
    ]
    for row in results.rows:
        accuracies = [_percent(row.accuracies.get(test)) for test in tests]
        first = row.accuracies.get(tests[0])
        difference = first.difference if first else None
        if difference is not None:
            last = [f"{100 * difference.mean:+.2f}", f"{100 * difference.low:+.2f} to {100 * difference.high:+.2f}"]
            last.append(difference.in_words())
        elif row.cell.name == results.study.base:
            last = ["", "", "base"]
        else:
            last = ["", "", "failed" if row.failures else "not finished"]
        table.append([row.cell.name, *accuracies, str(len(row.outcomes)), *last])
    return table


def _by_test(results: Results) -> Rows:
    table: Rows = [["cell", *(test.name for test in results.study.tests)]]
    for row in results.rows:
        if row.cell.name != results.study.base:
            differences = [row.accuracies[t.name].difference if row.accuracies else None for t in results.study.tests]
            cells = [
                f"{100 * d.mean:+.2f} ({100 * d.low:+.2f} to {100 * d.high:+.2f})" if d else "–" for d in differences
            ]
            table.append([row.cell.name, *cells])
    return table


def _cost_table(results: Results) -> Rows:
    full = results.study.full_size
    head = ["cell", "parameters", "multiply-adds", "images/s", "peak memory of 32 images", "accuracy against cost"]
    table: Rows = [[*head, *([f"{full}: parameters", "multiply-adds"] if full else [])]]
    front = results.front()
    for row in results.rows:
        speed = row.speed
        cells = [
            *((f"{row.cost.parameters:,}", f"{row.cost.macs:,}") if row.cost else ("–", "–")),
            f"{speed.images_per_second:.0f}" if speed else "–",
            f"{speed.peak_bytes / 2**20:.1f} MiB" if speed and speed.peak_bytes is not None else "–",
            "on the front" if row.cell.name in front else "",
        ]
        if full:
            known = row.full_cost
            cells += [f"{known.parameters / 1e6:.2f} M", f"{known.macs / 1e9:.3f} G"] if known else ["–", "–"]
        table.append([row.cell.name, *cells])
    return table


def _published_table(results: Results) -> Rows:
    table: Rows = [["cell", "paper", "paper's difference", "our difference", "agreement"]]
    for row in results.rows:
        first = row.accuracies.get(results.study.tests[0].name)
        difference = first.difference if first else None
        table.append(
            [
                row.cell.name,
                "–" if row.published is None else f"{row.published:g}",
                "" if row.claim is None else f"{row.claim:+g}",
                "" if difference is None else f"{100 * difference.mean:+.2f}",
                row.agreement,
            ]
        )
    return table


def _percent(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return "–"
    return (
        f"{accuracy.mean:.2%}"
        if accuracy.spread is None
        else f"{100 * accuracy.mean:.2f} ± {100 * accuracy.spread:.2f} %"
    )


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _html(results: Results, pictures: dict[str, bytes]) -> str:
    title = results.study.title or results.study.name
    body = [f"<h1>{_text(title)}</h1>", *(f"<p>{_text(each)}</p>" for each in _remarks(results))]
    if results.processor:
        body.append(f"<p>Speed and memory: {_text(results.processor)}, float32, batches of 32, random weights.</p>")
    for heading, (head, *rows) in _tables(results):
        cells = ["<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows]
        header = "<tr>" + "".join(f"<th>{_text(cell)}</th>" for cell in head) + "</tr>"
        body.append(f"<h2>{_text(heading)}</h2><div><table>{header}{''.join(cells)}</table></div>")
    for name, png in pictures.items():
        body.append(f'<img alt="{_text(name)}" src="data:image/png;base64,{b64encode(png).decode()}">')
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    top = f"{meta}<title>{_text(title)}</title><style>{_STYLE}</style>"
    return "\n".join(["<!doctype html>", f'<html lang="en"><head>{top}</head><body>', *body, "</body></html>\n"])


def _text(text: str) -> str:
    return escape(shown(text)).replace("`", "")


def _draw_curves(results: Results) -> bytes:
    """Validation accuracy by epoch: the mean over seeds of each cell, with the range as a band."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no window system
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for row in results.rows:
        histories = [np.array(outcome.history) for outcome in row.outcomes.values()]
        if histories:
            count = min(len(history) for history in histories)
            accuracy = 100 * np.stack([history[:count, 1] for history in histories])
            epochs = histories[0][:count, 0]
            (line,) = axes.plot(epochs, accuracy.mean(axis=0), label=_plain(row.cell.name))
            axes.fill_between(epochs, accuracy.min(axis=0), accuracy.max(axis=0), alpha=0.15, color=line.get_color())
    axes.set(xlabel="epoch", ylabel="validation accuracy in %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    return _png(figure)


def _draw_pareto(results: Results) -> bytes:
    """Accuracy against multiply-adds; the cells that no other beats in both are joined."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    front, test = results.front(), results.study.tests[0].name
    joined = []
    for row in results.rows:
        if row.cost is None or test not in row.accuracies:
            continue
        accuracy = row.accuracies[test]
        x, y = row.cost.macs / 1e6, 100 * accuracy.mean
        axes.errorbar(x, y, yerr=100 * (accuracy.spread or 0.0), fmt="o", capsize=3, label=_plain(row.cell.name))
        joined += [(x, y)] if row.cell.name in front else []
    axes.plot(*zip(*sorted(joined), strict=True), "--", color="gray", zorder=0) if joined else None
    axes.set(xlabel="multiply-adds of one image in millions", ylabel="accuracy in %")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    return _png(figure)


def _plain(name: str) -> str:
    return name.replace("$", r"\$").lstrip("_")


def _png(figure: object) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)  # type: ignore[attr-defined]
    return file.getvalue()
