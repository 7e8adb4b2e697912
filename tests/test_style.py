"""The words that docs/STYLE.md rules out do not appear in the source, the documentation or the README."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FORBIDDEN = {
    "shelf": r"\bshel(?:f|ves)\b",
    "house": r"\bhouses?\b|\bin-house\b",
    "room": r"\brooms?\b|\bfront door\b|\bground floor\b",
    "refuse": r"\brefus(?:e|es|ed|al|als|ing)\b",
    "judge": r"\bjudg(?:e|es|ed|ing|ement|ements)\b",
    "held out": r"\bheld[ -]out\b",
    "a training": r"\b(?:a|another|each|every|one|the same|this)\s+training(?=[.,:;)]|$)"
    r"|\b(?:a|another|each|every|one|the same|this)\s+training\s+"
    r"(?:and|at|by|from|goes|has|in|is|may|must|needs|of|on|or|that|to|was|which|with)\b"
    r"|\btrainings\b",
    "lesson": r"\blessons?\b",
    "answer": r"\banswer(?:s|ed|ing)?\b",
    "digest": r"(?<!\.)\bdigests?\b(?!\()",
    "told": r"\btold\b",
    "to be had": r"\bto be had\b",
    "for ever": r"\bfor ever\b(?!y)",
    "come to rest": r"\b(?:come|came|comes) to rest\b",
    "mend": r"\bmend(?:s|ed|ing)?\b",
    "nobody": r"\bnobody\b|\bwhoever\b",
}
"""What a reader never meets, by the word's name in the glossary."""

STILL_THERE: dict[str, set[str]] = {
    "hexavit/evaluation": {"judge"},  # the old name of a function
}
"""Words that a package or page still has; to shrink to nothing."""


def part_of(path: Path) -> str:
    """The package of a source file, or the page itself."""
    place = path.relative_to(ROOT)
    return "/".join(place.parts[1:3]) if place.parts[0] == "src" else place.as_posix()


def texts() -> dict[str, list[Path]]:
    """The files that people read, by package or page.

    STYLE.md quotes the words, `_deprecated.py` holds old names, and CHANGELOG.md is history.
    """
    found: dict[str, list[Path]] = {}
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "mkdocs.yml", *sorted((ROOT / "docs").rglob("*.md"))]
    for path in [*pages, *sorted((ROOT / "src").rglob("*.py"))]:
        if path.name not in {"STYLE.md", "_deprecated.py"}:
            found.setdefault(part_of(path), []).append(path)
    return found


@pytest.mark.parametrize("part", sorted(texts()))
def test_no_forbidden_word(part: str) -> None:
    found = []
    for path in texts()[part]:
        text = path.read_text(encoding="utf-8")
        for word, pattern in FORBIDDEN.items():
            if word not in STILL_THERE.get(part, ()):
                for match in re.finditer(pattern, text, re.IGNORECASE | re.MULTILINE):
                    line = text.count("\n", 0, match.start()) + 1
                    found.append(f"{path.relative_to(ROOT)}:{line}: {' '.join(match[0].split())!r}")
    assert not found, "\n".join(["words that docs/STYLE.md rules out:", *found])


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("put it on a shelf", "shelf"),
        ("it is refused", "refuse"),
        ("held-out accuracy", "held out"),
        ("settings of a training.", "a training"),
        ("a training that stopped", "a training"),
        ("a\ntraining of two epochs", "a training"),
        ("the digest of a file", "digest"),
    ],
)
def test_the_word_is_found(text: str, word: str) -> None:
    assert re.search(FORBIDDEN[word], text, re.IGNORECASE | re.MULTILINE)


@pytest.mark.parametrize(
    "text",
    [
        "a training run",
        "every training image",
        "hashlib.sha256(text).hexdigest()",
        "held_out",
        "for every epoch",
        "mushroom",
    ],
)
def test_ordinary_text_passes(text: str) -> None:
    assert not [word for word, pattern in FORBIDDEN.items() if re.search(pattern, text, re.IGNORECASE | re.MULTILINE)]
