"""Fixtures for all tests."""

import gc
import os
from collections.abc import Iterator

import pytest
import torch

from hexavit.parts import registry


def pytest_collection_finish() -> None:
    """Keep the millions of objects of imports and of collection out of later garbage collections: 0.2 s in each."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Models that are exported behind the scenes go to a folder of this session."""
    before = os.environ.get("HEXAVIT_CACHE")
    os.environ["HEXAVIT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["HEXAVIT_CACHE"]
    else:
        os.environ["HEXAVIT_CACHE"] = before


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
