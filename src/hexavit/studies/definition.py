"""A study as data: variants of one training run, the seeds, and what the paper reports; read from YAML."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hexavit.errors import HexavitError, nearest
from hexavit.training.config import checked_value, settings

FILES = Path(__file__).parent / "files"
"""The studies that come with the package."""


class StudyError(HexavitError):
    """A study is not defined correctly, or its results do not belong together."""


@dataclass(frozen=True)
class Cell:
    """One variant of a study.

    Attributes:
        name: shown in the report, such as `stride_kv=2`.
        edits: of the architecture, as `PATH=VALUE`, after those of the study.
        settings: of `hexavit train` that differ from the study's.
    """

    name: str
    edits: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Test:
    """One evaluation of a trained cell: at the size of training, or at another one without fine-tuning.

    Attributes:
        name: shown in the report.
        img_size: height and width in pixels; None for those of training.
        edits: of the trained architecture, such as a larger window; position tables are resized.
    """

    name: str
    img_size: tuple[int, int] | None = None
    edits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """The paper's figures for the cells.

    Attributes:
        metric: what they are, such as `ImageNet top-1 in %`.
        source: paper and table.
        rows: the figure of each cell that the paper has.
        margin: largest difference, in the units of the figures, that the paper calls none.
    """

    metric: str
    source: str
    rows: Mapping[str, float]
    margin: float = 0.0


@dataclass(frozen=True)
class Study:
    """Variants of one training run, which are trained with the same seeds and compared on the same test images.

    Attributes:
        name: identifies the study; letters, digits, `-`, `_` and `.`.
        settings: of `hexavit train`, common to all cells; `model` and `data` are required.
        cells: the variants.
        base: name of the cell with which the others are compared.
        seeds: each cell is trained once with each.
        part: split of the data on which the cells are compared.
        tests: the evaluations.
        title: the question.
        differs: what is different from the paper.
        time: how long it takes, and where that was measured.
        full_size: name of the published model whose exact costs are compared under the same edits.
        published: the paper's figures.
    """

    name: str
    settings: Mapping[str, Any]
    cells: tuple[Cell, ...]
    base: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    part: str = "test"
    tests: tuple[Test, ...] = (Test("as trained"),)
    title: str = ""
    differs: str = ""
    time: str = ""
    full_size: str | None = None
    published: Published | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise StudyError(f"the name of a study has letters, digits, '-', '_' and '.', not {self.name!r}")
        missing = [name for name in ("model", "data") if name not in self.settings]
        if missing:
            raise StudyError(f"{self.name}: the settings of a study have {' and '.join(missing)}")
        for kind, each in (("cell", self.cells), ("test", self.tests)):
            names = [one.name for one in each]
            if not names:
                raise StudyError(f"{self.name}: a study has at least one {kind}")
            if twice := {name for name in names if names.count(name) > 1}:
                raise StudyError(f"{self.name}: two {kind}s have the name {min(twice)!r}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise StudyError(f"{self.name}: the seeds are different whole numbers, at least one, not {self.seeds}")
        known = [cell.name for cell in self.cells]
        for name in (*filter(None, [self.base]), *(self.published.rows if self.published else ())):
            if name not in known:
                raise StudyError(f"{self.name}: there is no cell {name!r}: {nearest(name, known)}")
        if not self.base:
            object.__setattr__(self, "base", known[0])

    def cell(self, name: str) -> Cell:
        """The cell of a name."""
        return next(cell for cell in self.cells if cell.name == name)

    def train_settings(self, cell: Cell, seed: int) -> dict[str, Any]:
        """The settings of one run."""
        overrides = (*self.settings.get("overrides", ()), *cell.settings.get("overrides", ()), *cell.edits)
        return {**self.settings, **cell.settings, "overrides": overrides, "seed": seed}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], name: str) -> Study:
        """A study from the content of its YAML file.

        Raises:
            StudyError: an entry is unknown or has the wrong type.
        """
        return _Reader(name).study(values)

    @classmethod
    def read(cls, path: str | Path) -> Study:
        """Read a YAML file, or a study that comes with the package by its name.

        Raises:
            StudyError: there is no such file or study, or it is not valid.
        """
        place = Path(path)
        ready = {file.stem: file for file in sorted(FILES.glob("*.yaml"))}
        if str(path) in ready and not place.exists():
            place = ready[str(path)]
        try:
            values = yaml.safe_load(place.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            hint = "" if place.suffix else f"; {nearest(str(path), ready)}"
            raise StudyError(f"{path}: this study cannot be read ({reason}){hint}") from error
        except yaml.YAMLError as error:
            raise StudyError(f"{path}: this study is not YAML ({' '.join(str(error).split())})") from error
        return cls.from_mapping(values, place.stem)

    def as_mapping(self) -> dict[str, Any]:
        """The content of a YAML file that defines the same study."""
        variants = {cell.name: {"edits": list(cell.edits), "settings": _plain(cell.settings)} for cell in self.cells}
        found: dict[str, Any] = {
            "name": self.name,
            "title": self.title,
            "differs": self.differs,
            "time": self.time,
            "settings": _plain(self.settings),
            "variants": variants,
            "base": self.base,
            "seeds": list(self.seeds),
            "part": self.part,
            "tests": {
                test.name: {
                    "img_size": None if test.img_size is None else list(test.img_size),
                    "edits": list(test.edits),
                }
                for test in self.tests
            },
            "full_size": self.full_size,
        }
        if self.published is not None:
            found["published"] = {
                "metric": self.published.metric,
                "source": self.published.source,
                "rows": dict(self.published.rows),
                "margin": self.published.margin,
            }
        return found

    def to_yaml(self) -> str:
        """The study as YAML."""
        return yaml.safe_dump(self.as_mapping(), sort_keys=False, allow_unicode=True)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def crossed(axes: Mapping[str, Sequence[Any]]) -> tuple[Cell, ...]:
    """Cells of all combinations of values.

    Args:
        axes: values by the name of a setting of `hexavit train`, or by a path of the architecture.
    """
    cells = []
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        edits = tuple(f"{path}={_written(value)}" for path, value in chosen.items() if path not in settings())
        own = {name: checked_value(name, value) for name, value in chosen.items() if name in settings()}
        names = [f"{path.rpartition('.')[2]}={_written(value)}" for path, value in chosen.items()]
        if len({path.rpartition(".")[2] for path in axes}) < len(axes):
            names = [f"{path}={_written(value)}" for path, value in chosen.items()]
        cells.append(Cell(", ".join(names), edits, own))
    return tuple(cells)


def sweep(edits: Sequence[str]) -> dict[str, list[str]]:
    """Axes from `PATH=VALUE,VALUE,...`; commas inside parentheses belong to a value."""
    axes: dict[str, list[str]] = {}
    for edit in edits:
        path, sign, text = edit.partition("=")
        if not sign:
            raise StudyError(f"--set takes PATH=VALUE or PATH=VALUE,VALUE,..., not {edit!r}")
        values, depth = [""], 0
        for letter in text:
            depth += (letter in "([{") - (letter in ")]}")
            if letter == "," and depth == 0:
                values.append("")
            else:
                values[-1] += letter
        axes[path] = values
    return axes


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


class _Reader:
    """Reads the content of a YAML file; every error names the study and the entry."""

    ENTRIES = (
        "name", "title", "differs", "time", "settings", "axes", "variants", "base", "seeds", "part", "tests",
        "full_size", "published",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name

    def study(self, values: Any) -> Study:
        self._entries(values, "a study", self.ENTRIES)
        name = self._text(values.get("name", self.name), "name")
        cells = self._cells(values)
        seeds = values.get("seeds", [0, 1, 2])
        if not isinstance(seeds, list) or not all(
            isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds
        ):
            raise self._error(f"seeds is a list of whole numbers, not {seeds!r}")
        texts = {key: self._text(values.get(key, ""), key) for key in ("title", "differs", "time", "base")}
        full_size = values.get("full_size")
        return Study(
            name=name,
            settings=self._settings(values.get("settings", {}), "settings"),
            cells=cells,
            seeds=tuple(seeds),
            part=self._text(values.get("part", "test"), "part"),
            tests=self._tests(values.get("tests")),
            full_size=None if full_size is None else self._text(full_size, "full_size"),
            published=self._published(values.get("published")),
            **texts,
        )

    def _cells(self, values: Mapping[str, Any]) -> tuple[Cell, ...]:
        if ("axes" in values) == ("variants" in values):
            raise self._error("a study has either axes or variants")
        if "axes" in values:
            axes = values["axes"]
            if (
                not isinstance(axes, dict)
                or not axes
                or not all(isinstance(each, list) and each for each in axes.values())
            ):
                raise self._error("axes maps a setting or a path to a list of values")
            try:
                return crossed(axes)
            except HexavitError as error:
                raise self._error(str(error)) from error
        variants = values["variants"]
        if not isinstance(variants, dict) or not variants:
            raise self._error("variants maps a name to a list of edits, PATH=VALUE")
        return tuple(self._cell(str(name), given) for name, given in variants.items())

    def _cell(self, name: str, given: Any) -> Cell:
        if given is None or isinstance(given, list):
            return Cell(name, self._edits(given or [], name))
        self._entries(given, f"the variant {name!r}", ("edits", "settings"))
        return Cell(name, self._edits(given.get("edits", []), name), self._settings(given.get("settings", {}), name))

    def _tests(self, given: Any) -> tuple[Test, ...]:
        if given is None:
            return (Test("as trained"),)
        if isinstance(given, list):
            given = {str(size): {"img_size": size} for size in given}
        if not isinstance(given, dict):
            raise self._error("tests is a list of image sizes, or maps names to img_size and edits")
        found = []
        for name, options in given.items():
            self._entries(options, f"the test {name!r}", ("img_size", "edits"))
            size = options.get("img_size")
            size = None if size is None else self._settings({"img_size": size}, f"the test {name!r}")["img_size"]
            found.append(Test(str(name), size, self._edits(options.get("edits", []), str(name))))
        return tuple(found)

    def _published(self, given: Any) -> Published | None:
        if given is None:
            return None
        self._entries(given, "published", ("metric", "source", "rows", "margin"))
        rows = given.get("rows", {})
        margin = given.get("margin", 0.0)
        if not isinstance(rows, dict) or not all(
            isinstance(number, int | float) for number in (*rows.values(), margin)
        ):
            raise self._error("rows of published maps cells to numbers, and margin is a number")
        metric, source = (self._text(given.get(key, ""), f"{key} of published") for key in ("metric", "source"))
        return Published(metric, source, {str(name): float(value) for name, value in rows.items()}, float(margin))

    def _settings(self, given: Any, where: str) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise self._error(f"{where}: settings maps names of settings of `hexavit train` to values")
        if "seed" in given:
            raise self._error(f"{where}: the seeds of a study are in its entry seeds, not a setting")
        try:
            return {name: checked_value(name, value) for name, value in given.items()}
        except HexavitError as error:
            raise self._error(f"{where}: {error}") from error

    def _edits(self, given: Any, where: str) -> tuple[str, ...]:
        if not isinstance(given, list) or not all(isinstance(edit, str) and "=" in edit for edit in given):
            raise self._error(f"{where}: edits are a list of PATH=VALUE, not {given!r}")
        return tuple(given)

    def _text(self, given: Any, where: str) -> str:
        if not isinstance(given, str):
            raise self._error(f"{where} is text, not {given!r}")
        return given

    def _entries(self, given: Any, where: str, known: Sequence[str]) -> None:
        if not isinstance(given, dict):
            raise self._error(f"{where} is a mapping, not {given!r}")
        for name in given:
            if name not in known:
                raise self._error(f"{where} has no entry {name!r}: {nearest(str(name), known)}")

    def _error(self, text: str) -> StudyError:
        return StudyError(f"{self.name}: {text}")
