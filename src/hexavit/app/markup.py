"""HTML of the page. Every text is escaped here; nothing else makes HTML."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from PIL import Image

from hexavit.images.decode import shown


def text(words: object) -> str:
    """Words as HTML text on one printable line."""
    return escape(shown(str(words)))


def note(words: str, kind: str = "note") -> str:
    """A paragraph; `warning` and `error` are announced by screen readers. Empty for no words."""
    role = ' role="alert"' if kind == "error" else ' role="status"'
    return f'<p class="hx-note hx-{kind}"{role}>{text(words)}</p>' if words else ""


def table(rows: Sequence[Sequence[str]], *, caption: str = "", code: Iterable[int] = ()) -> str:
    """A header and rows, which become cards on narrow screens.

    Args:
        rows: the header first.
        caption: above the table.
        code: columns in a monospaced font.
    """
    head, *body = rows
    in_code = set(code)
    lines = ['<div class="hx-scroll"><table class="hx-table">']
    lines += [f"<caption>{text(caption)}</caption>"] if caption else []
    lines.append(
        "<thead><tr>" + "".join(f'<th scope="col">{text(cell)}</th>' for cell in head) + "</tr></thead><tbody>"
    )
    for row in body:
        cells = []
        for number, (label, cell) in enumerate(zip(head, row, strict=True)):
            inside = "<br>".join(text(line) for line in cell.split("\n"))
            inside = f"<code>{inside}</code>" if number in in_code and cell else inside
            cells.append(f'<td data-label="{text(label)}">{inside or "–"}</td>')
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return "".join([*lines, "</tbody></table></div>"])


def figures(pictures: Iterable[tuple[Image.Image, str]], kind: str = "") -> str:
    """Pictures with captions, side by side.

    Args:
        pictures: each with its caption.
        kind: `pixels` to enlarge without interpolation, so that each pixel is seen; `large`; `plots`, larger, on white.
    """
    found = []
    for picture, caption in pictures:
        file = io.BytesIO()
        picture.save(file, format="png")
        source = f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
        found.append(
            f'<figure><img src="{source}" alt="{text(caption)}"><figcaption>{text(caption)}</figcaption></figure>'
        )
    return f'<div class="hx-figures hx-{kind or "photos"}">{"".join(found)}</div>' if found else ""


def details(title: str, inside: str) -> str:
    """HTML that a click on its title opens."""
    return f'<details class="hx-details"><summary>{text(title)}</summary>{inside}</details>'


def bars(values: Mapping[str, float], shown_as: Mapping[str, str] | None = None, kind: str = "a") -> str:
    """Horizontal bars with their values as text; the longest fills its row, or 1 if all are fractions of 1.

    Args:
        values: by name.
        shown_as: the text of each value; percent by default.
        kind: colour: `a` or `b`.
    """
    longest = max([*values.values(), 1e-30 if shown_as else 1.0])
    rows = [
        _bar(name, value / longest, (shown_as or {}).get(name, f"{value:.1%}"), kind) for name, value in values.items()
    ]
    return f'<ul class="hx-bars">{"".join(rows)}</ul>'


def paired_bars(
    groups: Sequence[tuple[str, Sequence[tuple[float, str]]]], names: Sequence[str], caption: str = ""
) -> str:
    """For each group one bar for each of two models.

    Args:
        groups: name, and for each model its value with the text of it.
        names: of the models.
        caption: above the bars.
    """
    longest = max([value for _, pairs in groups for value, _ in pairs] or [1.0]) or 1.0
    legend = "".join(
        f'<span class="hx-key hx-key-{kind}"></span>{text(name)} ' for kind, name in zip("ab", names, strict=False)
    )
    rows = []
    for name, pairs in groups:
        lines = "".join(
            f'<span class="hx-track"><span class="hx-fill hx-fill-{kind}" style="width:{100 * value / longest:.2f}%">'
            f'</span></span><span class="hx-value">{text(words)}</span>'
            for kind, (value, words) in zip("ab", pairs, strict=False)
        )
        rows.append(f'<li><span class="hx-name">{text(name)}</span><span class="hx-pair">{lines}</span></li>')
    title = f'<p class="hx-caption">{text(caption)}</p>' if caption else ""
    return f'{title}<p class="hx-legend">{legend}</p><ul class="hx-bars hx-paired">{"".join(rows)}</ul>'


def columns(head: Sequence[str], stages: Sequence[tuple[str, Sequence[tuple[str, str]]]], names: Sequence[str]) -> str:
    """Two models in six columns, one row for each stage; a cell in which they differ is marked and has both.

    Args:
        head: titles of the columns.
        stages: title, and for each column the cells of both models.
        names: of the models.
    """
    lines = ['<div class="hx-scroll"><table class="hx-table hx-columns"><thead><tr><th scope="col">stage</th>']
    lines.append("".join(f'<th scope="col">{text(each)}</th>' for each in head) + "</tr></thead><tbody>")
    for title, cells in stages:
        lines.append(f'<tr><th scope="row">{text(title)}</th>')
        for label, (one, other) in zip(head, cells, strict=True):
            if one == other:
                lines.append(f'<td data-label="{text(label)}">{_cell(one)}</td>')
            else:
                both = "".join(
                    f'<div class="hx-{kind}"><span class="hx-tag" title="{text(name)}">{kind.upper()}</span>'
                    f"{_cell(cell)}</div>"
                    for kind, name, cell in zip("ab", names, (one, other), strict=True)
                )
                lines.append(f'<td data-label="{text(label)}" class="hx-differs">{both}</td>')
        lines.append("</tr>")
    return "".join([*lines, "</tbody></table></div>"])


def _cell(cell: str) -> str:
    """The first line, a part, in bold; its options below in small print."""
    if not cell:
        return '<span class="hx-none">–</span>'
    lines = []
    for line in cell.split("\n"):
        option = "=" in line
        lines.append(f"<small>{text(line)}</small>" if option else f"<b>{text(line)}</b>")
    return "".join(lines)


def _bar(name: str, share: float, words: str, kind: str) -> str:
    return (
        f'<li><span class="hx-name">{text(name)}</span><span class="hx-track"><span class="hx-fill hx-fill-{kind}" '
        f'style="width:{100 * share:.2f}%"></span></span><span class="hx-value">{text(words)}</span></li>'
    )
