"""A local hub with its own cache."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants
from tests.hub.local_hub import Hub, serving

from hexavit.models import Weight, model_entry, registry
from hexavit.models.weights import Preprocessing

OWN = Weight(
    tag="digits",
    hub_id="someone/nano",
    img_size=48,
    num_classes=10,
    trained_on=("digits",),
    license="cc0-1.0",
    code_license="mit",
    preprocessing=Preprocessing((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "bilinear", 1.0, "squash"),
)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub that huggingface_hub uses instead of the real one."""
    with serving(tmp_path / "hub") as (running, url):
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield running


@pytest.fixture
def own_weight(monkeypatch: pytest.MonkeyPatch) -> Weight:
    """Published weights `cvt_nano.digits`, during one test."""
    entry = replace(model_entry("cvt_nano"), weights=(OWN,))
    monkeypatch.setitem(registry._MODELS, "cvt_nano", entry)
    return OWN
