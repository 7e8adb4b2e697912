"""Fixtures for all tests."""

import pytest

from hexavit.parts import registry


@pytest.fixture
def shelves(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is taken off its shelf again."""
    monkeypatch.setattr(registry, "_SHELVES", {kind: dict(parts) for kind, parts in registry._SHELVES.items()})
