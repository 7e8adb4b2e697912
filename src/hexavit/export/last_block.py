"""The last block of a graph, for a head that reads the extra tokens alone."""

from __future__ import annotations

import torch
from torch import nn

from hexavit.export.fast_modules import PartWrapper
from hexavit.network.backbone import Backbone
from hexavit.network.block import Block
from hexavit.parts.attention import ClassAttention, ConvProjection, GlobalAttention
from hexavit.parts.contract import Tokens
from hexavit.parts.feedforward import MLP
from hexavit.parts.heads import ClassTokenHead, TwoHeads
from hexavit.parts.residual import ExtraOnly, PreNorm


class ExtraQueries(PartWrapper):
    """Convolutional projection in which the extra tokens alone have queries.

    Shapes: as the part's; image tokens are unchanged.
    """

    part: ConvProjection

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + N, C) to the same."""
        extra = tokens.extra
        assert extra is not None  # `compute_extra_alone`
        return tokens.replace_extra(self.part.mix(extra, *self.part.keys_and_values(tokens)))


def compute_extra_alone(model: Backbone) -> None:
    """Let the last block compute the extra tokens alone, in place, if no other token of it reaches the output.

    The keys and values are of all tokens. The block then is one of CaiT's class-attention blocks (Touvron et al., ICCV
    2021, section 3). What it gives for image tokens is no longer what the model's block gives.
    """
    blocks = model.stage_modules[-1].typed_blocks
    if not blocks or not _reads_extra_alone(model.head) or model.stage_modules[-1].collects:
        return
    block = blocks[-1]
    residuals = {branch.kind: _extra_only(branch.residual, branch.kind) for branch in block.branches}
    attention = _asked_by_extra(block)
    if attention is None or None in residuals.values():
        return
    for branch in block.branches:
        setattr(block, f"{branch.name}_residual", residuals[branch.kind])
        if branch.kind == "attention":
            setattr(block, branch.name, attention)


def _reads_extra_alone(head: nn.Module) -> bool:
    """Whether a head's output depends on the extra tokens alone."""
    if type(head) is ClassTokenHead:
        return not head.mean and not head.unpooled
    return type(head) is TwoHeads and not head.unpooled


def _asked_by_extra(block: Block) -> nn.Module | None:
    """The block's attention with queries of the extra tokens alone; None if the block has other parts than these."""
    apart = block.parallel or block.reads or block.position is not None or block.lower is not None
    if apart or block.kinds != ("attention", "feedforward") or type(block.branches[1].part) is not MLP:
        return None
    part = block.branches[0].part
    if type(part) is ConvProjection:
        return ExtraQueries(part) if part.stride == 1 else None
    if type(part) is not GlobalAttention or part.position is not None or part.value_position is not None:
        return None
    with torch.device("meta"):
        twin = ClassAttention(part.dim, heads=part.heads, head_dim=part.head_dim)
    twin.scale, twin.proj = part.scale, part.proj
    weights = part.qkv.weight.chunk(3)
    biases = (None,) * 3 if part.qkv.bias is None else part.qkv.bias.chunk(3)
    # Copies: `torch.export.save` warns of weights that are parts of one storage.
    for linear, weight, bias in zip((twin.q, twin.k, twin.v), weights, biases, strict=True):
        linear.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        linear.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
    return twin.eval()


def _extra_only(residual: nn.Module, role: str) -> ExtraOnly | None:
    """A residual that computes what this one computes for the extra tokens; None for other kinds."""
    if type(residual) is not PreNorm or residual.batch or residual.before is not None or residual.skip is not None:
        return None
    twin = ExtraOnly(1, 1, 0.0, 0.0, role)
    twin.norm, twin.gamma, twin.after = residual.norm, residual.gamma, residual.after
    return twin.eval()
