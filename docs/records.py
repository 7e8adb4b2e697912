"""What the tests compare with the records of parts and objectives, for `docs/tables.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from tests.parity.test_reference import RECORDS

TESTS = ("tests/parity/test_reference.py", "tests/parity/test_operators.py", "tests/training/objectives/test_losses.py")


@dataclass
class Compared:
    """The tests that read a record, and what they compare with it.

    Attributes:
        tests: path and name.
        difference: largest difference of a tensor, of its largest value; None if no test compares tensors.
    """

    tests: list[str] = field(default_factory=list)
    difference: float | None = None


class _Read(dict[str, Any]):
    """Records by path, and which were read."""

    def __init__(self, records: Mapping[str, Any], paths: set[str]) -> None:
        super().__init__(records)
        self.paths = paths

    def __getitem__(self, path: str) -> Any:
        self.paths.add(path)
        return super().__getitem__(path)


class _Watch:
    """A plugin of pytest that notes, for each test that passes, the records it reads and how far tensors differ."""

    def __init__(self) -> None:
        self.found: dict[str, Compared] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Function) -> Iterator[None]:
        paths, differences = set[str](), list[float]()
        compare = torch.testing.assert_close

        def assert_close(actual: torch.Tensor, expected: torch.Tensor, **options: Any) -> None:
            compare(actual, expected, **options)
            differences.append(((actual - expected).abs().max() / expected.abs().max()).item())

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.testing, "assert_close", assert_close)
            patch.setattr(item.module, "RECORDS", _Read(item.module.RECORDS, paths))
            yield
        for path in paths:
            known = self.found.setdefault(path, Compared())
            before = [] if known.difference is None else [known.difference]
            known.difference = max([*before, *differences], default=None)
            test = item.nodeid.partition("[")[0]
            known.tests += [test] if test not in known.tests else []


def compared_parts() -> dict[str, Compared]:
    """By path, the records of parts and objectives: those that are not of whole models.

    Raises:
        RuntimeError: a test fails.
    """
    watch = _Watch()
    options = ["-q", "--no-header", "-p", "no:cacheprovider", "-k", "not outputs and not every"]
    if pytest.main([*TESTS, *options], plugins=[watch]):
        raise RuntimeError(f"a test of {', '.join(TESTS)} fails")
    return {path: compared for path, compared in watch.found.items() if "logits" not in RECORDS[path]}
