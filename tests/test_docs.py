"""README.md and docs/: their Python runs, their paths exist, and generated pages are up to date."""

import importlib
import multiprocessing
import re
import runpy
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from tests.parity.test_reference import RECORDS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>.*)$")


def python_of(page: str) -> str:
    """The Python blocks of a page as one program, every line at the number that it has on the page.

    A block whose title says ``Not run: <reason>`` is left out.
    """
    program, indent, ticks, keep = [], 0, "", False
    for line in page.splitlines():
        fence = FENCE.match(line)
        if fence and not ticks:
            indent, ticks, info = len(fence["indent"]), fence["ticks"], fence["info"].strip()
            keep = info.split(" ")[0] == "python" and not re.search(r'title="Not run: \S', info)
            program.append("")
        elif fence and fence["ticks"] == ticks and not fence["info"].strip():
            ticks = ""
            program.append("")
        else:
            program.append(line[indent:] if ticks and keep else "")
    assert not ticks, "a fence is opened and never closed"
    return "\n".join(program)


def nav_pages(entries: list) -> list[str]:
    """The files that mkdocs.yml names in its nav, sections flattened."""
    pages = []
    for entry in entries:
        target = next(iter(entry.values())) if isinstance(entry, dict) else entry
        pages += nav_pages(target) if isinstance(target, list) else [target]
    return pages


# Each page runs in a process of its own, since it may register parts. Processes are forked from one that has imported
# PyTorch, which takes longer than most pages.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["torch", "torchvision", "hexavit.integrations.timm", "hexavit.parts"])
WITH_PYTHON = [page for page in PAGES if python_of(page.read_text(encoding="utf-8")).strip()]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = python_of(page.read_text(encoding="utf-8"))
    assert not program.splitlines()[0]  # the page's title, in whose place the output is redirected
    script, output = tmp_path / f"{page.stem}_md.py", tmp_path / "output.txt"
    script.write_text(f"import sys; sys.stdout = sys.stderr = open({str(output)!r}, 'w'){program}", encoding="utf-8")
    process = SERVER.Process(target=runpy.run_path, args=(str(script),), kwargs={"run_name": "__main__"})
    process.start()
    process.join()
    assert process.exitcode == 0, f"{page.relative_to(ROOT)}, same line numbers:\n{output.read_text()}"


def test_blocks_are_cut_at_their_own_lines() -> None:
    page = '# Title\n```python\na = 1\n```\n```python title="Not run: slow"\nb = 2\n```\n  ```python\n  c = a\n  ```\n'
    assert python_of(page) == "\n\na = 1\n\n\n\n\n\nc = a\n"


def test_every_page_is_in_the_nav() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = nav_pages(config["nav"])
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def test_files_that_the_packages_page_names_exist() -> None:
    page = (DOCS / "packages.md").read_text(encoding="utf-8")
    files = re.findall(r"\| `(\w+/[\w/]+\.py)` \|", page)
    assert len(files) > 5
    assert not [file for file in files if not (ROOT / "src" / "hexavit" / file).is_file()]


def test_every_dependency_has_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {**project["optional-dependencies"], "": project["dependencies"]}
    names = {re.match(r"[\w-]+", requirement)[0] for group in groups.values() for requirement in group} - {"hexavit"}
    page = (DOCS / "dependencies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|(?: `\w+` \|)? `([\w-]+)` \| \S", page, re.MULTILINE)
    assert sorted(rows) == sorted(names)


def test_the_recipe_that_is_explained_is_the_one_that_runs() -> None:
    recipe = (ROOT / "src" / "hexavit" / "recipes" / "digits.yaml").read_text(encoding="utf-8")
    assert f"```yaml\n{recipe}```" in (DOCS / "add-a-recipe.md").read_text(encoding="utf-8")


@pytest.fixture
def tables() -> Iterator[ModuleType]:
    sys.path.insert(0, str(DOCS))
    try:
        yield importlib.import_module("tables")
    finally:
        sys.path.remove(str(DOCS))


@pytest.mark.parametrize("page", ["parts.md", "gallery.md", "survey.md", "recipes.md"])
def test_generated_pages_are_what_their_command_writes(tables: ModuleType, page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == tables.PAGES[page](), "run `python docs/tables.py`"


def test_the_parity_page_has_every_record() -> None:
    lines = (DOCS / "parity.md").read_text(encoding="utf-8").splitlines()
    listed = {line.split(" | ")[1] for line in lines if line.startswith("| ")}
    records = {record["variant"] if "logits" in record else path.partition("/")[2] for path, record in RECORDS.items()}
    assert listed >= records


def test_the_readme_shows_the_gallery(tables: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == tables.with_gallery(readme), "run `python docs/tables.py`"
