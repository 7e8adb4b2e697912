"""The head in float32 where the other layers compute in 16 bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from hexavit.parts.contract import Tokens


def compute_in_float32(head: nn.Module) -> None:
    """Let a head compute in float32 inside autocast: its final norm, its classifiers, and therefore its logits."""
    # A partial of a bound method, unlike a closure, is copied with the head: the moving average has its own.
    head.forward = partial(_in_float32, head.forward)


def _in_float32(forward: Callable[[Tokens], Any], tokens: Tokens) -> Any:
    with torch.autocast(tokens.body.device.type, enabled=False):
        extra = None if tokens.extra_body is None else tokens.extra_body.float()
        return forward(Tokens(tokens.body.float(), tokens.size, extra, tokens.prefix, tokens.layout, tokens.carry))
