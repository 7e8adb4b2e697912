"""Fixtures for all tests."""

import gc
from collections.abc import Iterator

import pytest
import torch

from hexavit.parts import registry


def pytest_collection_finish() -> None:
    """Keep the millions of objects of imports and of collection out of later garbage collections: 0.2 s in each."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def restored_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the parts that a test registers."""
    monkeypatch.setattr(registry, "_REGISTRIES", {kind: dict(parts) for kind, parts in registry._REGISTRIES.items()})


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For tiny models: threads that wait for one another cost more than they save, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
