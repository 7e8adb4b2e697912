"""A stage: tokens, extra tokens that enter, position, blocks, and a norm behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from hexavit.network.block import Block, out_size, run_block
from hexavit.network.feature_map import FeatureMap
from hexavit.parts.contract import Layout, PartModule, Size, Tokens, lower_names

CLASS_TOKENS = "class_tokens"
"""Carried where the head takes it: the extra tokens after every block so far (B, L, C)."""


class StageModule(nn.Module):
    """One stage of a model: tokens to tokens.

    Attributes:
        input_map: the image tokens that enter the first block, as a map (B, C, H, W), for hooks.
        output_map: the image tokens that leave the stage, as a map, for hooks.
        split: whether the blocks get image and extra tokens apart.
        grad_checkpointing: whether blocks are recomputed in the backward pass.
        out_dim: width of the tokens that leave it.
        layout: what its image tokens are.
        extra: number of extra tokens in its blocks, for the image size that it is built for.
        lower_dims: widths of the lower resolutions, which its tokens carry.
        lower: for each lower resolution, by its number, an `output_map` for hooks.
        collects: whether the extra tokens of every block are handed on to the head.
    """

    def __init__(
        self,
        tokens: nn.Module,
        class_token: nn.Parameter | None,
        position: nn.Module | None,
        blocks: Sequence[Block],
        shared: nn.ModuleDict | None,
        norm: nn.Module | None,
        *,
        out_dim: int,
        layout: Layout,
        extra: int,
        lower_dims: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.class_token = class_token
        self.position = position
        self.input_map = FeatureMap()
        self.blocks = nn.ModuleList(blocks)
        self.shared = shared
        self.norm = norm
        self.out_dim, self.layout, self.extra = out_dim, layout, extra
        self.output_map = FeatureMap()
        self.lower_dims = lower_dims
        self.lower = nn.ModuleDict(
            {str(r): nn.ModuleDict({"output_map": FeatureMap()}) for r in range(1, len(lower_dims) + 1)}
        )
        # A convolution would copy the slice behind joined extra tokens at every call.
        self.split = any(getattr(m, "reads_grid", False) for block in self.blocks for m in block.modules())
        self.grad_checkpointing = False
        self.collects = False

    def enter(self, tokens: Tokens) -> Tokens:
        """The stage's input to the tokens that its first block gets."""
        tokens = self.tokens(tokens)
        if self.class_token is not None:
            entering, held = self.class_token.expand(tokens.image.shape[0], -1, -1), tokens.extra
            tokens = tokens.replace_extra(entering if held is None else torch.cat((entering, held), dim=1))
        if self.position is not None:
            tokens = self.position(tokens if self.split else tokens.join())
        return self.input_map.on(tokens.split() if self.split else tokens.join())

    def run(self, block: nn.Module, tokens: Tokens) -> Tokens:
        """One block."""
        out = run_block(block, tokens, self.grad_checkpointing)
        return _with_class_tokens(out) if self.collects else out

    def forward(self, tokens: Tokens) -> Tokens:
        """The stage's input to its output."""
        tokens = self.enter(tokens)
        for block in self.blocks:
            tokens = self.run(block, tokens)
        return self.leave(tokens)

    def leave(self, tokens: Tokens) -> Tokens:
        """The last block's output to the stage's output."""
        tokens = self.output_map.on(tokens if self.norm is None else tokens.each(self.norm))
        lower: dict[str, Tensor] = {}
        for r, name in enumerate(lower_names(len(self.lower_dims)), 1):
            place = self.get_submodule(f"lower.{r}.output_map")
            assert isinstance(place, FeatureMap)
            lower[name] = place.on(Tokens.of_grid(tokens.carry[name])).grid
        return tokens.with_carry(**lower)

    def lower_tokens(self, tokens: Tokens) -> Iterator[tuple[str, Tokens]]:
        """Each lower resolution of tokens that leave the stage, with its name in `lower`."""
        for number, name in zip(self.lower, lower_names(len(self.lower_dims)), strict=True):
            yield number, Tokens.of_grid(tokens.carry[name])

    @property
    def typed_blocks(self) -> list[Block]:
        """The blocks, typed."""
        return list(self.blocks)  # type: ignore[arg-type]  # a ModuleList is untyped

    def out_size(self, size: Size) -> Size:
        """The grid that comes out for a grid that goes in."""
        *_, last = self._sizes(size)
        return last

    def set_size(self, size: Size, grid: Size, extra: int) -> Size:
        """Rebuild what depends on the grid.

        Args:
            size: the grid that goes in.
            grid: the last raster before the stage.
            extra: number of extra tokens that go in.

        Returns:
            The grid that comes out.
        """
        if isinstance(self.tokens, PartModule):
            self.tokens.set_size(size)
            if callable(set_grid := getattr(self.tokens, "set_grid", None)):
                set_grid(grid)
            extra = self.tokens.extra_out(extra, out_size(self.tokens, size))
        self.extra = extra + (0 if self.class_token is None else self.class_token.shape[1])
        sizes = self._sizes(size)
        size = next(sizes)
        if isinstance(self.position, PartModule):
            self.position.set_size(size)
        for block, after in zip(self.typed_blocks, sizes, strict=True):
            block.set_size(size)
            size = after
        return size

    def _sizes(self, size: Size) -> Iterator[Size]:
        """The grid of the tokens that enter the first block, then the grid behind each block."""
        size = out_size(self.tokens, size)
        yield size
        for block in self.blocks:
            size = out_size(block, size)
            yield size


def _with_class_tokens(tokens: Tokens) -> Tokens:
    held, extra = tokens.carry.get(CLASS_TOKENS), tokens.extra
    assert extra is not None  # the head brings them
    return tokens.with_carry(**{CLASS_TOKENS: extra if held is None else torch.cat((held, extra), dim=1)})
