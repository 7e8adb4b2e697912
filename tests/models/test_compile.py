"""Compilation with symbolic image sizes stays affordable: sizes in the graph are short expressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx

import hexavit

LONGEST = 80
"""Characters of a size. Every view of a map in windows made it longer before: 158 at 32 pixels, minutes at 64."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_nano", "swin_v2_nano", "twins_svt_nano", "cvt_nano"])
def test_sizes_do_not_grow_from_block_to_block(name: str) -> None:
    torch.compiler.reset()
    model = hexavit.create_model(name).eval()
    sizes: set[str] = set()

    def backend(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        values = [node.meta.get("example_value") for node in graph.graph.nodes]
        sizes.update(str(size) for value in values if isinstance(value, Tensor) for size in value.shape)
        return graph.forward

    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        out = torch.compile(model, dynamic=True, backend=backend, fullgraph=True)(images)
        assert torch.equal(out, model(images))
    assert any("//" in size for size in sizes), "image sizes are symbols"
    assert len(max(sizes, key=len)) <= LONGEST
