"""Imports run downwards, `import hexavit` loads PyTorch alone, and dependencies are declared."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import hexavit

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "hexavit"

PUBLIC = "hexavit"  # what src/hexavit/__init__.py gives
PACKAGES = (  # from the ground up, as in docs/packages.md
    "errors",
    "files",
    "processes",
    "duration",
    "run_paths",
    "parts",
    "architecture",
    "network",
    "models",
    "profiling",
    "checkpoints",
    "hub",
    "factory",
    "integrations",
    "images",
    "export",
    PUBLIC,
    "runs",
    "inference",
    "explain",
    "data",
    "evaluation",
    "teachers",
    "training",
    "benchmarking",
    "studies",
    "app",
    "cli",
)
# Files beside the packages that belong to one of them.
PACKAGE_OF_FILE = {"__init__": PUBLIC, "_deprecated": "errors", "__main__": "cli"}
# Packages that are imported under another name than they are installed by.
IMPORTED_AS = {"lightning-fabric": "lightning_fabric", "scikit-learn": "sklearn", "pillow": "PIL", "pyyaml": "yaml"}


def package_of(path: Path) -> str:
    """The package in which a file of the source stands."""
    first = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    return PACKAGE_OF_FILE.get(first, first)


def imports_of(path: Path, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything that a file imports, at its top and inside functions."""
    package = ["hexavit", *path.relative_to(SOURCE).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from hexavit import parts` names a package, `from hexavit.parts import x` lies in one already.
            yield from ((node.lineno, f"{module}.{alias.name}" if module == PUBLIC else module) for alias in node.names)


def package_imported(name: str) -> str:
    """The package that a dotted name starting with ``hexavit`` lies in."""
    below = [*name.split("."), ""][1]
    package = PACKAGE_OF_FILE.get(below, below)
    return package if package in PACKAGES else PUBLIC


SOURCE_FILES = sorted(SOURCE.rglob("*.py"))
IMPORTS = [
    (path, line, name)
    for path in SOURCE_FILES
    for line, name in imports_of(path, ast.parse(path.read_text(encoding="utf-8"), path))
]


def test_every_file_stands_in_a_package() -> None:
    strangers = {package_of(path) for path in SOURCE_FILES} - set(PACKAGES)
    assert not strangers, (
        f"add {sorted(strangers)} to PACKAGES here and to docs/packages.md, each at its height, or to PACKAGE_OF_FILE"
    )


def test_a_package_imports_only_from_below() -> None:
    height = {package: index for index, package in enumerate(PACKAGES)}
    upward = [
        f"{path.relative_to(ROOT)}:{line}: {package_of(path)} imports {name}"
        for path, line, name in IMPORTS
        if name.split(".")[0] == "hexavit" and height[package_imported(name)] > height.get(package_of(path), -1)
    ]
    assert not upward, "\n".join(["imports that run up:", *upward])


IN_TRAINING = (
    "config",
    "recipes",
    "auto_config",
    "limits",
    "objectives",
    "loop",
    "setup",
    "trainer",
    "lr_finder",
    "demo",
)
"""The modules and packages of ``training``, from the bottom up."""


def test_imports_inside_training_run_downward() -> None:
    height = {f"hexavit.training.{name}": index for index, name in enumerate(IN_TRAINING)}
    found = {
        path.relative_to(SOURCE / "training").parts[0].removesuffix(".py")
        for path in SOURCE_FILES
        if path.is_relative_to(SOURCE / "training")
    }
    assert found == {*IN_TRAINING, "__init__"}
    upward = []
    for path, line, name in IMPORTS:
        if path.is_relative_to(SOURCE / "training") and name.startswith("hexavit.training"):
            own = path.relative_to(SOURCE / "training").parts[0].removesuffix(".py")
            below = ".".join(name.split(".")[:3])
            if own != "__init__" and height.get(below, len(height)) > height[f"hexavit.training.{own}"]:
                upward.append(f"{path.relative_to(ROOT)}:{line}: imports {name}")
    assert not upward, "\n".join(["imports that run upward:", *upward])


@pytest.mark.parametrize(
    ("file", "line", "package"),
    [
        ("parts/attention/window.py", "from hexavit.models import cvt", "models"),
        ("parts/attention/window.py", "from ...training.data import digits", "training"),
        ("parts/attention/window.py", "from ..contract import Tokens", "parts"),
        ("network/backbone.py", "from .. import models", "models"),
        ("network/backbone.py", "from ..architecture import Stage", "architecture"),
        ("network/backbone.py", "from hexavit import create_model", PUBLIC),
        ("network/backbone.py", "from hexavit.architecture.editing import override", "architecture"),
        ("network/backbone.py", "import hexavit.cli.show", "cli"),
    ],
)
def test_each_form_of_import_is_understood(file: str, line: str, package: str) -> None:
    ((_, name),) = imports_of(SOURCE / file, ast.parse(line))
    assert package_imported(name) == package


def test_the_page_lists_the_same_packages() -> None:
    page = (ROOT / "docs" / "packages.md").read_text(encoding="utf-8")
    assert tuple(reversed(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))) == PACKAGES


EXTRAS = ("studies", "app")
"""Groups of optional dependencies whose packages are imported by name, inside functions."""


def test_outside_packages_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    required = [*project["dependencies"], *(each for name in EXTRAS for each in extras[name])]
    names = [re.match(r"[\w-]+", requirement)[0] for requirement in required]
    known = {IMPORTED_AS.get(name, name) for name in names} | {"hexavit", *sys.stdlib_module_names}
    undeclared = [
        f"{path.relative_to(ROOT)}:{line}: {name}" for path, line, name in IMPORTS if name.split(".")[0] not in known
    ]
    assert not undeclared, "\n".join(["not among the dependencies of pyproject.toml:", *undeclared])


def test_import_hexavit_loads_a_package_on_first_use() -> None:
    program = "import sys, hexavit, hexavit.cli, hexavit.errors; print('torch' in sys.modules, len(dir(hexavit)) > 20)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"
    assert set(hexavit._PACKAGE_OF) | {"parts"} == set(hexavit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hexavit.nothing


def test_import_hexavit_loads_torch_alone() -> None:
    program = """
import json, sys
import torch
before = {name.split(".")[0] for name in sys.modules}
import hexavit
for name in hexavit.__all__:
    getattr(hexavit, name)
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules} - before - set(sys.stdlib_module_names))))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["hexavit"]
